"""Layers that are whole, in a store: what a bulk server gives away of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

_DIGEST = re.compile("[0-9a-f]{64}")


class StoredLayer:
    """The file of a layer, open; one that is removed meanwhile can be read to its end.

    Args:
        file: where it is.

    Raises:
        OSError: it is not there.
    """

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self._size = os.fstat(self._descriptor).st_size

    @classmethod
    def of(cls, store_folder: str | None, digest: str) -> StoredLayer:
        """Open a layer of a store.

        Args:
            store_folder: the store; None for the default.
            digest: of the layer; it comes from others and may be anything.

        Raises:
            OSError: the store has it not.
        """
        from envpack.pack import Store

        if not _DIGEST.fullmatch(digest):
            raise FileNotFoundError(f"no layer has the digest {digest!r}")
        return cls(Store(store_folder).blob(digest))

    def await_piece(self, offset: int, length: int) -> int:
        """Return the size of the whole, at once: all of it is here."""
        return self._size

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of it."""
        return os.pread(self._descriptor, size, offset)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
