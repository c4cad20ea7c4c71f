"""Residuals of a location model, with the retry ladder that is best for them. Pure."""

from __future__ import annotations

import bisect
from collections import deque
from itertools import accumulate

from envpack_monitor.predict.ladder import best_ladder, cost_of


class Residuals:
    """The newest residuals of one model, sorted, and their best ladder, which is computed when enough has changed.

    Args:
        window: how many are kept.
        failed_share: the share of a run that a failed attempt costs.
    """

    def __init__(self, window: int, failed_share: float) -> None:
        self._failed_share = failed_share
        self._order: deque[tuple[float, float]] = deque(maxlen=window)
        self._sorted: list[tuple[float, float]] = []
        self._rungs: list[float] = []
        self._sums: list[float] = []
        self._stale = 0

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, ratio: float, weight: float) -> None:
        """Take in one residual.

        Args:
            ratio: peak over location.
            weight: location times wall time, so that costs add up to bytes times seconds.
        """
        if len(self._order) == self._order.maxlen:
            del self._sorted[bisect.bisect_left(self._sorted, self._order[0])]
        self._order.append((ratio, weight))
        bisect.insort(self._sorted, (ratio, weight))
        self._stale += 1

    def cost(self, need: float) -> float:
        """Return what a call that needs `need` costs on the best ladder, as `cost_of` does, in logarithmic time."""
        rungs = self.rungs()
        at = bisect.bisect_left(rungs, need)
        if at < len(rungs):
            return rungs[at] + self._failed_share * self._sums[at]
        return cost_of(rungs[-1:], need, self._failed_share) + self._failed_share * self._sums[-2]

    def rungs(self) -> list[float]:
        """Return the best ladder over what was seen, as it was at most a tenth of the residuals ago."""
        if self._stale > 0.1 * len(self._sorted) or (self._stale and not self._rungs):
            values, weights = zip(*self._sorted, strict=True)
            self._rungs, _ = best_ladder(values, weights, self._failed_share)
            self._sums = [0.0, *accumulate(self._rungs)]
            self._stale = 0
        elif self._stale and self._sorted[-1][0] > self._rungs[-1]:
            self._rungs[-1] = self._sorted[-1][0]
            self._sums[-1] = self._sums[-2] + self._rungs[-1]
        return self._rungs

    def values(self) -> list[float]:
        """Return the residuals, ascending."""
        return [ratio for ratio, _ in self._sorted]
