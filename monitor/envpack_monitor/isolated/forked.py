"""The bracket of everything that a forked child does, for little more than a reading of `getrusage`.

The kernel's marks begin at the fork: the peak of the child is what it has resident then, its times and its bytes are
nothing. So nothing need be reset, and only the end is read. Ordinary brackets inside it reset the peak; the first of
them hands over what it was.

What the child touches is copied, page by page, and that is most of what an isolated call costs. So the child only takes
the readings, and the caller makes figures of them.
"""

from __future__ import annotations

import _thread
import os
import time
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

from envpack_monitor.calls.counters import here

Readings = tuple[float, tuple[Any, ...], tuple[Any, ...], tuple[Any, ...], int, bytes]
"""Wall seconds, `getrusage` before, after and of children, the peak that inner brackets know of in KiB, and the text of
`/proc/self/io`."""


class ForkedBracket:
    """Takes the readings of the call of a forked child that does nothing else."""

    is_odd = is_shared = False
    inner_kib = peak_kib = 0

    def start(self) -> None:
        """Begin; right after the fork, before any other bracket."""
        self._process_id = os.getpid()
        self.thread = _thread.get_ident()
        here.outermost = self
        self._own = getrusage(RUSAGE_SELF)
        self._wall = time.perf_counter()

    def stop(self) -> Readings:
        """End, and return the readings; `figures` makes fields of `Usage` of them."""
        wall_s = time.perf_counter() - self._wall
        own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        inner_kib, process = 0, here.process
        if process is not None and process.pid == self._process_id:
            process.running.remove(self)
            inner_kib = max(process.peak_kib(own[2]), self.inner_kib)
        here.outermost = None
        return wall_s, tuple(self._own), tuple(own), tuple(children), inner_kib, _io()


def figures(readings: Readings) -> dict[str, Any]:
    """Return fields of `Usage`, as `Bracket.stop` does, except when it started."""
    wall_s, before, own, children, inner_kib, io = readings
    had_children = bool(children[6])
    # A child begins with a copy of this process; what is above that was its own.
    peak_kib = max(inner_kib or own[2], children[2] if had_children else 0)
    found = {
        "wall_s": wall_s,
        "cpu_user_s": own[0] - before[0] + children[0],
        "cpu_system_s": own[1] - before[1] + children[1],
        "memory_before_bytes": before[2] * 1024,
        "peak_memory_bytes": peak_kib * 1024,
        "voluntary_switches": own[14] - before[14] + children[14],
        "involuntary_switches": own[15] - before[15] + children[15],
        "minor_faults": own[6] - before[6] + children[6],
        "major_faults": own[7] - before[7] + children[7],
        "quality": "exact; peak_memory_bytes: lower bound" if had_children else "exact",
    }
    words = io.split(None, 4)
    if len(words) > 3:
        found |= {"bytes_read": int(words[1]), "bytes_written": int(words[3])}
    return found


def _io() -> bytes:
    try:
        fd = os.open("/proc/self/io", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 512)
    finally:
        os.close(fd)
