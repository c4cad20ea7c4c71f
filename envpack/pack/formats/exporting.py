"""An environment into one file, of the format that the name of the file asks for; it is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from envpack.errors import UsageError
from envpack.pack.formats.packfile import write_pack
from envpack.pack.formats.plainfile import write_plain
from envpack.pack.manifest import Manifest

_Writer = Callable[[BinaryIO, Manifest, Sequence[Path]], None]

_WRITERS: dict[str, _Writer] = {".tar.zst": write_pack, ".tar.gz": write_plain, ".tgz": write_plain}


def check_export(target: str | os.PathLike[str]) -> None:
    """Make sure that an export has a format and a folder, before there is any work.

    Raises:
        UsageError: it has not.
    """
    _writer(target)
    folder = Path(target).absolute().parent
    if not folder.is_dir():
        raise UsageError(f"no such folder: {str(folder)!r}", "make it first")


def export(target: Path, manifest: Manifest, blobs: Sequence[Path]) -> int:
    """Write an environment into a file and return its size in bytes.

    Args:
        target: the file; it is written beside it and renamed.
        manifest: the environment.
        blobs: the layer files, in the order of the manifest's layers.

    Raises:
        LayerConflictError: two layers hold the same path with different content.
        PackFormatError: a layer file is damaged.
    """
    write = _writer(target)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as out:
            write(out, manifest, blobs)
            out.flush()
            os.fsync(out.fileno())
            size = out.tell()
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return size


def _writer(target: str | os.PathLike[str]) -> _Writer:
    for suffix, writer in _WRITERS.items():
        if os.fspath(target).endswith(suffix):
            return writer
    raise UsageError(
        f"name of an export tells no format: {os.path.basename(target)!r}",
        "end it with .tar.zst (a pack) or .tar.gz (for tar alone)",
    )
