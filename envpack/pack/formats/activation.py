"""What a plain archive has besides its layers, so that an environment is ready where there is nothing but a shell.

`bin/activate` and `bin/envpack-relocate`, the texts of which lie in `shell/`; for an environment that brings no
interpreter the names of one in `bin/`, of which the first run makes links; for packages of conda the list of the files
that hold the path of the environment. All of it follows from the manifest and the layers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from envpack.pack.layer.entries import EXECUTABLE, FILE, FOLDER, LINK, Entry, Listing
from envpack.pack.layer.placeholders import NOTE, PROGRAM, RELOCATE, placed_note, program_source
from envpack.pack.manifest import Manifest

ACTIVATE = "bin/activate"


class FrameFile(NamedTuple):
    """A file, folder or link with its content."""

    entry: Entry
    content: bytes = b""


def frame(manifest: Manifest, listings: Sequence[Listing]) -> list[FrameFile]:
    """Return what an archive of an environment has besides its layers.

    Args:
        manifest: the environment.
        listings: what each layer is.
    """
    made = [
        _file("pyvenv.cfg", f"include-system-site-packages = false\nenvpack = {manifest.id}\n".encode()),
        _file(ACTIVATE, _text("activate.sh")),
        _file(RELOCATE, _relocate(manifest), EXECUTABLE),
    ]
    placed = {
        placeholder.path: (*placeholder, entry.sha256)
        for listing in listings
        for placeholder in listing.placeholders
        for entry in listing.entries
        if entry.path == placeholder.path
    }
    if placed:
        made += [_file(PROGRAM, program_source()), _file(NOTE, placed_note(placed.values()).encode())]
    if not manifest.has_interpreter:
        site = f"lib/python{manifest.python}/site-packages"
        made += [FrameFile(Entry(site, FOLDER, 0, "", "")), FrameFile(Entry("lib64", LINK, 0, "", "lib"))]
        made.append(_file("bin/python", _text("python.sh"), EXECUTABLE))
        made += [
            FrameFile(Entry(f"bin/{name}", LINK, 0, "", "python")) for name in ("python3", f"python{manifest.python}")
        ]
    return sorted(made)


def _file(path: str, content: bytes, mode: int = FILE) -> FrameFile:
    return FrameFile(Entry(path, mode, len(content), hashlib.sha256(content).hexdigest(), ""), content)


def _text(name: str) -> bytes:
    return files("envpack.pack.formats").joinpath("shell", name).read_bytes()


def _relocate(manifest: Manifest) -> bytes:
    kind = "pypy" if manifest.implementation == "pypy" else "python"
    words = (manifest.implementation, manifest.python, manifest.abi, manifest.platform)
    values = {
        "NEEDED": "" if manifest.has_interpreter else " ".join(words),
        "VERSION": manifest.python,
        "NAMES": f"{kind}{manifest.python} {kind}3 {kind}",
        "ID": manifest.id,
    }
    text = _text("relocate.sh").decode()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text.encode()
