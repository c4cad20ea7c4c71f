"""Straight lines over one feature: least squares with an offset, and the line that wastes least. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.policies.each_resource import EachResource
from envpack_monitor.predict.policies.sizer import Schedule, Sizer
from envpack_monitor.predict.protocol import HINT, Features

WINDOW = 256
"""On how many of the newest calls of a category the line of least waste rests."""

QUANTILES = (0.5, 0.75, 0.91, 0.97, 0.99, 1.0)

FARTHEST = 2.0
"""A line is not believed beyond so many times the largest need seen: two calls make a line that may lead anywhere."""

Offset = Literal["deviation", "largest"]

Call = tuple[float, float, float]
"""Feature, need and seconds of a call."""


class Linear(EachResource):
    """The least-squares line over a feature, plus an offset; after a failure twice as much, and so on.

    After Witt, Wagner, Leser, "Feedback-Based Resource Allocation for Batch Scheduling of Scientific Workflows" (HPCS
    2019).

    Args:
        node: what the largest node has; no allocation has more.
        offset: what is added, of the errors that the line had made for calls that it had not seen: their standard
            deviation, or the largest by which it was too low.
    """

    def __init__(self, node: Allocation, offset: Offset = "deviation") -> None:
        self.offset: Offset = offset
        words = "the standard deviation of its errors" if offset == "deviation" else "its largest error"
        self.rule = f"the least-squares line plus {words}, then twice as much"
        super().__init__(node)

    def new_sizer(self, resource: str) -> Sizer:
        """Return one for the least-squares line."""
        return _LeastSquares(self.offset)


class LowWastage(EachResource):
    """The line over a feature that would have wasted least, retries included; after a failure twice as much, and so on.

    After Witt, van Santen, Leser, "Learning Low-Wastage Memory Allocations for Scientific Workflows at IceCube" (HPCS
    2019). There an optimiser begins at lines of several quantiles; here the best of the lines through such quantiles is
    taken, which needs no optimiser.

    Args:
        node: what the largest node has; no allocation has more.
    """

    rule = "the line that would have wasted least, then twice as much"

    def new_sizer(self, resource: str) -> Sizer:
        """Return one for the line of least waste."""
        return _LeastWaste()


def main_feature(features: Features) -> float:
    """Return the feature that a line is drawn over: the first by name that is not a hint; 0 without any."""
    return next((features[name] for name in sorted(features) if name != HINT), 0.0)


class _LeastSquares:
    def __init__(self, offset: Offset) -> None:
        self.offset = offset
        self._count = 0
        self._mean_x = self._mean_y = self._sxx = self._sxy = 0.0
        self._errors = self._squares = self._most_below = 0.0
        self._largest = 0.0
        self._least = math.inf

    def size(self, features: Features) -> float:
        line = self._line(main_feature(features)) + self._headroom()
        return min(max(line, self._least), FARTHEST * self._largest)

    def next_size(self, failed: float, features: Features) -> float | None:
        return 2 * failed

    def learn(self, features: Features, need: float, wall_s: float) -> None:
        x = main_feature(features)
        if self._count:
            error = need - self._line(x)
            self._errors += error
            self._squares += error * error
            self._most_below = max(self._most_below, error)
        self._count += 1
        delta = x - self._mean_x
        self._mean_x += delta / self._count
        self._sxx += delta * (x - self._mean_x)
        self._mean_y += (need - self._mean_y) / self._count
        self._sxy += delta * (need - self._mean_y)
        self._largest, self._least = max(self._largest, need), min(self._least, need)

    def exceeding(self, size: float) -> float | None:
        return None

    def _line(self, x: float) -> float:
        slope = self._sxy / self._sxx if self._sxx > 0 else 0.0
        return self._mean_y + slope * (x - self._mean_x)

    def _headroom(self) -> float:
        """Return the offset; errors are those of predictions, so there is one less than there are calls."""
        count = self._count - 1
        if not count:
            return 0.0
        if self.offset == "largest":
            return self._most_below
        return math.sqrt(max(0.0, self._squares / count - (self._errors / count) ** 2))


class _LeastWaste:
    def __init__(self) -> None:
        self._calls: list[tuple[float, float, float]] = []
        self._slope = self._intercept = 0.0
        self._least, self._largest = math.inf, 0.0
        self._schedule = Schedule(at_each=20, growth=1.1)
        self._seen = 0

    def size(self, features: Features) -> float:
        line = self._slope * main_feature(features) + self._intercept
        return min(max(line, self._least), FARTHEST * self._largest)

    def next_size(self, failed: float, features: Features) -> float | None:
        return 2 * failed

    def learn(self, features: Features, need: float, wall_s: float) -> None:
        self._calls.append((main_feature(features), float(need), wall_s))
        del self._calls[:-WINDOW]
        self._seen += 1
        self._least, self._largest = min(self._least, need), max(self._largest, need)
        if self._schedule.is_due(self._seen):
            self._slope, self._intercept = line_of_least_waste(self._calls)

    def exceeding(self, size: float) -> float | None:
        return None


def line_of_least_waste(calls: Sequence[Call]) -> tuple[float, float]:
    """Return slope and intercept of the line that would have wasted least: a slope and an intercept out of a few each.

    Args:
        calls: feature, need and seconds of each.
    """
    lines = [(slope, intercept) for slope in _slopes(calls) for intercept in _intercepts(calls, slope)]
    return min(lines, key=lambda line: (_allocated(calls, *line), line))


def _slopes(calls: Sequence[Call]) -> set[float]:
    """Return the slopes to try: none, and between equal quantiles of the calls with low and with high features."""
    ordered = sorted(calls)
    half = len(ordered) // 2
    low, high = ordered[:half], ordered[len(ordered) - half :]
    distance = sum(x for x, _, _ in high) - sum(x for x, _, _ in low)
    if distance <= 0:
        return {0.0}
    lows, highs = (sorted(need for _, need, _ in part) for part in (low, high))
    return {0.0} | {max(0.0, (_quantile(highs, q) - _quantile(lows, q)) * half / distance) for q in QUANTILES}


def _intercepts(calls: Sequence[Call], slope: float) -> set[float]:
    """Return the intercepts to try: those below which a given share of the calls lies."""
    residuals = sorted(need - slope * x for x, need, _ in calls)
    return {_quantile(residuals, q) for q in QUANTILES}


def _quantile(ordered: Sequence[float], q: float) -> float:
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def _allocated(calls: Sequence[Call], slope: float, intercept: float) -> float:
    """Return what the line would have allocated, each attempt twice the one before."""
    least = min(need for _, need, _ in calls)
    total = 0.0
    for x, need, wall_s in calls:
        size = max(slope * x + intercept, least)
        attempt = size
        while attempt < need:
            attempt *= 2
        total += (2 * attempt - size) * wall_s
    return total
