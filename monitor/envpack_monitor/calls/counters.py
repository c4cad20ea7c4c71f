"""What the kernel counts for this process, told apart: that of the calls, of the monitor itself, of other brackets.

Standard library only, like `envpack_monitor.calls.bracket`, whose other half this is. Guarantees:

- What is read and written here, and all that a `Background` thread uses, is taken off the figures of brackets.
- A reset of the peak is for the whole process, so it is handed over first to the bracket that runs.
- A descriptor of `/proc/self` belongs to the process that opened it. After a fork the child opens its own.
"""

from __future__ import annotations

# Not `threading`: where it is imported, each fork pays for its bookkeeping in the child, which is as much as the fork.
import _thread
import os
import time
from os import pread, write
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, RUSAGE_THREAD, getrusage
from time import perf_counter
from types import TracebackType
from typing import Any, Protocol

CHAIN_S = 30e-6
"""A bracket that starts so soon after another may go on from its reading of the counters."""
CALM = 8
"""So many brackets in which the counters stood still make a calm."""

_TRIES = 2
_SLACK_KIB = 1024
"""The kernel counts resident pages per processor and adds up late; two readings of one state differ by this much."""

NOISE = {
    "cpu_user_s": 0,
    "cpu_system_s": 1,
    "voluntary_switches": 14,
    "involuntary_switches": 15,
    "minor_faults": 6,
    "major_faults": 7,
}
"""What is taken off for background threads, by the position in what `getrusage` returns."""


class Sums(Protocol):
    """Who adds up many short calls, and can live with counters that are read after some of them (`Bracket.end`)."""

    def answer_for(self, bracket: Any) -> None:
        """Remember a bracket, of which somebody wants the figures, until the next reading."""

    def trust(self) -> None:
        """Note that nothing was counted meanwhile."""

    def distrust(self) -> None:
        """Note that something was counted meanwhile: between the calls, probably, but perhaps in one of them."""


class Running(Protocol):
    """What brackets tell each other."""

    thread: int
    is_odd: bool
    """There is more to say than differences of readings."""
    is_shared: bool
    """Another one, not inside it, ran at the same time."""
    inner_kib: int
    """The peak until the last reset since the start."""
    peak_kib: int


class Calm:
    """A time in which counters stood still, from one bracket to the next; whatever disturbs it puts an end to it."""

    __slots__ = ("sums", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.sums: Sums | None = None
        """Whose brackets have ended without reading the counters."""


class Background:
    """A thread's work that is none of the calls beside it: `with Background(): ...` takes it off their figures."""

    __slots__ = ("_clock", "_fd", "_io", "_process", "_usage")

    def __enter__(self) -> Background:
        self._process = process = here.process
        if process is None:
            # There was no bracket so far, so there is nothing to take anything off.
            return self
        self._clock = time.pthread_getcpuclockid(_thread.get_ident())
        self._fd = _open_or_none(f"/proc/self/task/{_thread.get_native_id()}/io")
        self._usage = getrusage(RUSAGE_THREAD)
        with process.lock:
            # First there, then read: who finds it there waits for the lock.
            process.backgrounds.append(self)
            process.disturb()
            self._io = _read_io(self._fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        with process.lock:
            process.disturb()
            read, written, self_read = self.moved()
            process.own_read += read + self_read
            process.own_written += written
            used = getrusage(RUSAGE_THREAD)
            process.noise = tuple(
                noise + used[at] - self._usage[at] for noise, at in zip(process.noise, NOISE.values(), strict=True)
            )
            process.backgrounds.remove(self)
        if self._fd is not None:
            os.close(self._fd)

    def moved(self) -> tuple[int, int, int]:
        """Return the bytes read and written so far, and how many bytes this reading itself has read."""
        now, before = _read_io(self._fd), self._io
        if now is None or before is None:
            return 0, 0, 0
        return now[0] - before[0], now[1] - before[1], now[2]

    def cpu_s(self) -> float:
        """Return the processor seconds used so far."""
        return time.clock_gettime(self._clock) - self._usage[0] - self._usage[1]


class Process:
    """The descriptors, counters and running brackets of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = _thread.allocate_lock()
        self.running: list[Running] = []
        self.backgrounds: list[Background] = []
        self.noise: tuple[float, ...] = (0.0, 0.0, 0, 0, 0, 0)
        self.own_read = self.own_written = 0
        self.calm: Calm | None = None
        self.unverified: Sums | None = None
        self._calm_brackets, self._calm_needed = 0, CALM
        self._open()
        self.can_reset = True
        self.reset()
        self.floor_kib, self._is_floor_known = 0, False
        self.peak_kib(getrusage(RUSAGE_SELF)[2])
        self._read_counters()

    def reset(self) -> None:
        """Set the kernel's peak back to what is resident now, where this is allowed."""
        if self.can_reset:
            try:
                self.own_written += write(self._clear_refs, b"5")
            except OSError:
                self._reset_again()

    def _reset_again(self) -> None:
        try:
            # Perhaps the program has closed all descriptors, as daemons do.
            self._open()
            self.own_written += write(self._clear_refs, b"5")
        except OSError:
            # No /proc, or a kernel without this file: say less, go on.
            self.can_reset = False

    def _open(self) -> None:
        self._clear_refs = open_high("/proc/self/clear_refs", os.O_WRONLY)
        self._status = open_high("/proc/self/status", os.O_RDONLY)
        self._io = open_high("/proc/self/io", os.O_RDONLY)

    def peak_kib(self, maxrss_kib: int) -> int:
        """Return the peak since the last reset, given what `getrusage` says.

        At or below the floor, what it says may be the peak of the program before exec. Where both readings agree, that
        peak cannot lie above them, and the floor sinks. That it lies just below, within the slack, would be a
        coincidence with an error of the slack.
        """
        if maxrss_kib > self.floor_kib > 0:
            return maxrss_kib
        hwm_kib = self._read_hwm_kib()
        if hwm_kib is None or maxrss_kib > hwm_kib + _SLACK_KIB:
            self.floor_kib, self._is_floor_known = maxrss_kib, True
        elif not self._is_floor_known:
            self.floor_kib = maxrss_kib - _SLACK_KIB
        return maxrss_kib if hwm_kib is None else hwm_kib

    def hand_over(self, starting: Running) -> None:
        """Give the peak so far to the innermost bracket, because the one that starts is about to reset it."""
        self.disturb()
        innermost = self.running[-1]
        innermost.inner_kib = max(innermost.inner_kib, self.peak_kib(getrusage(RUSAGE_SELF)[2]))
        innermost.is_odd = True
        if innermost.thread != starting.thread or innermost.is_shared:
            for bracket in self.running:
                if bracket.thread != starting.thread:
                    bracket.is_shared = starting.is_shared = bracket.is_odd = starting.is_odd = True

    def leave(self, ending: Running) -> None:
        """Take a bracket out; what it has seen belongs to the one around it as well."""
        with self.lock:
            running = self.running
            if running[-1] is not ending:
                self._end_before_later(ending)
            running.remove(ending)
            if running:
                around = running[-1]
                around.is_odd = True
                around.inner_kib = max(around.inner_kib, ending.inner_kib, ending.peak_kib)

    def _end_before_later(self, ending: Running) -> None:
        """Of brackets of which neither lies inside the other, as blocks of two coroutines do, nobody can tell what is
        whose."""
        for bracket in self.running[self.running.index(ending) + 1 :]:
            bracket.is_shared = ending.is_shared = bracket.is_odd = ending.is_odd = True
            ending.inner_kib = max(ending.inner_kib, bracket.inner_kib)

    def was_calm(self, now: float) -> None:
        """Note a bracket in which no counter has risen."""
        self._calm_brackets += 1
        if self._calm_brackets > self._calm_needed:
            self.calm = Calm(now + CHAIN_S)

    def was_not_calm(self, is_ambiguous: bool) -> None:
        """Note that counters have risen; where it is not clear in which call, more have to be calm the next time."""
        self._calm_brackets = 0
        if is_ambiguous:
            self._calm_needed *= 2

    def disturb(self) -> None:
        """End the calm, because something happens that one bracket alone would not."""
        if self.calm is not None:
            self.unverified, self.calm = self.calm.sums, None

    def read_counters(self) -> None:
        """Bring `children` and `io` up to date, and see whether those who had left that for later were right."""
        self.disturb()
        sums, self.unverified = self.unverified, None
        io, children = self.io, self.children
        self._read_counters()
        if sums is None:
            return
        if io == self.io and children[6] == self.children[6]:
            self._calm_needed = max(CALM, self._calm_needed // 2)
            sums.trust()
        else:
            self.was_not_calm(is_ambiguous=True)
            sums.distrust()

    def settle(self) -> None:
        """Let those who have left the counters for later know whether they were right; if so, the calm goes on."""
        if self.unverified is None and (self.calm is None or self.calm.sums is None):
            return
        needed = self._calm_needed
        self.read_counters()
        if self._calm_needed <= needed and not self.running and not self.backgrounds:
            self.calm = Calm(perf_counter() + CHAIN_S)

    def _read_counters(self) -> None:
        """Read `children`, and `io`: bytes read and written, without those of the monitor itself."""
        self.children = getrusage(RUSAGE_CHILDREN)
        noise, own_read, own_written = self.noise, self.own_read, self.own_written
        try:
            text = pread(self._io, 512, 0)
            # rchar: N, wchar: N, ...
            words = text.split(None, 4)
            self.io: tuple[int, int] | None = (int(words[1]) - own_read, int(words[3]) - own_written)
            # Reading the counters is itself counted, from the next reading on.
            self.own_read += len(text)
        except (OSError, IndexError, ValueError):
            self.io = None
        if self.backgrounds or noise is not self.noise:
            self._read_io_beside_background()

    def _read_io_beside_background(self) -> None:
        """Read the bytes while a background thread may be moving some; where it never pauses, they stay unknown."""
        with self.lock:
            moved = self._background_moved()
            for _ in range(_TRIES):
                found, before = _read_io(self._io), moved
                if found is None:
                    break
                self.io = found[0] - self.own_read - before[0], found[1] - self.own_written - before[1]
                self.own_read += found[2]
                moved = self._background_moved()
                if moved == before:
                    return
            self.io = None

    def _background_moved(self) -> tuple[int, int]:
        all_moved = [background.moved() for background in self.backgrounds]
        # That this was read here counts from the next reading on.
        self.own_read += sum(its_own for _, _, its_own in all_moved)
        return sum(read for read, _, _ in all_moved), sum(written for _, written, _ in all_moved)

    def noise_now(self) -> tuple[float, ...]:
        """Return what background threads have used so far; while one works, the total CPU is all that is known."""
        with self.lock:
            live_s = sum(background.cpu_s() for background in self.backgrounds)
            return (self.noise[0] + live_s, self.noise[1])

    def _read_hwm_kib(self) -> int | None:
        try:
            text = pread(self._status, 4096, 0)
            self.own_read += len(text)
            start = text.index(b"VmHWM:") + 6
            return int(text[start : text.index(b"kB", start)])
        except (OSError, ValueError):
            return None


class _Here:
    """What is known of this process.

    Attributes:
        process: `None` until somebody asks, and again in a forked child.
        outermost: the bracket of all that a forked child does (`envpack_monitor.isolated.forked`), until the child
            has an ordinary one.
    """

    __slots__ = ("outermost", "process")

    def __init__(self) -> None:
        self.process: Process | None = None
        self.outermost: Any = None


here = _Here()


def begin() -> Process:
    """Begin to know this process."""
    so_far_kib = getrusage(RUSAGE_SELF)[2]
    here.process = process = Process()
    if here.outermost is not None and here.outermost._process_id == process.pid:
        here.outermost.inner_kib = so_far_kib
        process.running.append(here.outermost)
    return process


def settle() -> None:
    """Read the counters that brackets have left for later, and tell their sums whether something had happened."""
    if here.process is not None:
        here.process.settle()


def note_own_read(size: int) -> None:
    """Note that the monitor itself has read so many bytes, beside the counters."""
    if here.process is not None:
        here.process.own_read += size


def _forget() -> None:
    """Begin anew in a forked child.

    What the parent had opened stays open there: to close a number that a daemon has closed and opened again for
    something else would do more harm than three descriptors.
    """
    if here.process is not None:
        here.process.disturb()
    here.process = None


os.register_at_fork(after_in_child=_forget)


def _read_io(fd: int | None) -> tuple[int, int, int] | None:
    """Return bytes read, bytes written, and how many bytes this reading itself adds to the first from now on."""
    try:
        text = b"" if fd is None else pread(fd, 512, 0)
        words = text.split(None, 4)
        return int(words[1]), int(words[3]), len(text)
    except (OSError, IndexError, ValueError):
        return None


def _open_or_none(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def open_high(path: str, flags: int) -> int:
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
