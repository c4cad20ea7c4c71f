"""Where the peak of the next call is expected, before any headroom: a few cheap models of one feature. Pure.

A model is asked for a location, and after the call told the peak. Predictors work with the residual, peak over
location; so a model need not be unbiased, it only has to leave residuals that lie close together.
"""

from __future__ import annotations

import bisect
import math
from array import array
from typing import Protocol

WINDOW = 64
"""How many calls the models that look back remember."""


class Location(Protocol):
    """A model of where the peak lies."""

    def locate(self, x: float) -> float | None:
        """Return the expected peak in bytes for feature value `x`, or `None` while too little is known."""
        ...

    def learn(self, x: float, peak: float) -> None:
        """Learn from one call."""
        ...


class Constant:
    """The same place for every call: the residuals are the peaks themselves."""

    __slots__ = ()

    def locate(self, x: float) -> float | None:
        """Return 1: residuals in bytes."""
        return 1.0

    def learn(self, x: float, peak: float) -> None:
        """Learn nothing."""


class Proportional:
    """In proportion to the feature, as a user's own guess is."""

    __slots__ = ()

    def locate(self, x: float) -> float | None:
        """Return the feature itself: residuals in bytes per unit."""
        return x if x > 0 else None

    def learn(self, x: float, peak: float) -> None:
        """Learn nothing."""


class Line:
    """The least-squares line through (feature, peak)."""

    __slots__ = ("_count", "_least", "_mean_x", "_mean_y", "_sxx", "_sxy")

    def __init__(self) -> None:
        self._count = 0
        self._mean_x = self._mean_y = self._sxx = self._sxy = 0.0
        self._least = math.inf

    def locate(self, x: float) -> float | None:
        """Return the line's value, not below half the smallest peak seen."""
        if self._count < 3 or self._sxx <= 0:
            return None
        slope = max(0.0, self._sxy / self._sxx)
        return max(self._mean_y + slope * (x - self._mean_x), self._least / 2)

    def learn(self, x: float, peak: float) -> None:
        """Update the sums (Welford)."""
        self._count += 1
        delta_x = x - self._mean_x
        self._mean_x += delta_x / self._count
        self._mean_y += (peak - self._mean_y) / self._count
        self._sxx += delta_x * (x - self._mean_x)
        self._sxy += delta_x * (peak - self._mean_y)
        self._least = min(self._least, peak)


class Nearest:
    """The largest peak among the calls with the most similar feature.

    Args:
        neighbours: among how many.
        window: how many calls are remembered.
    """

    __slots__ = ("_neighbours", "_order", "_peaks", "_window", "_xs")

    def __init__(self, neighbours: int = 3, window: int = 2 * WINDOW) -> None:
        self._neighbours = neighbours
        self._window = window
        self._xs = array("d")
        self._peaks = array("d")
        self._order = array("d")

    def locate(self, x: float) -> float | None:
        """Return the largest peak of the nearest calls."""
        xs = self._xs
        count = len(xs)
        if not count:
            return None
        low = high = bisect.bisect_left(xs, x)
        for _ in range(min(self._neighbours, count)):
            if high == count or (low > 0 and x - xs[low - 1] <= xs[high] - x):
                low -= 1
            else:
                high += 1
        return max(self._peaks[low:high])

    def learn(self, x: float, peak: float) -> None:
        """Remember the call, and forget the oldest of a full window."""
        if len(self._order) == self._window:
            oldest = bisect.bisect_left(self._xs, self._order.pop(0))
            del self._xs[oldest], self._peaks[oldest]
        at = bisect.bisect_right(self._xs, x)
        self._xs.insert(at, x)
        self._peaks.insert(at, peak)
        self._order.append(x)
