"""What calls print, kept beside its way to wherever it goes, so that a failure can show it. Standard library only.

    print, logging, warnings, tracebacks ──▶ sys.stdout, sys.stderr ──▶ as ever
                                                   └──▶ the last 64 kB of each, with the number of the call
    stderr, and the traceback of a fatal signal ───────▶ a memory file, which the host reads when the process is lost

Where the client wants to see it, it goes through a pipe to the host instead of to wherever it would go.

A call that prints nothing costs nothing. What native code writes to the descriptors is not seen.
"""

from __future__ import annotations

import os
import sys
from _io import BufferedWriter, FileIO, TextIOWrapper
from _thread import get_ident
from collections import deque
from typing import Any

from envpack_executor.process.frames import PRINTED, PRINTED_BYTES

KEPT_BYTES = 1 << 16
# The memory file begins anew after so much; the host reads its end.
_FILE_BYTES = 1 << 20


class _Keeping(BufferedWriter):
    """A buffer that notes what is written; text comes here at once, so that it is known which call wrote it."""

    def __init__(self, descriptor: int, keeper: Keeper, file: int, pipe: int) -> None:
        super().__init__(FileIO(descriptor, "w", closefd=False))
        self._descriptor = descriptor
        self._keeper = keeper
        self._file = file
        self._pipe = pipe

    def write(self, data: Any) -> Any:
        self._keeper.note(bytes(data))
        if self._file >= 0:
            if os.fstat(self._file).st_size > _FILE_BYTES:
                os.ftruncate(self._file, 0)
            os.write(self._file, data)
        return super().write(data) if self._pipe < 0 else self._tell(bytes(data))

    def _tell(self, data: bytes) -> int:
        """Write to the host; it reads in its own time, so that who prints more than it reads waits."""
        number = self._keeper.number()
        for start in range(0, len(data), PRINTED_BYTES):
            piece = data[start : start + PRINTED_BYTES]
            try:
                os.write(self._pipe, PRINTED.pack(self._descriptor, number, len(piece)) + piece)
            except BrokenPipeError:
                break  # the host is gone, and with it whoever wanted to see this
        return len(data)


class Keeper:
    """Keeps the end of what was written to one stream, by call.

    Args:
        progress: the words that are shared with the host; they name the running call.
    """

    def __init__(self, progress: memoryview) -> None:
        self._progress = progress
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._size = 0

    def note(self, data: bytes) -> None:
        """Keep what was written now."""
        self._pieces.append((self.number(), data[-KEPT_BYTES:]))
        self._size += len(self._pieces[-1][1])
        while self._size > KEPT_BYTES:
            self._size -= len(self._pieces.popleft()[1])

    def of_this_call(self) -> str:
        """Return what the running call has written, as far as it is kept."""
        number = self.number()
        return b"".join(data for by, data in list(self._pieces) if by == number).decode("utf-8", "backslashreplace")

    def number(self) -> int:
        """Return the number of the call that runs in this thread."""
        return numbers.get(get_ident(), self._progress[0])


numbers: dict[int, int] = {}
"""Of the calls that run side by side, by their threads."""
_keepers: dict[str, Keeper] = {}


def keep(progress: memoryview, file: int, pipe: int) -> None:
    """Begin to keep what this process prints; what belongs to a lost process goes into the memory file as well, and
    everything into the pipe, unless that is -1.
    """
    for name, descriptor, copy in (("stdout", 1, -1), ("stderr", 2, file)):
        stream = getattr(sys, name)
        if stream is None:
            continue
        keeper = _keepers[name] = Keeper(progress)
        kept = TextIOWrapper(
            _Keeping(descriptor, keeper, copy, pipe),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=True,
        )
        setattr(sys, name, kept)
    import faulthandler

    faulthandler.enable(file)


def printed() -> str:
    """Return what the running call has printed, for the end of its traceback; empty if nothing."""
    found = [(name, keeper.of_this_call()) for name, keeper in _keepers.items()]
    return "".join(f"\n{name} of the call:\n{text.rstrip()}\n" for name, text in found if text)
