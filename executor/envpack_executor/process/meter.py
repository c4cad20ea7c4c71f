"""How calls are measured inside a context process. Standard library only.

A call that is long enough has a bracket of its own: exact figures. Shorter ones share a bracket that stays open over
many batches, because opening and closing one costs more than they do: their wall time is exact, their CPU is shared out
by it, and the peak of all is an upper bound for each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

from envpack_monitor.calls.bracket import Bracket

# From here on a bracket of its own costs less than about five percent.
ALONE_FROM_NS = 200_000
# A shared bracket is closed, and what it found is sent, this often.
SHARED_FOR_NS = 500_000_000
_NOT_ADDITIVE = frozenset({"started_at", "peak_memory_bytes", "memory_before_bytes", "quality"})

Durations = list[tuple[int, int, int]]
Usages = list[tuple[int, int, dict[str, Any], int]]
"""Function, number of its calls, figures of all of them, and the number of the call if measured alone, else -1."""


class Tally:
    """The calls of one function that nobody has been told about.

    Args:
        number: of the function.
        is_limited: its calls have limits, so the figures of each go with its outcome.
        is_bounded: each is measured alone, however short, because somebody watches it or wants to know.
    """

    __slots__ = ("calls", "is_alone", "is_bounded", "is_limited", "number", "shared_calls", "shared_ns", "wall_ns")

    def __init__(self, number: int, is_limited: bool, is_bounded: bool) -> None:
        self.number = number
        self.is_bounded = is_bounded
        self.is_limited = is_limited
        self.is_alone = True
        self.calls = self.wall_ns = 0
        self.shared_calls = self.shared_ns = 0


class Meter:
    """Measures the calls of one process, one call at a time."""

    def __init__(self) -> None:
        self._bracket = Bracket()
        self._shared: dict[int, Tally] = {}
        self._opened_ns = 0
        self._told: dict[int, Tally] = {}
        self.usages: Usages = []
        """Figures that are ready; whoever measures calls elsewhere adds theirs."""

    def alone(self, tally: Tally, run: Callable[[Any, bytes], Any], function: Any, payload: bytes, number: int) -> Any:
        """Measure the call `number` in a bracket of its own, and return its outcome."""
        self._close()
        self._bracket.start()
        outcome = run(function, payload)
        figures: dict[str, Any] = self._bracket.stop()
        if type(outcome) is tuple:
            figures["exception"] = outcome[1]
        wall_ns = int(figures["wall_s"] * 1e9)
        self.usages.append((tally.number, 1, figures, number))
        self._count(tally, wall_ns)
        tally.is_alone = tally.is_bounded or wall_ns > ALONE_FROM_NS
        return (outcome, figures, os.getpid()) if tally.is_limited else outcome

    def open(self, now_ns: int) -> None:
        """See that a shared bracket is open."""
        if not self._opened_ns:
            self._opened_ns = now_ns
            self._bracket.start()

    def note(self, tally: Tally, wall_ns: int) -> None:
        """Note a call that ran in the shared bracket."""
        tally.shared_calls += 1
        tally.shared_ns += wall_ns
        self._shared[tally.number] = tally
        self._count(tally, wall_ns)
        if wall_ns > ALONE_FROM_NS:
            tally.is_alone = True

    def note_child(self, tally: Tally, wall_ns: int, long_ns: int) -> None:
        """Note a call that ran in a child; one that takes longer than `long_ns` lets no result wait before it."""
        self._close()
        self._count(tally, wall_ns)
        tally.is_alone = wall_ns > long_ns

    def take(self, is_last: bool = False) -> tuple[Durations, Usages]:
        """Return (function, calls, wall time in ns), and the usages that are ready."""
        if self._opened_ns and (is_last or monotonic_ns() - self._opened_ns > SHARED_FOR_NS):
            self._close()
        durations = [(tally.number, tally.calls, tally.wall_ns) for tally in self._told.values()]
        for tally in self._told.values():
            tally.calls = tally.wall_ns = 0
        self._told = {}
        usages, self.usages = self.usages, []
        return durations, usages

    def _count(self, tally: Tally, wall_ns: int) -> None:
        tally.calls += 1
        tally.wall_ns += wall_ns
        self._told[tally.number] = tally

    def _close(self) -> None:
        if not self._opened_ns:
            return
        self._opened_ns = 0
        figures: dict[str, Any] = self._bracket.stop()
        total_ns = sum(tally.shared_ns for tally in self._shared.values()) or 1
        for tally in self._shared.values():
            share = _shared(figures, tally.shared_ns / total_ns, tally.shared_ns)
            self.usages.append((tally.number, tally.shared_calls, share, -1))
            tally.shared_calls = tally.shared_ns = 0
        self._shared = {}


def _shared(figures: dict[str, Any], share: float, wall_ns: int) -> dict[str, Any]:
    """Return the figures of one function out of those of a bracket that it may have shared."""
    scaled = {name: type(value)(value * share) for name, value in figures.items() if name not in _NOT_ADDITIVE}
    return {**figures, **scaled, "wall_s": wall_ns / 1e9, "quality": "upper bound; wall_s: exact"}
