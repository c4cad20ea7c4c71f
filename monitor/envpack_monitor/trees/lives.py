"""How many processes and threads a tree had at once, and how much memory they can have had. Pure.

The kernel keeps the largest resident memory of every process, but of one that somebody else has waited for it tells
only the largest of all. So what a tree had at once is bounded from above: every process that was alive had at most as
much as the largest ever had, and at most what it was last seen with plus what can be touched in the time since then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from envpack_monitor.trees.births import Event

TOUCH_BYTES_PER_S = 16e9
"""No process makes memory resident faster than this."""
_LIVES_KEPT = 200_000


@dataclass(slots=True)
class _Life:
    """One process."""

    born_s: float
    threads: set[int]
    seen_bytes: int = 0
    seen_s: float = 0.0


@dataclass(slots=True)
class Lives:
    """The processes of a tree.

    Attributes:
        processes_total: how many there were.
        processes_max: how many there were at once.
        processes_max_s: when, on the clock of the events.
        threads_max: how many threads all had together, at once.
        threads_max_s: when.
    """

    processes_total: int = 0
    processes_max: int = 0
    processes_max_s: float = 0.0
    threads_max: int = 0
    threads_max_s: float = 0.0
    _alive: dict[int, _Life] = field(default_factory=dict)
    _ended: list[tuple[float, float, float]] = field(default_factory=list)
    _threads: int = 0
    _largest_bytes: int = 0
    _is_complete: bool = True

    def add(self, events: Iterable[Event]) -> None:
        """Take births and ends, in order."""
        for event in events:
            if event.is_birth:
                self._begin(event)
            else:
                self._end(event)

    def see(self, peaks: Mapping[int, int], now_s: float) -> None:
        """Note the largest resident memory so far of processes that are alive, in bytes."""
        for pid, peak_bytes in peaks.items():
            # A dead one that nobody has waited for yet has nothing left, which says nothing of what it had.
            if peak_bytes and (life := self._alive.get(pid)) is not None:
                life.seen_bytes, life.seen_s = peak_bytes, now_s
            self._largest_bytes = max(self._largest_bytes, peak_bytes)

    def at_once_bytes(self, largest_bytes: int) -> int:
        """Return how much memory the tree can have had at once, at most.

        Args:
            largest_bytes: what the largest of those had that were waited for.
        """
        largest_bytes = max(largest_bytes, self._largest_bytes)
        if not self._is_complete:
            return self.processes_max * largest_bytes
        lives = self._ended + [self._bound(life, life.seen_s or life.born_s) for life in self._alive.values()]
        changes = []
        for born_s, end_s, bound in lives:
            amount = min(largest_bytes, bound)
            changes += [(born_s, amount), (end_s, -amount)]
        most = now = 0.0
        # At the same moment, beginnings come first: they may have overlapped.
        for _, amount in sorted(changes, key=lambda change: (change[0], -change[1])):
            now += amount
            most = max(most, now)
        return int(most)

    def _begin(self, event: Event) -> None:
        life = self._alive.get(event.pid)
        if life is None:
            life = self._alive[event.pid] = _Life(event.time_s, set())
            self.processes_total += 1
            if len(self._alive) > self.processes_max:
                self.processes_max, self.processes_max_s = len(self._alive), event.time_s
        life.threads.add(event.tid)
        self._threads += 1
        if self._threads > self.threads_max:
            self.threads_max, self.threads_max_s = self._threads, event.time_s

    def _end(self, event: Event) -> None:
        life = self._alive.get(event.pid)
        if life is None or event.tid not in life.threads:
            return
        life.threads.discard(event.tid)
        self._threads -= 1
        if not life.threads:
            del self._alive[event.pid]
            self._keep(self._bound(life, event.time_s))

    def _keep(self, bound: tuple[float, float, float]) -> None:
        if len(self._ended) < _LIVES_KEPT:
            self._ended.append(bound)
        else:
            self._is_complete = False

    @staticmethod
    def _bound(life: _Life, end_s: float) -> tuple[float, float, float]:
        since_s = end_s - max(life.seen_s, life.born_s)
        return life.born_s, end_s, life.seen_bytes + max(0.0, since_s) * TOUCH_BYTES_PER_S
