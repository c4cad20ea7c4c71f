"""What a tree has used in the end: from those that were waited for, from looks at it and from its births."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envpack_monitor.trees.births import Births
from envpack_monitor.trees.cgroup import Cgroup
from envpack_monitor.trees.lives import Lives
from envpack_monitor.trees.looks import Looks

SLACK_KIB = 1024
"""Two readings of the same peak may differ by this much: the kernel adds up its counters late."""


@dataclass(slots=True)
class Account:
    """What is known of a tree; made before its first process.

    Args:
        start: when it begins, on the clock of `time.perf_counter`.
        looks: at the tree.
        group: its cgroup.
        births: of its processes.

    Attributes:
        lives: what the births have told.
        floor_kib: a peak at or below it may be the size of this process, from which the command was forked.
        own_bytes: read and written by the command's process before it became the command.
        reaped: how many were waited for here.
        largest_kib: the largest peak among those and whoever they waited for.
    """

    start: float
    looks: Looks
    group: Cgroup | None
    births: Births | None
    lives: Lives = field(default_factory=Lives)
    floor_kib: int = 0
    own_bytes: tuple[int, int] = (0, 0)
    reaped: int = 0
    largest_kib: int = 0
    _before: resource.struct_rusage = field(default_factory=lambda: resource.getrusage(resource.RUSAGE_CHILDREN))
    _io_before: tuple[int, int] = field(default_factory=lambda: _children_io())

    def count(self, rusage: resource.struct_rusage) -> None:
        """Take what the kernel told of a process that was waited for."""
        self.reaped += 1
        self.largest_kib = max(self.largest_kib, rusage.ru_maxrss)

    def take_births(self, is_last: bool = False) -> None:
        """Take the births and ends since the last time."""
        if self.births is not None:
            self.lives.add(self.births.take(is_last))

    def cpu_of_reaped_s(self) -> float:
        """Return the processor seconds of those that were waited for."""
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        return now.ru_utime + now.ru_stime - self._before.ru_utime - self._before.ru_stime

    def figures(self, is_single: bool, longest_look_s: float) -> dict[str, Any]:
        """Return fields of `Usage`, when nothing of the tree is left.

        Args:
            is_single: the first process never had a child.
            longest_look_s: the longest time between two looks.
        """
        sampled = f"sampled({round(longest_look_s, 3)})"
        found: dict[str, Any] = dict(self.looks.largest)
        times = dict(self.looks.times)
        words = dict.fromkeys(found, sampled)
        found["peak_memory_bytes"], words["peak_memory_bytes"] = self._peak(is_single, sampled)
        if self.births is not None:
            lives, word = self.lives, "exact" if self.births.is_complete else "lower bound"
            found |= {name: getattr(lives, name) for name in ("processes_total", "processes_max", "threads_max")}
            words |= dict.fromkeys(("processes_total", "processes_max", "threads_max"), word)
            times["processes_max"] = lives.processes_max_s - self.start
            times["threads_max"] = lives.threads_max_s - self.start
        else:
            found.setdefault("processes_max", 1)
            found["processes_total"] = max(len(self.looks.seen), self.reaped)
            words |= {"processes_max": sampled, "processes_total": "lower bound"}
        exceptions = [f"{name}: {word}" for name, word in words.items() if word != "exact"]
        quality = "; ".join(["exact", *exceptions])
        return self._rusage() | self._io() | found | {"peak_times": times, "quality": quality}

    def surely_used_bytes(self, figures: dict[str, Any]) -> int:
        """Return the memory that was really used at once, of which a bound from above is no proof."""
        if "peak_memory_bytes: upper bound" not in figures["quality"]:
            return int(figures["peak_memory_bytes"])
        largest_kib = self.largest_kib if self.largest_kib > self.floor_kib else 0
        return max(self.looks.largest.get("peak_memory_bytes", 0), largest_kib * 1024)

    def _peak(self, is_single: bool, sampled: str) -> tuple[int, str]:
        """Return the peak of the tree and its quality."""
        if self.group is not None:
            return self.group.peak_and_quality()
        seen_bytes = self.looks.largest.get("peak_memory_bytes", 0)
        is_known = self.largest_kib > self.floor_kib
        largest_bytes = max(self.largest_kib, 0 if is_known else self.floor_kib) * 1024
        if is_single:
            is_exact = is_known and largest_bytes + SLACK_KIB * 1024 >= seen_bytes
            return max(seen_bytes, largest_bytes), "exact" if is_exact else "upper bound"
        if self.births is not None and self.births.is_complete:
            return max(seen_bytes, self.lives.at_once_bytes(largest_bytes)), "upper bound"
        return max(seen_bytes, self.largest_kib * 1024 if is_known else 0), sampled

    def _rusage(self) -> dict[str, Any]:
        now, before = resource.getrusage(resource.RUSAGE_CHILDREN), self._before
        user_s, system_s = now.ru_utime - before.ru_utime, now.ru_stime - before.ru_stime
        counted_s = self.group.cpu_s() if self.group is not None else None
        if counted_s is not None and counted_s > user_s + system_s > 0:
            # A process whose parent ignores its children's ends is in no parent's account, but in the group's.
            user_s, system_s = (counted_s * part / (user_s + system_s) for part in (user_s, system_s))
        return {
            "cpu_user_s": user_s,
            "cpu_system_s": system_s,
            "voluntary_switches": now.ru_nvcsw - before.ru_nvcsw,
            "involuntary_switches": now.ru_nivcsw - before.ru_nivcsw,
            "minor_faults": now.ru_minflt - before.ru_minflt,
            "major_faults": now.ru_majflt - before.ru_majflt,
        }

    def _io(self) -> dict[str, int]:
        now, before, own = _children_io(), self._io_before, self.own_bytes
        return {
            "bytes_read": max(0, now[0] - before[0] - own[0]),
            "bytes_written": max(0, now[1] - before[1] - own[1]),
        }


def _children_io() -> tuple[int, int]:
    """Return the bytes that the children waited for so far have read and written.

    The kernel adds them to those of the process; what its own threads did is told separately.
    """
    whole = _read_io("/proc/self/io")
    own = [_read_io(f"/proc/self/task/{thread}/io") for thread in os.listdir("/proc/self/task")]
    return whole[0] - sum(read for read, _ in own), whole[1] - sum(written for _, written in own)


def _read_io(path: str) -> tuple[int, int]:
    try:
        words = Path(path).read_bytes().split(None, 4)
    except OSError:
        return 0, 0
    return int(words[1]), int(words[3])
