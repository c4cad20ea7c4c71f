"""The thread of a context process that listens while a call runs, and the calls that it may take away. Standard
library only.

    host ──control pipe──▶ this thread: take back what has not begun, end the child of a call
    host dies ──▶ end of the pipe ──▶ everything in the process group is killed

Guarantees: a call is either begun or given back, never both; when the host disappears, the process and its group end
at once, even while a call holds the interpreter, where the kernel can signal the end of a pipe.
"""

from __future__ import annotations

import _thread
import os
from _signal import SIGKILL  # type: ignore[import-not-found]
from collections import deque
from collections.abc import Callable
from typing import Any

from envpack_executor.process.frames import COMMAND, END_CALL, TAKE_BACK


class Backlog:
    """The calls of the batch that runs, from whose end calls may be taken while its begin is worked on.

    Taking from either end of a deque is one step of the interpreter: so no lock is needed for each call.
    """

    def __init__(self) -> None:
        self._calls: deque[Any] = deque()
        self._end = 0
        self._dropped_until = 0
        self._changing = _thread.allocate_lock()

    def begin(self, first: int, calls: list[Any]) -> deque[Any]:
        """Return the calls of a batch that has been read; none if they were taken back before.

        Args:
            first: number of the first of them.
            calls: the batch.
        """
        with self._changing:
            if first < self._dropped_until:
                return deque()
            self._calls = found = deque(calls)
            self._end = first + len(found)
            return found

    def take_back(self, until: int) -> int:
        """Drop the calls with numbers below `until` that have not begun; return the number of the first of them.

        Numbers from there on, up to `until`, were dropped now or earlier; it is `until` where nothing was left.
        """
        with self._changing:
            if self._end > until:
                return until  # asked before these were sent, and all that was meant has begun
            first = max(self._end, self._dropped_until)
            self._dropped_until = until
            try:
                while True:
                    self._calls.pop()
                    self._end -= 1
                    first = self._end
            except IndexError:
                return first


def listen(descriptor: int, take_back: Callable[[int], None], end_call: Callable[[int], None]) -> None:
    """Do what the host commands, until it is gone; then kill the process group.

    Args:
        descriptor: the reading end of the control pipe.
        take_back: told the number below which calls are taken back.
        end_call: told the number of the call whose child must end.
    """
    try:
        while command := os.read(descriptor, COMMAND.size):
            kind, number = COMMAND.unpack(command)
            if kind == TAKE_BACK:
                take_back(number)
            elif kind == END_CALL:
                end_call(number)
    finally:
        os.killpg(os.getpgid(0), SIGKILL)


def die_with(lifeline: int, group: int) -> None:
    """Have the kernel kill a process group when the other end of a pipe, to which nobody writes, is closed.

    That needs no thread and no turn of the interpreter, and it also meets what outlives this process in its group.

    Args:
        lifeline: the reading end of the pipe.
        group: the process group; that of this process.
    """
    import fcntl

    # Who is told belongs to the open file, which a fork shares: so each process group opens its own.
    own = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(own, fcntl.F_SETOWN, -group)
    fcntl.fcntl(own, fcntl.F_SETSIG, SIGKILL)
    fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    try:
        if not os.read(own, 1):
            os.killpg(group, SIGKILL)  # it was closed before anybody was told
    except BlockingIOError:
        pass  # it is open
