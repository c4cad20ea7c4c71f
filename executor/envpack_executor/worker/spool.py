"""A layer on its way into the store of a worker, which others may read already as far as it has come."""

from __future__ import annotations

import os
import tempfile
import threading
from typing import IO

from envpack_executor.bulk.wire import LAYER_PIECE_BYTES

_MOMENT_S = 0.5


class Spool:
    """A file without a name, and which pieces of it are here and right. For any thread; freed with its last user.

    Attributes:
        total: size of the whole in bytes; -1 while no piece is here.
        may_be_wrong: some of it has come from others than the manager.
    """

    _descriptor = -1

    def __init__(self) -> None:
        with tempfile.TemporaryFile(prefix="envpack-layer-") as file:
            self._descriptor = os.dup(file.fileno())
        self.total = -1
        self.may_be_wrong = False
        self._here: set[int] = set()
        self._is_over = False
        self._changed = threading.Condition()

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def file(self) -> IO[bytes]:
        """Return the file, to be read from its beginning by one reader."""
        return os.fdopen(os.dup(self._descriptor), "rb")

    # --- for those who bring it

    def write(self, offset: int, data: memoryview) -> None:
        """Take bytes that are not known to be right yet."""
        while data:
            count = os.pwrite(self._descriptor, data, offset)
            data, offset = data[count:], offset + count

    def has(self, offset: int) -> bool:
        """Tell whether the piece that begins there is here."""
        with self._changed:
            return offset in self._here

    def note(self, offset: int, length: int, total: int) -> None:
        """Note that a piece is here and right."""
        with self._changed:
            self.total = total
            self._here.add(offset)
            self._changed.notify_all()

    def end(self) -> None:
        """Let nobody wait for a piece any more: no others will come."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    # --- for others: `bulk.server.Layer`

    def await_piece(self, offset: int, length: int) -> int | None:
        """Return the size of the whole when these bytes are here; None if they are not within a moment.

        Raises:
            OSError: no other pieces will come.
        """
        with self._changed:
            is_here = self._changed.wait_for(lambda: self._is_over or self._covers(offset, length), _MOMENT_S)
            if is_here and not self._covers(offset, length):
                raise FileNotFoundError("no other pieces of the layer will come here")
            return self.total if is_here else None

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes that are here."""
        return os.pread(self._descriptor, size, offset)

    def close(self) -> None:
        """Do nothing: it is freed with its last user."""

    def _covers(self, offset: int, length: int) -> bool:
        if self.total < 0:
            return False
        first = offset - offset % LAYER_PIECE_BYTES
        return all(start in self._here for start in range(first, min(offset + length, self.total), LAYER_PIECE_BYTES))
