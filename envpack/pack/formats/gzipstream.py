"""Gzip (RFC 1952) for archives of gigabytes: compressed by several threads, decoded piece by piece.

What is written is a row of members, as the format allows, each holding one block. So the blocks can be compressed side
by side, and the bytes do not depend on how many threads did it. No name and no time is in it.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

from envpack.errors import PackFormatError

# Larger blocks compress no better by 0.1 %, smaller ones worse.
_BLOCK_BYTES = 1 << 22
# Level 6 takes half as long again for 4 % (docs/explanation/layers.md).
_LEVEL = 4
_GZIP = 31
_READ_BYTES = 1 << 18


class GzipWriter:
    """Compresses what it is given into a file, by as many threads as there are processors.

    Args:
        out: receives the compressed bytes.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._block = bytearray()
        self._threads = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, "envpack-gzip")
        self._pending: deque[Future[bytes]] = deque()

    def __enter__(self) -> GzipWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            if kind is None:
                self._hand_on(self._block)
                self._drain(0)
        finally:
            self._pool.shutdown(cancel_futures=True)

    def write(self, data: bytes | memoryview) -> None:
        """Take some bytes."""
        self._block += data
        while len(self._block) >= _BLOCK_BYTES:
            self._hand_on(self._block[:_BLOCK_BYTES])
            del self._block[:_BLOCK_BYTES]

    def _hand_on(self, block: bytearray) -> None:
        self._pending.append(self._pool.submit(_compressed, block))
        self._drain(2 * self._threads)

    def _drain(self, most: int) -> None:
        """Write what is compressed; no more than some blocks may wait, which bounds the memory."""
        while len(self._pending) > most:
            self._out.write(self._pending.popleft().result())


def _compressed(block: bytearray) -> bytes:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return compressor.compress(block) + compressor.flush()


class GzipReader:
    """Decodes a file of gzip members into buffers.

    Args:
        stream: the file.
        source: its path, for messages.
    """

    def __init__(self, stream: BinaryIO, source: str) -> None:
        self._stream = stream
        self._source = source
        self._pieces = self._decoded()
        self._rest = b""

    def readinto(self, view: memoryview) -> int:
        """Decode some bytes into a buffer and return how many; 0 at the end.

        Raises:
            PackFormatError: the file is damaged or cut short.
        """
        if not self._rest:
            self._rest = next(self._pieces, b"")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def truncated(self) -> PackFormatError:
        """Return the error for a file that ends too early."""
        return PackFormatError(f"archive {self._source!r} is truncated", "fetch it again")

    def _decoded(self) -> Iterator[bytes]:
        data = self._stream.read(_READ_BYTES)
        while data:
            decoder = zlib.decompressobj(_GZIP)
            while not decoder.eof:
                if not data:
                    raise self.truncated()
                yield from filter(None, [self._decode(decoder, data)])
                data = decoder.unconsumed_tail or decoder.unused_data or self._stream.read(_READ_BYTES)

    def _decode(self, decoder: zlib._Decompress, data: bytes) -> bytes:
        try:
            # Bounded: a hostile file is a thousand times larger unpacked.
            return decoder.decompress(data, _BLOCK_BYTES)
        except zlib.error as error:
            raise PackFormatError(f"archive {self._source!r} cannot be decoded: {error}", "fetch it again") from error
