"""The bytes between whoever hosts a context process and the process itself: length-prefixed frames.

A frame is 8 bytes of length (little endian, of the body), 1 byte of kind, and the body. Bodies are pickles, because
both ends trust each other: the socket pair is inherited, nobody else can write to it. Standard library only.
"""

from __future__ import annotations

import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pickle

HEADER = struct.Struct("<QB")

# To the context process.
PATHS = 0  # the module search path of the host, for an environment that is inherited from it
BOOT = 1  # what to set up: initializer, set-up function
FUNCTION = 2  # a function that calls will name by its number
CALLS = 3  # a batch of calls, in order
BLOBS = 4  # places of blobs that the next frames need, and names of those that none will need any more
IMPORTS = 5  # modules that the first call will import, before BOOT
# From the context process.
READY = 16  # the set-up is done, with its duration
SETUP_FAILED = 17  # it failed, with the exception
RESULTS = 18  # outcomes of calls, in the order of the calls
ANSWERS = 21  # outcomes of calls in any order, with their numbers
RETURNED = 19  # the calls from this number on were not begun and never will be: they were taken back
FILE = 20  # name and size of a large result; the descriptor of its memory file comes with the first byte

# Beside the frames there is a pipe for what cannot wait behind them: commands of one size, written at once.
COMMAND = struct.Struct("<BQ")
TAKE_BACK = 1  # drop the calls with a number below this one that have not begun; RETURNED tells which they were
END_CALL = 2  # kill the child in which the call of this number runs

# Beyond this a value travels in a memory file: making and mapping one costs some 50 microseconds, as much as sending
# a few hundred kilobytes through a socket, which two processes copy and a queue has to hold.
LARGE_BYTES = 1 << 20
# Types whose pickles hold all their bytes, large or not.
WITHOUT_BUFFERS = frozenset({bytes, bytearray, str})
VALUES_BYTES = b"_envpack_values"
VALUES = "_envpack_values"  # under this name pickles find `process.kept`, in a client and in a context process


class LargeBuffer(Exception):
    """Told by `small_buffers_alone`: there is a buffer that should not become part of a pickle."""


def small_buffers_alone(buffer: pickle.PickleBuffer) -> bool:
    """Take small buffers into the pickle, as a `buffer_callback`.

    Raises:
        LargeBuffer: this one is large.
    """
    if buffer.raw().nbytes >= LARGE_BYTES:
        raise LargeBuffer
    return True


def encode(kind: int, body: bytes) -> bytes:
    """Return the frame of `kind` with `body`."""
    return HEADER.pack(len(body), kind) + body


# What calls print, where somebody wants to know: stream (1 or 2), number of the call, length; then the bytes. A record
# is written at once, so that those of several processes do not mix: the kernel promises it up to `PIPE_BUF`.
PRINTED = struct.Struct("<BQH")
PRINTED_BYTES = 4096 - PRINTED.size


class FrameBuffer:
    """Cuts a stream of bytes into frames, however the bytes arrive."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take `data` and return the frames that are complete now, as (kind, body)."""
        buffer = self._bytes
        buffer += data
        frames = []
        start = 0
        while len(buffer) - start >= HEADER.size:
            length, kind = HEADER.unpack_from(buffer, start)
            end = start + HEADER.size + length
            if len(buffer) < end:
                break
            frames.append((kind, bytes(memoryview(buffer)[start + HEADER.size : end])))
            start = end
        if start:
            del buffer[:start]
        return frames


def read_exactly(descriptor: int, size: int) -> bytes | bytearray | None:
    """Read `size` bytes from a blocking descriptor; None when the other end has closed."""
    data = os.read(descriptor, size) if size else b""
    if len(data) == size:
        return data
    if not data:
        return None
    whole = bytearray(size)
    view = memoryview(whole)
    view[: len(data)] = data
    filled = len(data)
    while filled < size:
        count = os.readv(descriptor, [view[filled:]])
        if not count:
            return None
        filled += count
    return whole


def read_frame(descriptor: int) -> tuple[int, bytes | bytearray] | None:
    """Read one frame from a blocking descriptor as (kind, body); None when the other end has closed."""
    header = read_exactly(descriptor, HEADER.size)
    if header is None:
        return None
    length, kind = HEADER.unpack(header)
    body = read_exactly(descriptor, length)
    return None if body is None else (kind, body)


def write_frame(descriptor: int, kind: int, body: bytes) -> None:
    """Write one frame to a blocking descriptor."""
    header = HEADER.pack(len(body), kind)
    written = os.writev(descriptor, (header, body))
    total = len(header) + len(body)
    if written == total:
        return
    rest = memoryview(header + body) if written < len(header) else memoryview(body)
    done = written if written < len(header) else written - len(header)
    while done < len(rest):
        done += os.write(descriptor, rest[done:])
