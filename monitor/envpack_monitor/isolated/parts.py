"""Reading what an isolated call sends: parts, each its length and its bytes, large ones into their place."""

from __future__ import annotations

import os

from envpack_monitor.isolated.inner import LENGTH

_CHUNK_BYTES = 1 << 16


class PartReader:
    """Takes parts from a descriptor that does not block.

    Args:
        fd: the end of a pipe.
        expected: how many parts there will be.

    Attributes:
        parts: those that are complete.
        expected: how many there will be.
    """

    def __init__(self, fd: int, expected: int) -> None:
        self.parts: list[bytes | bytearray] = []
        self.expected = expected
        self._fd = fd
        self._chunk = bytearray()
        self._large: bytearray | None = None
        self._filled = 0

    @property
    def is_complete(self) -> bool:
        """All parts have come."""
        return len(self.parts) >= self.expected

    def read(self) -> bool:
        """Take what has arrived; return whether more may come."""
        try:
            while not self.is_complete:
                if not (self._read_chunk() if self._large is None else self._read_into(self._large)):
                    return False
        except BlockingIOError:
            pass
        return True

    def _read_chunk(self) -> int:
        data = os.read(self._fd, _CHUNK_BYTES)
        self._chunk += data
        while len(self._chunk) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._chunk)
            end = LENGTH.size + length
            if len(self._chunk) < end:
                if length > _CHUNK_BYTES:
                    self._begin_large(length)
                break
            self.parts.append(self._chunk[LENGTH.size : end])
            del self._chunk[:end]
        return len(data)

    def _begin_large(self, length: int) -> None:
        have = len(self._chunk) - LENGTH.size
        self._large = bytearray(length)
        self._large[:have] = self._chunk[LENGTH.size :]
        self._filled = have
        self._chunk.clear()

    def _read_into(self, large: bytearray) -> int:
        with memoryview(large) as view, view[self._filled :] as room:
            count = os.readv(self._fd, [room])
        self._filled += count
        if self._filled == len(large):
            self.parts.append(large)
            self._large = None
        return count
