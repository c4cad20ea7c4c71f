"""What context processes print, read by their host where the manager wants to know it.

A process writes records (`process.frames.PRINTED`) into a pipe, each at once, also from its fork children. What a call
has printed is told before its result: the host reads the pipe before it passes a frame on.
"""

from __future__ import annotations

import codecs
import os

from envpack_executor.process.frames import PRINTED

_READ_BYTES = 1 << 16
_STREAMS = {1: "stdout", 2: "stderr"}
Piece = tuple[str, int, str]


class Prints:
    """The pipe of one process.

    Args:
        pipe: its reading end, non-blocking; belongs to this object.
    """

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self._bytes = bytearray()
        # A character may lie across two records.
        self._decoders = {number: codecs.getincrementaldecoder("utf-8")("backslashreplace") for number in _STREAMS}

    def read(self) -> list[Piece]:
        """Return what has been printed since the last time, as (stream, number of the call, text)."""
        try:
            while data := os.read(self.pipe, _READ_BYTES):
                self._bytes += data
        except BlockingIOError:
            pass
        return self._cut()

    def close(self) -> None:
        """Close the pipe; who prints then is not kept from it."""
        os.close(self.pipe)

    def _cut(self) -> list[Piece]:
        pieces: list[Piece] = []
        start = 0
        while len(self._bytes) - start >= PRINTED.size:
            stream, number, size = PRINTED.unpack_from(self._bytes, start)
            end = start + PRINTED.size + size
            if end > len(self._bytes):
                break
            text = self._decoders[stream].decode(bytes(self._bytes[start + PRINTED.size : end]))
            start = end
            name = _STREAMS[stream]
            if pieces and pieces[-1][:2] == (name, number):
                text = pieces.pop()[2] + text
            pieces.append((name, number, text))
        del self._bytes[:start]
        return pieces
