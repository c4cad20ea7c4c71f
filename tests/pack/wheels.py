"""Wheels made by the tests, in a folder that stands for an index: nothing is asked of a network."""

from __future__ import annotations

import base64
import hashlib
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import zstandard

AARCH64, X86_64 = 183, 62


def machine_code(machine: int) -> bytes:
    """Return an ELF header of a shared library for a machine, with nothing behind it."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    return ident + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0)


def make_wheel(
    folder: Path, name: str, version: str, tag: str, files: dict[str, str | bytes], requires: tuple[str, ...] = ()
) -> None:
    """Write a wheel of that tag into a folder."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    everything = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: {tag}\n",
    }
    rows = [f"{path},sha256={_digest(content)},{len(content)}\n" for path, content in everything.items()]
    everything[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"])
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        for path, content in everything.items():
            archive.writestr(path, content)


def members(file: Path) -> dict[str, bytes]:
    """Return the content of the files in a pack."""
    decompressor = zstandard.ZstdDecompressor()
    with file.open("rb") as packed, decompressor.stream_reader(packed, read_across_frames=True) as stream:
        whole = io.BytesIO(stream.read())
    with tarfile.open(fileobj=whole) as archive:
        files = ((member.name, archive.extractfile(member)) for member in archive)
        return {name: content.read() for name, content in files if content is not None}


def _digest(content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
