"""`monitor_pid`: a process that runs already, and all that it starts, looked at until it ends.

Nothing is changed in it, so nothing is exact but what the kernel counts anyway: its CPU, faults and bytes since then.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from dataclasses import dataclass, field
from typing import Any

from envpack_monitor.errors import ProcessNotFoundError
from envpack_monitor.trees import tree
from envpack_monitor.trees.folders import FolderSize
from envpack_monitor.trees.looks import Looks, Pace
from envpack_monitor.trees.nvml import gpus
from envpack_monitor.trees.series import INTERVAL_S, Series
from envpack_monitor.usage import Usage

_COUNTED: dict[str, type[int] | type[float]] = {
    "cpu_user_s": float,
    "cpu_system_s": float,
    "minor_faults": int,
    "major_faults": int,
    "bytes_read": int,
    "bytes_written": int,
}


def monitor_pid(
    pid: int,
    *,
    duration_s: float | None = None,
    category: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    series: str | os.PathLike[str] | None = None,
    interval_s: float = INTERVAL_S,
    shared_out: bool = False,
    history: bool = True,
) -> Usage:
    """Look at a running process and all below it until it ends, the time is over or Ctrl-C is pressed.

    Args:
        pid: the process; it need not be a child.
        duration_s: how long to look at most.
        category: which runs are alike; the name of the program by default.
        folder: a folder whose growth is measured.
        series: a file that gets a time series meanwhile: `.csv` or `.jsonl`.
        interval_s: seconds between its rows.
        shared_out: measure memory with shared pages shared out too.
        history: whether the usage goes into the history, if the process has ended.

    Returns:
        What it used meanwhile. Of a process without children the peak is exact if it grew while it was looked at.

    Raises:
        ProcessNotFoundError: there is no such process, or it is not ours to look at.
        FormatError: the name of the series or its interval cannot be used.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, OverflowError, ValueError) as error:
        raise ProcessNotFoundError(f"no process {pid} to look at", "ps -e lists them") from error
    try:
        with contextlib.ExitStack() as stack:
            rows = stack.enter_context(Series(series, interval_s)) if series is not None else None
            watch = _Watch(pid, pidfd, rows, FolderSize.needed_for(None, folder), shared_out)
            has_ended = watch.until_end(duration_s)
    finally:
        os.close(pidfd)
    usage = Usage(category=category or watch.name, **watch.figures())
    if history and has_ended:
        from envpack_monitor.history.recorder import default_writer

        if (writer := default_writer()) is not None:
            writer.put(usage)
    return usage


@dataclass(slots=True)
class _Tally:
    """The kernel's counters of some processes since the first look.

    Those of a process that was waited for are in its parent's; so the sum over all that are alive falls only where
    orphans die.
    """

    first: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=lambda: [0.0] * len(_COUNTED))

    def look(self, pids: list[int]) -> None:
        """Read the counters."""
        now = [sum(each) for each in zip(*map(_counters, pids), strict=True)]
        self.first = self.first or now
        since = [after - before for after, before in zip(now, self.first, strict=True)]
        self.most = [max(pair) for pair in zip(self.most, since, strict=True)]

    @property
    def cpu_s(self) -> float:
        """Processor seconds since the first look."""
        return self.most[0] + self.most[1]

    def figures(self) -> dict[str, Any]:
        """Return fields of `Usage`."""
        return {name: kind(value) for (name, kind), value in zip(_COUNTED.items(), self.most, strict=True)}


def _counters(pid: int) -> tuple[float, ...]:
    words = tree.read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    if len(words) < 15:
        return (0.0,) * len(_COUNTED)
    minor, minor_below, major, major_below, user, system, user_below, system_below = map(int, words[7:15])
    times = ((user + user_below) / tree.TICKS_PER_S, (system + system_below) / tree.TICKS_PER_S)
    return *times, minor + minor_below, major + major_below, *(tree.bytes_moved(pid) or (0, 0))


class _Watch:
    """One process that is looked at."""

    def __init__(
        self, pid: int, pidfd: int, series: Series | None, disk: FolderSize | None, with_shared_out: bool
    ) -> None:
        self._pid, self._pidfd, self._series = pid, pidfd, series
        if not tree.is_alive(pid):
            raise ProcessNotFoundError(f"process {pid} has ended already", "ps -e lists those that run")
        self.name = tree.name_of(pid)
        self._started_at, self._start = time.time(), time.perf_counter()
        self._pace = Pace(is_limited=False)
        self._looks = Looks(
            pids=lambda: [pid, *tree.descendants(pid)],
            start=self._start,
            disk=disk,
            gpus=gpus(),
            with_shared_out=with_shared_out,
            with_io=series is not None,
            with_memory=series is not None,
        )
        self._tally = _Tally()
        self._tally.look(self._looks.pids())
        self._peak_before_kib = self._peak_kib = tree.peak_kib(pid)
        self._wall_s = 0.0
        self._memory_before = tree.sample([pid, *tree.descendants(pid)]).memory_bytes

    def until_end(self, duration_s: float | None) -> bool:
        """Look until the process ends, the time is over or Ctrl-C is pressed; return whether it has ended."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        has_ended = False
        with contextlib.suppress(KeyboardInterrupt):
            pause_s = 0.0
            while not (has_ended := bool(poll.poll(pause_s * 1e3))):
                looked_at = time.perf_counter()
                self._look()
                now = time.perf_counter()
                left_s = duration_s - (now - self._start) if duration_s is not None else float("inf")
                if left_s <= 0:
                    break
                pause_s = min(self._pace.next_s(now - looked_at), left_s, self._until_row_s(now))
        self._wall_s = time.perf_counter() - self._start
        # A dead process keeps its counters until its parent has waited for it.
        self._tally.look(self._looks.pids())
        return has_ended

    def figures(self) -> dict[str, Any]:
        """Return fields of `Usage`."""
        sampled = f"sampled({round(self._pace.longest_s, 3)})"
        found: dict[str, Any] = dict(self._looks.largest) | self._tally.figures()
        words = dict.fromkeys(self._looks.largest, sampled) | dict.fromkeys(self._tally.figures(), "lower bound")
        is_single = len(self._looks.seen) == 1
        if is_single and self._peak_kib > self._peak_before_kib:
            found["peak_memory_bytes"] = self._peak_kib * 1024
            # What it did after the last look nobody has seen.
            words["peak_memory_bytes"] = sampled
        found["processes_total"] = len(self._looks.seen)
        words["processes_total"] = "lower bound"
        exceptions = "; ".join(f"{name}: {word}" for name, word in words.items())
        return found | {
            "started_at": self._started_at,
            "wall_s": self._wall_s,
            "memory_before_bytes": self._memory_before,
            "peak_times": dict(self._looks.times),
            "quality": f"exact; memory_before_bytes: {sampled}; {exceptions}",
        }

    def _look(self) -> None:
        sight = self._looks.look()
        self._tally.look(self._looks.pids())
        self._peak_kib = max(self._peak_kib, tree.peak_kib(self._pid))
        if self._series is not None:
            self._series.add(sight, self._tally.cpu_s)

    def _until_row_s(self, now: float) -> float:
        if self._series is None:
            return float("inf")
        return max(0.001, self._series.until_due_s(now - self._start))
