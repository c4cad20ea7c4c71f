"""What a published policy is at heart: it sizes one resource of one category. Pure.

The papers speak of one number at a time; `EachResource` in the file beside puts their answers together.
"""

from __future__ import annotations

import bisect
from typing import Protocol

from envpack_monitor.predict.protocol import Features


class Sizer(Protocol):
    """Sizes one resource of one category, once it has learned a call; all amounts in the unit of that resource."""

    def size(self, features: Features) -> float:
        """Return what to set aside for the next call."""
        ...

    def next_size(self, failed: float, features: Features) -> float | None:
        """Return what to set aside after `failed` was too little; `None` if that is all that there is."""
        ...

    def learn(self, features: Features, need: float, wall_s: float) -> None:
        """Learn what a call needed, and for how many seconds."""
        ...

    def exceeding(self, size: float) -> float | None:
        """Return the share of the calls learned that needed more than `size`; `None` if that is not known."""
        ...


class Needs:
    """What calls needed, ascending, with their seconds; the base of the sizers that look at nothing else."""

    def __init__(self) -> None:
        self.needs: list[float] = []
        self.walls_s: list[float] = []

    def learn(self, features: Features, need: float, wall_s: float) -> None:
        """Put a call in its place."""
        at = bisect.bisect_right(self.needs, need)
        self.needs.insert(at, need)
        self.walls_s.insert(at, wall_s)

    def exceeding(self, size: float) -> float | None:
        """Return the share of calls above `size`."""
        if not self.needs:
            return None
        return 1 - bisect.bisect_right(self.needs, size) / len(self.needs)


class Schedule:
    """When to compute anew what is not cheap: at each of the first calls, then whenever there are a few percent more.

    Args:
        at_each: up to so many calls at each one.
        growth: 1.02 is after every 2 % more.
    """

    def __init__(self, at_each: int = 100, growth: float = 1.02) -> None:
        self.at_each = at_each
        self.growth = growth
        self._done_at = 0

    def is_due(self, calls: int) -> bool:
        """Tell whether it is time again; a yes counts as done."""
        if calls == self._done_at or (calls > self.at_each and calls < self._done_at * self.growth):
            return False
        self._done_at = calls
        return True
