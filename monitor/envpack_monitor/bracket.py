"""The bracket around one call of this process: wall, CPU, exact peak memory, bytes and faults, in microseconds.

Standard library only, and no import of the rest of the package: the text of this file is sent to worker processes
whose environment has nothing else.

How the peak is exact: the kernel keeps the largest resident memory of a process (`VmHWM`), and writing `5` to
`/proc/self/clear_refs` sets it back to what is resident now. Reset before the call, read after it, and no spike is too
short to be seen. Three things have to be right:

- The reset is for the whole process. So a bracket that starts inside another one first hands the peak so far to those
  that are running; the outer figures stay exact. Brackets of several *threads* that overlap see each other's memory and
  CPU: their figures are called upper bounds.
- Reading `VmHWM` from `/proc/self/status` costs as much as all the rest. `getrusage` returns the same number for free,
  except where the program that ran in this process *before exec* was larger (children of a fat parent). What that floor
  is gets measured once per process; only below it is `status` read.
- A descriptor of `/proc/self` belongs to the process that opened it. After a fork the child opens its own.
"""

from __future__ import annotations

import os
import threading
import time
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

_SLACK_KIB = 1024
"""The kernel counts resident pages per processor and adds up late; two readings of one state differ by this much."""

Figures = dict[str, float | int | str]


class Bracket:
    """Measures what this process uses between `start` and `stop`; may be used again and again, one at a time."""

    __slots__ = (
        "_before_kib",
        "_children",
        "_io",
        "_own",
        "_peak_kib",
        "_process",
        "_shared",
        "_started_at",
        "_thread",
        "_wall",
    )

    def start(self) -> None:
        """Begin. Brackets may nest, and may run in several threads."""
        process = _process_now()
        self._process = process
        self._thread = threading.get_ident()
        self._shared = False
        self._peak_kib = 0
        with process.lock:
            if process.running:
                process.hand_over(self)
            process.running.append(self)
            process.reset()
        self._started_at = time.time()
        self._own = getrusage(RUSAGE_SELF)
        self._before_kib = process.peak_kib(self._own[2])
        self._children = getrusage(RUSAGE_CHILDREN)
        self._io = process.read_io()
        self._wall = time.perf_counter()

    def stop(self) -> Figures:
        """End, and return the figures.

        Returns:
            Fields of `Usage`: `started_at`, `wall_s`, `cpu_user_s`, `cpu_system_s`, `memory_before_bytes`,
            `peak_memory_bytes`, `bytes_read`, `bytes_written`, `voluntary_switches`, `involuntary_switches`,
            `minor_faults`, `major_faults` and `quality`. Without those that /proc does not tell, and in a process that
            was forked in between without those that are not true of it.
        """
        wall_s = time.perf_counter() - self._wall
        process = self._process
        if process.pid != os.getpid():
            return {"started_at": self._started_at, "wall_s": wall_s, "quality": "exact"}
        own, own_before = getrusage(RUSAGE_SELF), self._own
        io, io_before = process.read_io(), self._io
        children, children_before = getrusage(RUSAGE_CHILDREN), self._children
        peak_kib = max(process.peak_kib(own[2]), self._peak_kib)
        with process.lock:
            process.running.remove(self)
        figures: Figures = {
            "started_at": self._started_at,
            "wall_s": wall_s,
            "cpu_user_s": own[0] - own_before[0] + children[0] - children_before[0],
            "cpu_system_s": own[1] - own_before[1] + children[1] - children_before[1],
            "memory_before_bytes": self._before_kib * 1024,
            "peak_memory_bytes": peak_kib * 1024,
            "voluntary_switches": own[14] - own_before[14] + children[14] - children_before[14],
            "involuntary_switches": own[15] - own_before[15] + children[15] - children_before[15],
            "minor_faults": own[6] - own_before[6] + children[6] - children_before[6],
            "major_faults": own[7] - own_before[7] + children[7] - children_before[7],
        }
        if io is not None and io_before is not None:
            # Reading the counters is itself counted, in the next reading.
            figures["bytes_read"] = io[0] - io_before[0] - io_before[2]
            figures["bytes_written"] = io[1] - io_before[1]
        figures["quality"] = self._quality(process, peak_kib, children[6] != children_before[6])
        return figures

    def _quality(self, process: _Process, peak_kib: int, had_children: bool) -> str:
        """Return one word for all figures, then exceptions as `; FIGURE: WORD`."""
        if self._shared:
            return "upper bound; wall_s: exact"
        if not process.can_reset and peak_kib <= self._before_kib:
            return "exact; peak_memory_bytes: upper bound; memory_before_bytes: upper bound"
        # The memory of children is not in this process's peak, and nobody can tell how much of it was there at once.
        return "exact; peak_memory_bytes: lower bound" if had_children else "exact"


class _Process:
    """The descriptors and the running brackets of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.running: list[Bracket] = []
        self._open()
        self.can_reset = True
        self.reset()
        self.floor_kib = self._find_floor()

    def reset(self) -> None:
        """Set the kernel's peak back to what is resident now, where this is allowed."""
        if self.can_reset:
            try:
                os.write(self._clear_refs, b"5")
            except OSError:
                self._reset_again()

    def _reset_again(self) -> None:
        try:
            # Perhaps the program has closed all descriptors, as daemons do.
            self._open()
            os.write(self._clear_refs, b"5")
        except OSError:
            # No /proc, or a kernel without this file: say less, go on.
            self.can_reset = False

    def _open(self) -> None:
        self._clear_refs = _open_high("/proc/self/clear_refs", os.O_WRONLY)
        self._status = _open_high("/proc/self/status", os.O_RDONLY)
        self._io = _open_high("/proc/self/io", os.O_RDONLY)

    def peak_kib(self, maxrss_kib: int) -> int:
        """Return the peak since the last reset, given what `getrusage` says."""
        if maxrss_kib > self.floor_kib:
            return maxrss_kib
        return self._read_hwm_kib() or maxrss_kib

    def hand_over(self, starting: Bracket) -> None:
        """Give the peak so far to the running brackets, because the one that starts is about to reset it."""
        peak_kib = self.peak_kib(getrusage(RUSAGE_SELF)[2])
        for bracket in self.running:
            bracket._peak_kib = max(bracket._peak_kib, peak_kib)
            if bracket._thread != starting._thread:
                bracket._shared = starting._shared = True

    def read_io(self) -> tuple[int, int, int] | None:
        """Return bytes read, bytes written, and how many bytes this reading itself adds to the first."""
        try:
            text = os.pread(self._io, 512, 0)
            # rchar: N, wchar: N, ...
            words = text.split(None, 4)
            return int(words[1]), int(words[3]), len(text)
        except (OSError, IndexError, ValueError):
            return None

    def _find_floor(self) -> int:
        """Return the value at or below which `ru_maxrss` may be that of the program before exec.

        Right after a reset both readings are the resident memory, unless the old program's peak lies above it. That
        it lies just below, within the slack, would be a coincidence with an error of the slack.
        """
        maxrss_kib, hwm_kib = getrusage(RUSAGE_SELF)[2], self._read_hwm_kib()
        if hwm_kib is None or maxrss_kib > hwm_kib + _SLACK_KIB:
            return maxrss_kib
        return maxrss_kib - _SLACK_KIB

    def _read_hwm_kib(self) -> int | None:
        try:
            text = os.pread(self._status, 4096, 0)
            start = text.index(b"VmHWM:") + 6
            return int(text[start : text.index(b"kB", start)])
        except (OSError, ValueError):
            return None


_process: _Process | None = None
outermost: Any = None
"""The bracket of all that a forked child does (`envpack_monitor.forked`), until the child has an ordinary one."""


def _process_now() -> _Process:
    global _process
    process = _process
    if process is None or process.pid != os.getpid():
        # What the parent had opened stays open in a forked child: to close a number that a daemon has closed and
        # opened again for something else would do more harm than three descriptors.
        so_far_kib = getrusage(RUSAGE_SELF)[2]
        process = _process = _Process()
        if outermost is not None and outermost._process_id == process.pid:
            outermost._peak_kib = so_far_kib
            process.running.append(outermost)
    return process


def _open_high(path: str, flags: int) -> int:
    """Return a descriptor with a high number, or -1.

    A daemon closes every descriptor that it does not know, and low numbers are given out again at once: what is written
    to `clear_refs` must not end up in a user's file.
    """
    import fcntl
    from resource import RLIMIT_NOFILE, getrlimit

    try:
        low = os.open(path, flags | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        return fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, max(0, min(getrlimit(RLIMIT_NOFILE)[0], 1024) - 64))
    except OSError:
        return os.dup(low)
    finally:
        os.close(low)
