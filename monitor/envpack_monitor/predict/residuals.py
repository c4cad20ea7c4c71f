"""Residuals of a location model, with the retry ladder that is best for the next one. Pure.

The next residual need not be one of those seen. How far it may lie beyond them is learned from all models of a kind
together: an *excess* is how far a residual lay above the largest one before it, as a multiple of how far these were
spread. So a category of five calls has a ladder with headroom and rungs for a call that is larger than all five.
"""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Sequence

from envpack_monitor.predict.failed import FailedRun
from envpack_monitor.predict.ladder import cost_of, ladder_over

QUANTILES = 5
SPREAD_FLOOR = 0.01
"""Added to every spread: residuals that are all alike have differed by chance."""
MOST_EXCESS = 2.0
"""The natural logarithm of the largest excess that a ladder reckons with; above it allocations double."""
_BULK, _IGNORED = 0.9, 0.3
_COUNTS_AS_EXCESS = 0.02
_REMEMBERED = 200
_FEW = 8
_STALE, _STALE_CALLS = 0.1, 2

_OF_FIRST_TWO = (0.01, 0.03, 0.05, 0.1, 0.15, 0.25, 0.4, 0.7, 1.1, 1.6)
_OF_MORE = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.8, 1.2, 2.0, 4.0)
"""What is assumed of excesses before any was seen; the real ones push it out."""
_AGES = (1, 3, 8, 32)


class Excesses:
    """How far residuals of one kind have lain above those before them, by how many those were."""

    def __init__(self) -> None:
        self._seen = [array("d", _OF_FIRST_TWO), *(array("d", _OF_MORE) for _ in _AGES)]
        self._quantiles: list[tuple[float, ...] | None] = [None] * len(self._seen)
        self._stale = [0] * len(self._seen)
        self._over_one: tuple[tuple[float, ...], list[float]] | None = None

    def add(self, count: int, excess: float) -> None:
        """Take in the excess of a residual over the `count` before it."""
        age = bisect.bisect_left(_AGES, count)
        seen = self._seen[age]
        seen.append(excess)
        if len(seen) > _REMEMBERED:
            del seen[0]
        self._stale[age] += 1
        if self._stale[age] > 0.1 * len(seen):
            self._quantiles[age] = None
            self._stale[age] = 0

    def quantiles(self, count: int) -> tuple[float, ...]:
        """Return equally likely excesses over `count` residuals, ascending."""
        age = bisect.bisect_left(_AGES, count)
        found = self._quantiles[age]
        if found is None:
            seen = sorted(self._seen[age])
            found = tuple(seen[int((number + 0.5) * len(seen) / QUANTILES)] for number in range(QUANTILES))
            self._quantiles[age] = found
        return found

    def ladder_over_one(self, failed: FailedRun) -> list[float]:
        """Return the ladder over a single residual of 1; a newcomer's first ladders are multiples of it."""
        quantiles = self.quantiles(1)
        if self._over_one is None or self._over_one[0] is not quantiles:
            beyond = [(math.exp(min(excess, MOST_EXCESS)), 0.5 / QUANTILES) for excess in quantiles]
            self._over_one = quantiles, ladder_over([(1.0, 1.0), *beyond], failed)
        return self._over_one[1]


class Residuals:
    """The newest residuals of one model, sorted, and their ladder, which is computed when enough has changed.

    Args:
        window: how many are kept.
        failed: the share of its run that a failed attempt costs.
        excesses: what is shared with the other models of the kind.

    Attributes:
        patience: how much later than usual the ladder is computed anew; larger where it hardly ever decides.
    """

    __slots__ = (
        "_excesses",
        "_failed",
        "_marks",
        "_order",
        "_ratios",
        "_rungs",
        "_stale",
        "_total",
        "_weights",
        "_window",
        "patience",
    )

    def __init__(self, window: int, failed: FailedRun, excesses: Excesses) -> None:
        self._window = window
        self._failed = failed
        self._excesses = excesses
        self._order = array("d")
        self._ratios = array("d")
        self._weights = array("d")
        self._rungs: list[float] = []
        self._marks: tuple[float, float, float] | None = None
        self._stale = 0
        self._total = 0.0
        self.patience = 1.0

    def __len__(self) -> int:
        return len(self._ratios)

    def add(self, ratio: float, weight: float) -> None:
        """Take in one residual.

        Args:
            ratio: peak over location.
            weight: how much one unit of allocation costs for such a call.
        """
        ratios = self._ratios
        count = len(ratios)
        if count:
            middle, bulk, top = self._marks or self._find_marks()
            if ratio > top and weight * count > _COUNTS_AS_EXCESS * self._total:
                self._excesses.add(count, math.log(ratio / top) / _spread(count, middle, bulk))
        if count == self._window:
            oldest = bisect.bisect_left(ratios, self._order.pop(0))
            self._total -= self._weights[oldest]
            del ratios[oldest], self._weights[oldest]
        self._total += weight
        self._order.append(ratio)
        at = bisect.bisect_left(ratios, ratio)
        ratios.insert(at, ratio)
        self._weights.insert(at, weight)
        self._stale += 1
        if self._is_stale(count, ratio):
            self._rungs, self._marks, self._stale = [], None, 0

    def cost(self, need: float) -> float:
        """Return what a call that needs `need` costs on the ladder, as `cost_of` does."""
        rungs = self._rungs or self.rungs()
        return rungs[0] if need <= rungs[0] else cost_of(rungs, need, self._failed)

    def rungs(self) -> list[float]:
        """Return the best ladder over what was seen and what may be beyond it."""
        if not self._rungs and len(self._ratios) == 1:
            only = self._ratios[0]
            self._marks = only, only, only
            self._rungs = [only * rung for rung in self._excesses.ladder_over_one(self._failed)]
        elif not self._rungs:
            count = len(self._ratios)
            middle, bulk, top = self._marks = self._find_marks()
            spread = _spread(count, middle, bulk)
            factors = [math.exp(min(excess * spread, MOST_EXCESS)) for excess in self._excesses.quantiles(count)]
            # One more call is as likely above them all as any of them was; half of that above most of them.
            beyond = [top * factor for factor in factors]
            if count > 2:
                beyond += [bulk * factor for factor in factors]
            each = self._total / (count + 1) / len(beyond)
            samples = [*zip(self._ratios, self._weights, strict=True), *((value, each) for value in beyond)]
            self._rungs = ladder_over(samples, self._failed)
        return self._rungs

    def values(self) -> Sequence[float]:
        """Return the residuals, ascending."""
        return self._ratios

    def _is_stale(self, count: int, ratio: float) -> bool:
        if self.patience == 1.0 and self._rungs and ratio > self._rungs[-1]:
            return True
        if self.patience > 1.0:
            return self._stale > max(self.patience * _STALE * count, 1)
        return self._stale > (_STALE * count if count < _FEW else max(_STALE * count, _STALE_CALLS))

    def _find_marks(self) -> tuple[float, float, float]:
        """Return the weighted median, where nine tenths of the weight lie below, and the largest that counts.

        A residual counts if what lies above it weighs something: one of a short call says little of long ones.
        """
        total = self._total = sum(self._weights)
        marks = []
        below, at = 0.0, -1
        for share in (0.5, _BULK, 1 - _IGNORED / (len(self._ratios) + 1)):
            while below < share * total and at + 1 < len(self._ratios):
                at += 1
                below += self._weights[at]
            marks.append(self._ratios[at])
        return marks[0], marks[1], max(marks[1], marks[2])


def _spread(count: int, middle: float, bulk: float) -> float:
    """Return by how much residuals differ, as a logarithm; one alone tells nothing, and is measured against 1."""
    return 1.0 if count == 1 else math.log(bulk / middle) + SPREAD_FLOOR
