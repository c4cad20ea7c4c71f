"""A pack into a folder of its own, without a store: it may be moved, changed and deleted like any folder.

The path of the folder stands in some files of conda packages. Then the folder gets a program of its own,
`bin/envpack-relocate`, which writes the new path after a move and needs nothing but the folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from envpack.errors import UsageError
from envpack.pack.formats.opening import is_foreign, open_environment
from envpack.pack.layer.claims import Claims
from envpack.pack.layer.entries import Placeholder
from envpack.pack.layer.placeholders import NOTE, PROGRAM, RELOCATE, placed_note, program_source
from envpack.pack.layer.reader import LayerReader
from envpack.pack.manifest import LayerRef, Manifest
from envpack.pack.sources.scripts import RELOCATABLE_HEAD
from envpack.pack.store.environment import (
    check_base,
    check_prefix,
    check_whole,
    find_executable,
    write_prefix,
    write_skeleton,
)
from envpack.pack.store.layers import store_errors
from envpack.pack.store.locks import sweep, temporary_folder

_RELOCATE_BODY = f"""import os, runpy, sys
root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
runpy.run_path(os.path.join(root, {PROGRAM!r}), run_name="__main__")
"""


def unpack(file: str | os.PathLike[str], folder: str | os.PathLike[str], *, python: str | None = None) -> Manifest:
    """Unpack a pack into a folder; it is there whole or not at all.

    Args:
        file: the pack, a plain archive, or an archive by conda-pack or venv-pack (see `import_environment`).
        folder: the folder to make; it must not exist, or be empty.
        python: interpreter of this machine that it stands on; by default one that fits is looked for.

    Returns:
        What was unpacked.

    Raises:
        UsageError: there is no such file, or the folder holds something already.
        PackFormatError: the file holds no environment, is truncated or damaged.
        DistributionFilesError: the files of a distribution in an archive of another tool cannot be told.
        IncompatiblePackError: this machine has no interpreter that fits.
        PrefixTooLongError: the path of the folder does not fit into files of conda packages.
        LayerConflictError: two layers hold the same path with different content.
        StoreError: the folder cannot be written.
    """
    target = Path(os.path.abspath(folder))
    if is_foreign(file):
        return _unpack_foreign(file, target, python)
    with ExitStack() as stack:
        opened = open_environment(stack, file)
        return _unpack_layers(opened.manifest, opened.readers(), target, python)


def _unpack_foreign(file: str | os.PathLike[str], target: Path, python: str | None) -> Manifest:
    """Unpack an archive of another tool by way of a store beside the folder, which goes again."""
    # Only here: what builds layers is not needed for what is built.
    from envpack.pack.importing import import_environment
    from envpack.pack.store.store import Store

    with _beside(target) as work:
        store = Store(work / "store")
        try:
            manifest = import_environment(file, store, python=python)
            blobs = [(ref, store.blob(ref.digest)) for ref in manifest.layers]
            return _unpack_layers(manifest, _readers(blobs), target, None if manifest.has_interpreter else python)
        finally:
            store.release()


def _readers(blobs: Iterable[tuple[LayerRef, Path]]) -> Iterator[tuple[LayerRef, LayerReader]]:
    for ref, blob in blobs:
        with open(blob, "rb") as stream:
            yield ref, LayerReader(stream, ref.digest, str(blob), ref)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Make a temporary folder beside one that is to be made, on the same file system."""
    _check_free(target)
    with store_errors(target.parent, "folder"):
        sweep(target.parent, f".{target.name}.")
        with temporary_folder(target.parent, f".{target.name}.") as work:
            yield work


def _unpack_layers(
    manifest: Manifest, readers: Iterator[tuple[LayerRef, LayerReader]], target: Path, python: str | None
) -> Manifest:
    base = check_base(manifest, find_executable(manifest, python))
    with _beside(target) as work:
        made = work / "environment"
        made.mkdir(0o755)
        write_skeleton(made, manifest, base)
        claims = Claims(manifest, (RELOCATE,))
        placed = _extract_layers(readers, made, claims, str(target))
        check_whole(made, manifest)
        _write_place(made, placed, str(target), str(work / "placed"))
        # An empty folder gives way, anything else that came meanwhile does not.
        os.rename(made, target)
    return manifest


# A file into which the folder is written, and the digest that it has without.
_Placed = tuple[Placeholder, str]


def _extract_layers(
    readers: Iterator[tuple[LayerRef, LayerReader]], folder: Path, claims: Claims, prefix: str
) -> list[_Placed]:
    placed: list[_Placed] = []
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for ref, reader in readers:
            check_prefix(ref, reader.placeholders, prefix)
            reader.extract(descriptor, read_only=False, wanted=partial(claims.claim, layer=ref))
            digests = {entry.path: entry.sha256 for entry in reader.entries} if reader.placeholders else {}
            placed += [(placeholder, digests[placeholder.path]) for placeholder in reader.placeholders]
    finally:
        os.close(descriptor)
    # Two layers may share a file.
    return list({placeholder.path: (placeholder, digest) for placeholder, digest in placed}.values())


def _write_place(folder: Path, placed: list[_Placed], prefix: str, beside: str) -> None:
    """Write the place of the environment into its files, and the program that does it again after a move."""
    if not placed:
        return
    for placeholder, _ in placed:
        file = str(folder / placeholder.path)
        write_prefix(file, beside, placeholder, prefix)
        os.chmod(beside, os.stat(file).st_mode & 0o777)
        os.replace(beside, file)
    (folder / NOTE).parent.mkdir(exist_ok=True)
    files = [(*placeholder, digest) for placeholder, digest in placed]
    (folder / NOTE).write_text(placed_note(files, prefix))
    (folder / PROGRAM).write_bytes(program_source())
    script = folder / RELOCATE
    script.write_bytes(RELOCATABLE_HEAD + _RELOCATE_BODY.encode())
    script.chmod(0o755)


def _check_free(target: Path) -> None:
    if not target.parent.is_dir():
        raise UsageError(f"no such folder: {str(target.parent)!r}", "make it first")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UsageError(f"not a folder: {str(target)!r}")
    if target.is_dir() and any(target.iterdir()):
        raise UsageError(f"folder is not empty: {str(target)!r}", "name one that does not exist")
