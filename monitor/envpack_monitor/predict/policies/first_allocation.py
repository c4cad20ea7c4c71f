"""The first allocation of a job sizing strategy: one size tried first, the largest seen for those that need more. Pure.

After Tovar, da Silva, Juve, Deelman, Allcock, Thain, Livny, "A Job Sizing Strategy for High-Throughput Scientific
Workflows" (TPDS 2018). With sizes a that were seen, m the largest of them, p(r) how often a need r was met and t(r) its
mean time:

    least waste            minimises  a E[t] + m sum over r > a of t(r) p(r)
    largest throughput     maximises  (m / a P(r <= a) + P(r > a)) / (E[t] + sum over r > a of t(r) p(r))

Both are found exactly over all sizes seen, in one pass from the largest to the smallest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from envpack_monitor.predict.policies.each_resource import EachResource
from envpack_monitor.predict.policies.sizer import Needs, Schedule, Sizer
from envpack_monitor.predict.protocol import Features

Choice = Callable[[Sequence[float], Sequence[float]], float]


def least_waste(needs: Sequence[float], walls_s: Sequence[float]) -> float:
    """Return the first allocation with the least expected allocation, the smallest one if several have it.

    Args:
        needs: what each call needed, ascending.
        walls_s: for how many seconds.
    """
    total_s, later_s = sum(walls_s), 0.0
    best, least = needs[-1], float("inf")
    for position in range(len(needs) - 1, -1, -1):
        size = needs[position]
        # Of equal needs the last one stands for all: what comes before it in the list is not above it.
        if position + 1 == len(needs) or needs[position + 1] > size:
            cost = size * total_s + needs[-1] * later_s
            if cost <= least:
                best, least = size, cost
        later_s += walls_s[position]
    return best


def most_throughput(needs: Sequence[float], walls_s: Sequence[float]) -> float:
    """Return the first allocation with which most calls end per time on a node as large as the largest need.

    Args:
        needs: what each call needed, ascending.
        walls_s: for how many seconds.
    """
    total_s, later_s, count = sum(walls_s), 0.0, len(needs)
    best, most = needs[-1], -1.0
    for position in range(count - 1, -1, -1):
        size = needs[position]
        if (position + 1 == count or needs[position + 1] > size) and size > 0:
            below = position + 1
            rate = (below * needs[-1] / size + (count - below)) / ((total_s + later_s) or 1.0)
            if rate >= most:
                best, most = size, rate
        later_s += walls_s[position]
    return best


class MinWaste(EachResource):
    """The first allocation that wastes least; then the largest seen; then the whole node.

    Args:
        node: what the largest node has; no allocation has more.
    """

    rule = "the first allocation of least waste, then the largest seen, then the whole node"

    def new_sizer(self, resource: str) -> Sizer:
        """Return one for the least waste."""
        return _FirstSizer(least_waste)


class MaxThroughput(EachResource):
    """The first allocation with which most calls end per time; then the largest seen; then the whole node.

    Args:
        node: what the largest node has; no allocation has more.
    """

    rule = "the first allocation of most throughput, then the largest seen, then the whole node"

    def new_sizer(self, resource: str) -> Sizer:
        """Return one for the most throughput."""
        return _FirstSizer(most_throughput)


class _FirstSizer(Needs):
    def __init__(self, choose: Choice) -> None:
        super().__init__()
        self.choose = choose
        self.first = 0.0
        self._schedule = Schedule()

    def size(self, features: Features) -> float:
        return self.first

    def next_size(self, failed: float, features: Features) -> float | None:
        return self.needs[-1] if self.needs[-1] > failed else None

    def learn(self, features: Features, need: float, wall_s: float) -> None:
        super().learn(features, need, wall_s)
        if self._schedule.is_due(len(self.needs)):
            self.first = self.choose(self.needs, self.walls_s)
