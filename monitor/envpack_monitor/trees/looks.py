"""Looking at a tree while it runs: what it uses now, the largest of each figure so far, and when that was.

How often: soon after the start, then every `LOOK_S`; less often where looking takes longer than a tenth of that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from envpack_monitor.trees import tree
from envpack_monitor.trees.cgroup import Cgroup
from envpack_monitor.trees.folders import FolderSize
from envpack_monitor.trees.lives import Lives
from envpack_monitor.trees.nvml import Gpus

LOOK_S = 0.025
"""How often a tree is looked at once it has run for a while."""
FIRST_LOOK_S = 0.002
LIMITED_LOOK_S = 0.05
"""The longest pause where limits have to be kept."""
LONGEST_LOOK_S = 1.0
_SHARE_OF_TIME = 0.1


@dataclass(slots=True)
class Pace:
    """How long to wait before the next look.

    Args:
        is_limited: limits have to be kept, whatever looking costs.

    Attributes:
        longest_s: the longest pause so far.
    """

    is_limited: bool
    longest_s: float = LOOK_S
    _pause_s: float = FIRST_LOOK_S

    def next_s(self, cost_s: float) -> float:
        """Return the pause after a look that took `cost_s`."""
        most_s = LIMITED_LOOK_S if self.is_limited else LONGEST_LOOK_S
        wanted_s = min(max(LOOK_S, cost_s / _SHARE_OF_TIME), most_s)
        self._pause_s = min(self._pause_s * 1.3, wanted_s)
        self.longest_s = max(self.longest_s, self._pause_s)
        return self._pause_s


@dataclass(frozen=True, slots=True)
class Sight:
    """What a tree used at one moment.

    Args:
        time_s: seconds since the start.
        memory_bytes: see `Looks.look`.
        cpu_s: of the processes that are alive, with the children that each has waited for.
        processes: how many are alive.
        threads: how many threads they have together.
        disk_bytes: the growth of the folder.
        bytes_read: so far, by all that are alive and those that they have waited for.
        bytes_written: likewise.
    """

    time_s: float
    memory_bytes: int | None
    cpu_s: float
    processes: int
    threads: int
    disk_bytes: int | None = None
    bytes_read: int = 0
    bytes_written: int = 0


@dataclass(slots=True, kw_only=True)
class Looks:
    """The looks at one tree.

    Args:
        pids: tells which processes it has now.
        start: when it began, on the clock of `time.perf_counter`.
        group: its cgroup.
        disk: the folder that it fills.
        lives: who is told of the peak of each process.
        gpus: where GPU memory is asked for.
        with_shared_out: look at memory with shared pages shared out each time; it takes milliseconds a process.
        with_io: look at the bytes that each process moved.
        with_memory: look at memory although the group keeps the peak.

    Attributes:
        largest: the largest of each figure, by its name in `Usage`.
        times: when that was, in seconds since the start.
        seen: every process that was ever seen.
    """

    pids: Callable[[], list[int]]
    start: float
    group: Cgroup | None = None
    disk: FolderSize | None = None
    lives: Lives | None = None
    gpus: Gpus | None = None
    with_shared_out: bool = False
    with_io: bool = False
    with_memory: bool = False
    largest: dict[str, int] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    _moved: tuple[int, int] = (0, 0)

    def look(self) -> Sight:
        """Look at the tree.

        Returns:
            What it uses. Its memory is what its group is charged with, page cache taken off; without a group the
            resident memory, shared out where there are several processes. `None` where only the group's peak is kept.
        """
        pids = self.pids()
        now = tree.sample(pids)
        at_s = time.perf_counter() - self.start
        self.seen.update(pids)
        self._note("processes_max", now.processes, at_s)
        self._note("threads_max", now.threads, at_s)
        memory_bytes = self._memory(pids, now, at_s)
        disk_bytes = self.disk.growth() if self.disk is not None else None
        self._note("disk_bytes", disk_bytes, at_s)
        if self.gpus is not None:
            self._note("gpu_memory_bytes", self.gpus.used_by(pids), at_s)
        moved = self._bytes_moved(pids) if self.with_io else (0, 0)
        return Sight(at_s, memory_bytes, now.cpu_s, now.processes, now.threads, disk_bytes, *moved)

    def _memory(self, pids: list[int], now: tree.TreeSample, at_s: float) -> int | None:
        shared_out = tree.shared_out_bytes(pids) if self.with_shared_out else None
        self._note("shared_out_bytes", shared_out, at_s)
        if self.group is not None:
            self._note("peak_memory_bytes", self.group.peak_bytes(), at_s)
            return max(0, self.group.usage_bytes() - self.group.cache_bytes()) if self.with_memory else None
        memory_bytes = now.memory_bytes
        if self.lives is not None:
            self.lives.see({pid: tree.peak_kib(pid) * 1024 for pid in pids}, time.monotonic())
        if now.processes == 1:
            most = max([memory_bytes, *(tree.peak_kib(pid) * 1024 for pid in pids)])
            self._note("peak_memory_bytes", most, at_s)
            return memory_bytes if self.with_memory else most
        # Shared out it is never more; so where even the sum is no news, there is no need to ask.
        if self.with_memory or memory_bytes > self.largest.get("peak_memory_bytes", 0):
            memory_bytes = shared_out or tree.shared_out_bytes(pids) or memory_bytes
        self._note("peak_memory_bytes", memory_bytes, at_s)
        return memory_bytes

    def _bytes_moved(self, pids: list[int]) -> tuple[int, int]:
        # Those of a process that was waited for are in its parent's; so the sum falls only where orphans die.
        moved = [tree.bytes_moved(pid) or (0, 0) for pid in pids]
        self._moved = (
            max(self._moved[0], sum(read for read, _ in moved)),
            max(self._moved[1], sum(written for _, written in moved)),
        )
        return self._moved

    def _note(self, name: str, value: int | None, at_s: float) -> None:
        if value is not None and value > self.largest.get(name, -1):
            self.largest[name], self.times[name] = value, at_s
