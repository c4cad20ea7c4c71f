"""The simple policies: a fixed guess, the whole node, the largest seen, a percentile of what was seen."""

from __future__ import annotations

import bisect
import math
from dataclasses import replace

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.protocol import Explanation, Features, larger
from envpack_monitor.usage import Usage


class Fixed:
    """The same allocation for every call: what people write into job scripts.

    Args:
        allocation: what every call gets; a call that needs more gets the whole node next.
        node: what the largest node has.
    """

    def __init__(self, allocation: Allocation, node: Allocation) -> None:
        self.allocation = allocation
        self.node = node

    def predict(self, category: str, features: Features) -> Allocation:
        """Return the fixed allocation."""
        return self.allocation

    def observe(self, category: str, features: Features, usage: Usage) -> None:
        """Learn nothing."""

    def retry(self, category: str, features: Features, failed: Allocation) -> Allocation:
        """Return the memory of the whole node."""
        most_bytes = self.node.memory_bytes or 0
        return larger(failed, most_bytes, most_bytes)

    def explain(self, category: str, features: Features) -> Explanation:
        """Return that there is nothing to explain."""
        return Explanation(rule="a fixed guess", calls=0, allocation=self.allocation)


class WholeNode(Fixed):
    """The whole node for every call: nothing ever fails, and almost everything is wasted.

    Args:
        node: what the node has.
    """

    def __init__(self, node: Allocation) -> None:
        super().__init__(node, node)

    def explain(self, category: str, features: Features) -> Explanation:
        """Return that the node is the allocation."""
        return Explanation(rule="the whole node", calls=0, allocation=self.allocation)


class Percentile:
    """The peak that a given share of the calls of the category stayed below; then the whole node.

    Args:
        node: what the largest node has, and what a category without calls gets.
        share: 0.95 is the 95th percentile.
    """

    def __init__(self, node: Allocation, share: float = 0.95) -> None:
        self.node = node
        self.share = share
        self._peaks: dict[str, list[int]] = {}

    def predict(self, category: str, features: Features) -> Allocation:
        """Return the percentile of the peaks seen."""
        peaks = self._peaks.get(category)
        if not peaks:
            return self.node
        return replace(self.node, memory_bytes=peaks[math.ceil(self.share * len(peaks)) - 1])

    def observe(self, category: str, features: Features, usage: Usage) -> None:
        """Remember the peak."""
        if usage.peak_memory_bytes is not None:
            bisect.insort(self._peaks.setdefault(category, []), usage.peak_memory_bytes)

    def retry(self, category: str, features: Features, failed: Allocation) -> Allocation:
        """Return the memory of the whole node."""
        most_bytes = self.node.memory_bytes or 0
        return larger(failed, most_bytes, most_bytes)

    def explain(self, category: str, features: Features) -> Explanation:
        """Return the percentile and the share of calls above it."""
        peaks = self._peaks.get(category, [])
        allocation = self.predict(category, features)
        above = sum(peak > (allocation.memory_bytes or 0) for peak in peaks)
        return Explanation(
            rule=self._rule(),
            calls=len(peaks),
            allocation=allocation,
            retry_chance=above / len(peaks) if peaks else None,
        )

    def _rule(self) -> str:
        return f"percentile {self.share * 100:g} of the peaks seen"


class MaxSeen(Percentile):
    """The largest peak seen, rounded up as batch systems do; then the whole node.

    Args:
        node: what the largest node has, and what a category without calls gets.
        step_bytes: peaks are rounded up to a multiple of it.
    """

    def __init__(self, node: Allocation, step_bytes: int = 250_000_000) -> None:
        super().__init__(node, 1.0)
        self.step_bytes = step_bytes

    def predict(self, category: str, features: Features) -> Allocation:
        """Return the largest peak, rounded up."""
        allocation = super().predict(category, features)
        if category not in self._peaks or allocation.memory_bytes is None:
            return allocation
        return replace(allocation, memory_bytes=-(-allocation.memory_bytes // self.step_bytes) * self.step_bytes)

    def _rule(self) -> str:
        return f"the largest peak seen, in steps of {self.step_bytes // 1_000_000} MB"
