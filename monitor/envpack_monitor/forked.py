"""The bracket of everything that a forked child does, for little more than a reading of `getrusage`.

The kernel's marks begin at the fork: the peak of the child is what it has resident then, its times and its bytes are
nothing. So nothing need be reset, and only the end is read. Ordinary brackets inside it reset the peak; the first of
them hands over what it was.
"""

from __future__ import annotations

import os
import threading
import time
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

from envpack_monitor.counters import here


class ForkedBracket:
    """Measures the call of a forked child that does nothing else."""

    def start(self) -> None:
        """Begin; right after the fork, before any other bracket."""
        self._process_id = os.getpid()
        self.thread = threading.get_ident()
        self.is_odd = self.is_shared = False
        self.inner_kib = self.peak_kib = 0
        here.outermost = self
        self._started_at = time.time()
        self._own = getrusage(RUSAGE_SELF)
        self._wall = time.perf_counter()

    def stop(self) -> dict[str, Any]:
        """End, and return fields of `Usage`, as `Bracket.stop` does."""
        wall_s = time.perf_counter() - self._wall
        own, before, children = getrusage(RUSAGE_SELF), self._own, getrusage(RUSAGE_CHILDREN)
        figures = {
            "started_at": self._started_at,
            "wall_s": wall_s,
            "cpu_user_s": own[0] - before[0] + children[0],
            "cpu_system_s": own[1] - before[1] + children[1],
            "memory_before_bytes": before[2] * 1024,
            "voluntary_switches": own[14] - before[14] + children[14],
            "involuntary_switches": own[15] - before[15] + children[15],
            "minor_faults": own[6] - before[6] + children[6],
            "major_faults": own[7] - before[7] + children[7],
        }
        return figures | self._peak(own[2], children[2], bool(children[6])) | _io()

    def _peak(self, own_kib: int, children_kib: int, had_children: bool) -> dict[str, Any]:
        process = here.process
        if process is not None and process.pid == self._process_id:
            process.running.remove(self)
            own_kib = max(process.peak_kib(own_kib), self.inner_kib)
        here.outermost = None
        # A child begins with a copy of this process; what is above that was its own.
        peak_kib = max(own_kib, children_kib) if had_children else own_kib
        exceptions = ["peak_memory_bytes: lower bound"] if had_children else []
        return {"peak_memory_bytes": peak_kib * 1024, "quality": "; ".join(["exact", *exceptions])}


def _io() -> dict[str, Any]:
    try:
        fd = os.open("/proc/self/io", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        words = os.read(fd, 512).split(None, 4)
    finally:
        os.close(fd)
    return {"bytes_read": int(words[1]), "bytes_written": int(words[3])}
