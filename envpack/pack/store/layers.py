"""The layers of a store: their files as they travel, and their folders as they were unpacked, each made once.

```
 blobs/DIGEST.tar.zst     the layer file, as it is exported and sent
 layers/DIGEST/           its content, read-only; beside it DIGEST.json, the entry list
 locks/DIGEST.lock        held while one process makes either; the others wait and find it there
 tmp/NAME/, NAME.lock     work in progress; renamed when it is whole, swept when its owner is gone
```
Everything appears by one rename within the store's file system, so nobody ever sees half of it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EDQUOT, ENOSPC, EPERM, EROFS
from pathlib import Path

from envpack.errors import LayerMissingError, PackFormatError, StoreError
from envpack.pack.layer.reader import ChunkStream, LayerReader, Readable
from envpack.pack.layer.writer import Source, WrittenLayer, write_layer
from envpack.pack.manifest import LayerRef
from envpack.pack.store.locks import locked, sweep, temporary_folder
from envpack.pack.store.sharing import make_folder, share_tree
from envpack.pack.store.syncing import settle, settle_file
from envpack.pack.store.uses import Uses

_log = logging.getLogger(__name__)

_NO_ROOM = "no room left"
_NO_QUOTA = "quota used up"
_SPACE = (_NO_ROOM, _NO_QUOTA)
_REASONS = {ENOSPC: _NO_ROOM, EDQUOT: _NO_QUOTA, EACCES: "no permission", EPERM: "no permission", EROFS: "read-only"}


@contextmanager
def store_errors(folder: Path, what: str = "store") -> Iterator[None]:
    """Turn what the disk refuses into an error that names the folder and the remedy."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, "cannot write")
        hint = "free some, or name another one" if reason in _SPACE else "name another one"
        if what == "store":
            hint += " with ENVPACK_STORE"
        raise StoreError(f"{reason} in {what} {str(folder)!r}: {error}", hint) from error


class LayerFolder:
    """The part of a store that holds layers.

    Args:
        root: the store.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._blobs = root / "blobs"
        self._layers = root / "layers"
        self._locks = root / "locks"
        self._tmp = root / "tmp"
        self.uses = Uses(root)

    def blob_path(self, digest: str) -> Path:
        """Return where the layer file is, or would be."""
        return self._blobs / f"{digest}.tar.zst"

    def unpacked_path(self, digest: str) -> Path:
        """Return where the unpacked layer is, or would be."""
        return self._layers / digest

    def has_blob(self, digest: str) -> bool:
        """Tell whether the layer file is there."""
        return os.path.exists(self.blob_path(digest))

    def digests(self) -> list[str]:
        """Return all layers that are there as a file or unpacked."""
        blobs = {name.removesuffix(".tar.zst") for name in _names(self._blobs)}
        unpacked = {name for name in _names(self._layers) if not name.endswith(".json")}
        return sorted(blobs | unpacked)

    def require_blob(self, ref: LayerRef) -> Path:
        """Return the layer file.

        Raises:
            LayerMissingError: it is not there.
        """
        file = self.blob_path(ref.digest)
        if not file.exists():
            raise LayerMissingError(
                f"layer {ref} ({ref.digest[:12]}) is not in store {str(self._root)!r}",
                "pack again, or unpack the file that holds it",
            )
        return file

    def write(self, sources: Iterable[Source], *, case_matters: bool = False) -> WrittenLayer:
        """Build a layer file; one that is there already stays as it is."""
        with self.work() as folder:
            with open(folder / "blob", "w+b") as blob, open(folder / "scratch", "w+b") as scratch:
                written = write_layer(sources, blob, scratch, case_matters=case_matters)
            # Held before it is looked for: one that is there now must not go before it is made use of.
            self.uses.hold(written.digest, files=True)
            self._keep_blob(folder / "blob", written.digest)
        return written

    def receive(self, digest: str, chunks: Iterable[bytes], source: str, ref: LayerRef | None) -> None:
        """Take a layer file in: kept, verified and unpacked while it arrives."""
        self.uses.hold(digest)
        if self.has_blob(digest):
            return
        with self.making(digest):
            if self.has_blob(digest):
                return
            with self.work() as folder:
                with open(folder / "blob", "wb") as blob:
                    self._unpack(ChunkStream(chunks, blob), digest, source, ref, folder)
                self._keep_blob(folder / "blob", digest)

    def unpack(self, ref: LayerRef) -> Path:
        """Return the folder of the unpacked layer, made now if it is not there.

        Raises:
            LayerMissingError: there is no file to unpack it from.
            PackFormatError: the file is damaged; it is removed, so that the layer can be fetched or built again.
        """
        target = self.unpacked_path(ref.digest)
        self.uses.hold(ref.digest)
        if target.exists():
            self.uses.touch(ref.digest)
            return target
        with self.making(ref.digest):
            if target.exists():
                return target
            with open(self.require_blob(ref), "rb", buffering=0) as stream, self.work() as folder:
                try:
                    self._unpack(stream, ref.digest, stream.name, ref, folder)
                except PackFormatError:
                    with suppress(OSError):  # in a store that cannot be written the damaged file stays; say what it is
                        self.blob_path(ref.digest).unlink()
                    raise
        return target

    def listing(self, digest: str) -> bytes:
        """Return the entry list of an unpacked layer."""
        return (self._layers / f"{digest}.json").read_bytes()

    @contextmanager
    def work(self) -> Iterator[Path]:
        """Make a temporary folder in the store; those that dead owners left are removed first."""
        with store_errors(self._root):
            for folder in (self._blobs, self._layers, self._locks, self._tmp):
                make_folder(folder)
            sweep(self._tmp)
            with temporary_folder(self._tmp) as folder:
                yield folder

    @contextmanager
    def making(self, name: str) -> Iterator[None]:
        """Be the only one who makes the thing of that name."""
        with store_errors(self._root):
            make_folder(self._locks)
            with locked(self._locks / f"{name}.lock"):
                yield

    def _unpack(self, stream: Readable, digest: str, source: str, ref: LayerRef | None, folder: Path) -> None:
        content = folder / "layer"
        content.mkdir(0o755)
        descriptor = os.open(content, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            reader = LayerReader(stream, digest, source, ref)
            reader.extract(descriptor, read_only=True)
        finally:
            os.close(descriptor)
        (folder / "list").write_bytes(reader.listing)
        os.chmod(folder / "list", 0o444)
        share_tree(content, self._root)
        # A name that reaches the disk before its content would be a layer of empty files after a power failure.
        settle(folder)
        # The list first: whoever sees the folder must find it. A layer that is there already stays.
        os.rename(folder / "list", self._layers / f"{digest}.json")
        if not self.unpacked_path(digest).exists():
            os.rename(content, self.unpacked_path(digest))
            _log.info("unpacked layer %s", digest)

    def _keep_blob(self, file: Path, digest: str) -> None:
        if not self.has_blob(digest):
            os.chmod(file, 0o444)
            settle_file(file)
            os.rename(file, self.blob_path(digest))
        self.uses.touch(digest)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
