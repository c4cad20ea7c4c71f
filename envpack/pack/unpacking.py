"""A pack into a folder of its own, without a store: it may be moved, changed and deleted like any folder."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO

from envpack.errors import UsageError
from envpack.pack.environment import Claims, check_base, find_executable, write_skeleton
from envpack.pack.layers import store_errors
from envpack.pack.locks import sweep, temporary_folder
from envpack.pack.manifest import Manifest
from envpack.pack.packfile import PackIndex, layer_chunks, open_pack, pairs, read_end
from envpack.pack.reader import ChunkStream, LayerReader


def unpack(file: str | os.PathLike[str], folder: str | os.PathLike[str], *, python: str | None = None) -> Manifest:
    """Unpack a pack into a folder; it is there whole or not at all.

    Args:
        file: the pack.
        folder: the folder to make; it must not exist, or be empty.
        python: interpreter of this machine that it stands on; by default one that fits is looked for.

    Returns:
        What was unpacked.

    Raises:
        UsageError: there is no such file, or the folder holds something already.
        PackFormatError: the file is no pack, truncated or damaged.
        IncompatiblePackError: this machine has no interpreter that fits.
        LayerConflictError: two layers hold the same path with different content.
        StoreError: the folder cannot be written.
    """
    target = Path(os.path.abspath(folder))
    with ExitStack() as stack:
        stream, index = open_pack(stack, file)
        base = check_base(index.manifest, find_executable(index.manifest, python))
        _check_free(target)
        stack.enter_context(store_errors(target.parent, "folder"))
        sweep(target.parent, f".{target.name}.")
        work = stack.enter_context(temporary_folder(target.parent, f".{target.name}."))
        made = work / "environment"
        made.mkdir(0o755)
        claims = Claims(write_skeleton(made, index.manifest, base))
        _extract_layers(stream, index, made, claims, os.fspath(file))
        # An empty folder gives way, anything else that came meanwhile does not.
        os.rename(made, target)
    return index.manifest


def _extract_layers(stream: BinaryIO, index: PackIndex, folder: Path, claims: Claims, source: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for ref, size in pairs(index):
            chunks = ChunkStream(layer_chunks(stream, size, source))
            reader = LayerReader(chunks, ref.digest, source, ref)
            reader.extract(descriptor, read_only=False, wanted=partial(claims.claim, layer=ref))
        read_end(stream, source)
    finally:
        os.close(descriptor)


def _check_free(target: Path) -> None:
    if not target.parent.is_dir():
        raise UsageError(f"no such folder: {str(target.parent)!r}", "make it first")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UsageError(f"not a folder: {str(target)!r}")
    if target.is_dir() and any(target.iterdir()):
        raise UsageError(f"folder is not empty: {str(target)!r}", "name one that does not exist")
