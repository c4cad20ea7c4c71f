"""A mark that a process hands down to everything that it starts, and the end of all that bears it.

A daemon leaves its session, its parent and its process group; what it keeps is what the kernel copies at every fork:
its resource limits. `RLIMIT_LOCKS` has had no effect since Linux 2.6, anybody may lower its soft value, and
`/proc/PID/limits` shows it. So an isolated call lowers it, from infinity, to a number of its own. Where the process
above all others of a tree has died, and orphans can no longer be found below it, they are found by that number.

A call inside an isolated call shares the upper half of its mark with the outer one, so that the end of the outer one
finds what the inner one started.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from envpack_monitor.trees import tree

_RLIMIT_LOCKS = 10
_IS_MARK = 1 << 61
_LOW_BITS = 30
_DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True)
class Mark:
    """What the processes of one call bear.

    Args:
        number: the soft value of the unused resource limit.
        is_outermost: the caller bears no mark itself, so calls inside this one end with it.
    """

    number: int
    is_outermost: bool

    def put_on(self) -> None:
        """Let this process, and all that it starts from now on, bear the mark."""
        hard = resource.getrlimit(_RLIMIT_LOCKS)[1]
        if hard == resource.RLIM_INFINITY:
            resource.setrlimit(_RLIMIT_LOCKS, (self.number, hard))

    def bearers(self) -> Iterator[int]:
        """Yield the living processes that bear it."""
        for name in os.listdir("/proc"):
            if name.isdecimal() and self._is_on(int(name)) and tree.is_alive(int(name)):
                yield int(name)

    def end_bearers(self) -> int:
        """Kill all that bear it until none is left; return how many there were."""
        ended = 0
        deadline = time.monotonic() + _DEADLINE_S
        while (found := list(self.bearers())) and time.monotonic() < deadline:
            ended += sum(map(self._end, found))
        return ended

    def _end(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(pid)
            try:
                # Between being listed and being held here, its number may have gone to somebody else.
                if self._is_on(pid):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                    return True
            finally:
                os.close(fd)
        return False

    def _is_on(self, pid: int) -> bool:
        number = _number_on(pid)
        if self.is_outermost and number is not None:
            return number >> _LOW_BITS == self.number >> _LOW_BITS
        return number == self.number


def new_mark() -> Mark:
    """Return a mark that no other call has."""
    random = int.from_bytes(os.urandom(8), "little")
    low = random & ((1 << _LOW_BITS) - 1)
    own = resource.getrlimit(_RLIMIT_LOCKS)[0]
    if _is_mark(own):
        return Mark(own >> _LOW_BITS << _LOW_BITS | low, is_outermost=False)
    return Mark((random | _IS_MARK) & (2 * _IS_MARK - 1), is_outermost=True)


def _number_on(pid: int) -> int | None:
    """Return the mark of a process, or `None` if it bears none."""
    text = tree.read(f"/proc/{pid}/limits")
    at = text.find(b"Max file locks")
    words = text[at + 14 : at + 60].split()
    if at < 0 or not words or not words[0].isdigit():
        return None
    number = int(words[0])
    return number if _is_mark(number) else None


def _is_mark(number: int) -> bool:
    return number >> 61 == 1
