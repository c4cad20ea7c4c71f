"""Greedy and exhaustive bucketing: calls fall into buckets of similar need; one is drawn for the next call. Pure.

After Phung, Ward, Chard, Thain, "Not All Tasks Are Created Equal: Adaptive Resource Allocation for Heterogeneous Tasks
in Dynamic Workflows" (WORKS 2021), and Phung, Thain, "Adaptive Task-Oriented Resource Allocation for Large Dynamic
Workflows on Opportunistic Resources" (IPDPS 2024). As published:

- Calls count by their number: the hundredth a hundred times as much as the first.
- A bucket is a run of neighbours in the sorted needs; its size is the largest of them, its probability their share.
- The first calls explore: 1 GB (one core), doubled after each failure.
- Then a bucket is drawn by probability; after a failure, one of those above; above the last one, twice as much.
- *Greedy* cuts a bucket where the expected waste of the two parts is least, and goes on with the parts.
- *Exhaustive* compares one to ten buckets, cut where the largest need is divided evenly, by their expected waste.

The deterministic variants do not draw: they go up those of the buckets that together are expected to cost least.
"""

from __future__ import annotations

import bisect
import math
import operator
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.ladder import best_ladder
from envpack_monitor.predict.policies.each_resource import EachResource
from envpack_monitor.predict.policies.sizer import Schedule, Sizer
from envpack_monitor.predict.protocol import Explanation, Features

EXPLORING_CALLS = 5
"""How many calls of a category explore. Published are ten; five do better on nearly all traces that we have."""

MOST_BUCKETS = 10
FIRST = {"memory_bytes": 1e9, "disk_bytes": 1e9, "gpu_memory_bytes": 1e9, "cores": 1.0}


@dataclass(frozen=True, slots=True)
class Bucket:
    """A run of neighbours in the sorted needs.

    Args:
        size: the largest need in it.
        probability: its share of the significance of all calls.
        mean: the mean need, weighted by significance.
    """

    size: float
    probability: float
    mean: float


class Points:
    """Needs in ascending order with their significance, and sums of both: what is between two positions costs nothing.

    Args:
        needs: ascending.
        significances: of each of them.
    """

    def __init__(self, needs: Sequence[float], significances: Sequence[float]) -> None:
        self.needs = needs
        self.weights = list(accumulate(significances, initial=0))
        self.sums = list(accumulate(map(operator.mul, needs, significances), initial=0))

    def bucket(self, start: int, stop: int) -> Bucket:
        """Return the bucket of the positions from `start` to before `stop`."""
        weight = self.weights[stop] - self.weights[start]
        mean = (self.sums[stop] - self.sums[start]) / weight
        return Bucket(self.needs[stop - 1], weight / self.weights[-1], mean)


Cut = Callable[[Points], list[Bucket]]


def greedy_buckets(points: Points) -> list[Bucket]:
    """Return the buckets of greedy bucketing: cut in two where that wastes least, as long as a cut helps."""
    ends, open_ranges = [], [(0, len(points.needs))]
    while open_ranges:
        start, stop = open_ranges.pop()
        cut = _best_cut(points, start, stop)
        if cut == stop:
            ends.append(stop)
        else:
            open_ranges += [(start, cut), (cut, stop)]
    ends.sort()
    return [points.bucket(start, stop) for start, stop in zip([0, *ends], ends, strict=False)]


def _best_cut(points: Points, start: int, stop: int) -> int:
    """Return before which position to cut so that the expected waste is least; `stop` if no cut is better."""
    weights, sums, needs = points.weights, points.sums, points.needs
    first_weight, last_weight, first_sum, last_sum = weights[start], weights[stop], sums[start], sums[stop]
    whole, largest = last_weight - first_weight, needs[stop - 1]
    best, least = stop, math.inf
    for cut in range(start + 1, stop + 1):
        low_weight, size = weights[cut] - first_weight, needs[cut - 1]
        high_weight = last_weight - weights[cut]
        low_mean = (sums[cut] - first_sum) / low_weight
        high_mean = (last_sum - sums[cut]) / high_weight if cut < stop else largest
        low, high = low_weight / whole, high_weight / whole
        cost = low * (low * (size - low_mean) + high * (largest - low_mean)) + high * (
            low * (size + largest - high_mean) + high * (largest - high_mean)
        )
        if cost <= least:
            best, least = cut, cost
    return best


def exhaustive_buckets(points: Points, most: int = MOST_BUCKETS) -> list[Bucket]:
    """Return the buckets of exhaustive bucketing: of one to `most` even parts, those of least expected waste."""
    choices = [_even_buckets(points, parts) for parts in range(1, most + 1)]
    return min(choices, key=expected_waste)


def _even_buckets(points: Points, parts: int) -> list[Bucket]:
    """Return the buckets that end at the multiples of the largest need over `parts`, without empty ones."""
    largest = points.needs[-1]
    ends = {bisect.bisect_right(points.needs, largest * part / parts) for part in range(1, parts)}
    bounds = sorted((ends | {len(points.needs)}) - {0})
    return [points.bucket(start, stop) for start, stop in zip([0, *bounds], bounds, strict=False)]


def waste_table(buckets: Sequence[Bucket]) -> list[list[float]]:
    """Return what is wasted when a call of bucket `row` gets bucket `column` first, retries included."""
    table = []
    for position, bucket in enumerate(buckets):
        row = [each.size - bucket.mean for each in buckets]
        # A bucket that is too small costs its size, and then one of those above is drawn.
        weight = sum(each.probability for each in buckets[position:])
        waste = sum(each.probability * cost for each, cost in zip(buckets[position:], row[position:], strict=True))
        for column in range(position - 1, -1, -1):
            row[column] = buckets[column].size + waste / weight
            weight += buckets[column].probability
            waste += buckets[column].probability * row[column]
        table.append(row)
    return table


def expected_waste(buckets: Sequence[Bucket]) -> float:
    """Return the expected waste of drawing buckets by their probability, for calls that fall into them likewise."""
    return sum(
        bucket.probability * each.probability * waste
        for bucket, row in zip(buckets, waste_table(buckets), strict=True)
        for each, waste in zip(buckets, row, strict=True)
    )


class Bucketing(EachResource):
    """Bucketing, in one of its ways to cut and with or without drawing.

    Args:
        node: what the largest node has; no allocation has more.
        cut: how needs become buckets.
        seed: of the draws; `None` for the deterministic variant.
        exploring_calls: so many calls of a category begin at 1 GB and double.
    """

    def __init__(
        self, node: Allocation, cut: Cut, seed: int | None = 0, exploring_calls: int = EXPLORING_CALLS
    ) -> None:
        self.cut = cut
        self.exploring_calls = exploring_calls
        self.random = None if seed is None else random.Random(seed)
        name = cut.__name__.removesuffix("_buckets")
        self.rule = (
            f"{name} bucketing, {'the best ladder of buckets' if seed is None else 'a bucket drawn by probability'}"
        )
        super().__init__(node)

    def new_sizer(self, resource: str) -> Sizer:
        """Return one that cuts as this policy does; all of them draw from one sequence."""
        return BucketSizer(self.cut, self.random, FIRST[resource], self.exploring_calls)

    def explain(self, category: str, features: Features) -> Explanation:
        """Return the rule with a draw that does not count."""
        if self.random is None:
            return super().explain(category, features)
        state = self.random.getstate()
        explanation = super().explain(category, features)
        self.random.setstate(state)
        return explanation


class GreedyBucketing(Bucketing):
    """Greedy bucketing as published.

    Args:
        node: what the largest node has; no allocation has more.
        seed: of the draws; `None` for the deterministic variant.
    """

    def __init__(self, node: Allocation, seed: int | None = 0) -> None:
        super().__init__(node, greedy_buckets, seed)


class ExhaustiveBucketing(Bucketing):
    """Exhaustive bucketing as published.

    Args:
        node: what the largest node has; no allocation has more.
        seed: of the draws; `None` for the deterministic variant.
    """

    def __init__(self, node: Allocation, seed: int | None = 0) -> None:
        super().__init__(node, exhaustive_buckets, seed)


class BucketSizer:
    """Sizes one resource of one category by buckets.

    Args:
        cut: how needs become buckets.
        draws: where the draws come from; `None` for the best of all ladders of buckets.
        first: what the first calls explore from.
        exploring_calls: how many do.
    """

    def __init__(self, cut: Cut, draws: random.Random | None, first: float, exploring_calls: int) -> None:
        self.cut = cut
        self.draws = draws
        self.first = first
        self.exploring_calls = exploring_calls
        self.buckets: list[Bucket] = []
        self._rungs: list[float] = []
        self._needs: list[float] = []
        self._significances: list[float] = []
        self._schedule = Schedule()

    def size(self, features: Features) -> float:
        """Return the size of a bucket; while exploring, what is explored first."""
        return self._draw(0) if self.buckets else self.first

    def next_size(self, failed: float, features: Features) -> float | None:
        """Return the size of a bucket above what failed; above all of them twice as much."""
        above = bisect.bisect_right([bucket.size for bucket in self.buckets], failed)
        return self._draw(above) if above < len(self.buckets) else 2 * failed

    def learn(self, features: Features, need: float, wall_s: float) -> None:
        """Put the need in its place, and cut anew when enough has changed."""
        at = bisect.bisect_right(self._needs, need)
        self._needs.insert(at, float(need))
        self._significances.insert(at, float(len(self._needs)))
        if len(self._needs) >= self.exploring_calls and self._schedule.is_due(len(self._needs)):
            self.buckets = self.cut(Points(self._needs, self._significances))
            if self.draws is None:
                sizes = [bucket.size for bucket in self.buckets]
                self._rungs, _ = best_ladder(sizes, [bucket.probability for bucket in self.buckets])

    def exceeding(self, size: float) -> float | None:
        """Return the share of calls above `size`."""
        return 1 - bisect.bisect_right(self._needs, size) / len(self._needs) if self._needs else None

    def _draw(self, above: int) -> float:
        """Return the size of one of the buckets from `above` on, by their probability."""
        if self.draws is None:
            return self._rungs[bisect.bisect_left(self._rungs, self.buckets[above].size)]
        draw = self.draws.random() * sum(bucket.probability for bucket in self.buckets[above:])
        for bucket in self.buckets[above:-1]:
            draw -= bucket.probability
            if draw < 0:
                return bucket.size
        return self.buckets[-1].size
