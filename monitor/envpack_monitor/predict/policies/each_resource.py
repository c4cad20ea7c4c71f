"""`EachResource`: one sizer per category and resource, put together into one allocation. Pure."""

from __future__ import annotations

import math

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.policies.sizer import Sizer
from envpack_monitor.predict.protocol import Explanation, Features, larger
from envpack_monitor.usage import Usage

NEEDS = {
    "memory_bytes": "peak_memory_bytes",
    "disk_bytes": "disk_bytes",
    "gpu_memory_bytes": "gpu_memory_bytes",
    "cores": "cores",
}
"""The resources of an allocation that are sized, and the figures of a usage that tell what was needed of them."""

FIRST_BYTES = 1e9
"""What a category without calls gets, doubled after each failure. That is how bucketing explores; the other papers
begin with the whole node, which would spoil their figures wherever there are many categories."""

STUCK_AFTER = 3.0
"""A call may be stuck when it has taken so many times as long as the longest seen. Time is not sized: a call that was
killed because it was late would only be late once more."""


class EachResource:
    """A policy made of sizers, one per category and resource. What was never measured is not promised.

    Args:
        node: what the largest node has; no allocation has more.
    """

    rule = ""
    """The policy in words."""

    def __init__(self, node: Allocation) -> None:
        self.node = node
        self._most_bytes = node.memory_bytes or 1 << 50
        self._sizers: dict[str, dict[str, Sizer]] = {}
        self._calls: dict[str, int] = {}
        self._longest_s: dict[str, float] = {}

    def new_sizer(self, resource: str) -> Sizer:
        """Return a sizer that knows nothing yet.

        Args:
            resource: the name of a field of `Allocation`.
        """
        raise NotImplementedError

    def predict(self, category: str, features: Features) -> Allocation:
        """Return what the sizers say, together."""
        sizers = self._sizers.get(category, {})
        sizes = {"memory_bytes": FIRST_BYTES} | {name: sizer.size(features) for name, sizer in sizers.items()}
        longest_s = self._longest_s.get(category)
        return Allocation(
            cores=_in_tenths(sizes.pop("cores", 1.0)),
            wall_s=None if longest_s is None else STUCK_AFTER * longest_s + 1,
            **{name: self._bounded(name, size) for name, size in sizes.items()},
        )

    def observe(self, category: str, features: Features, usage: Usage) -> None:
        """Let each sizer learn its figure, as far as it was measured."""
        sizers = self._sizers.setdefault(category, {})
        self._calls[category] = self._calls.get(category, 0) + 1
        self._longest_s[category] = max(usage.wall_s, self._longest_s.get(category, 0.0))
        for resource, figure in NEEDS.items():
            need = getattr(usage, figure)
            if need is not None and (need or resource != "memory_bytes"):
                if resource not in sizers:
                    sizers[resource] = self.new_sizer(resource)
                sizers[resource].learn(features, need, usage.wall_s)

    def retry(self, category: str, features: Features, failed: Allocation) -> Allocation:
        """Return the failed allocation with the memory that the sizer says comes next."""
        sizer = self._sizers.get(category, {}).get("memory_bytes")
        failed_bytes = float(failed.memory_bytes or 0)
        memory = sizer.next_size(failed_bytes, features) if sizer else 2 * failed_bytes
        return larger(failed, self._most_bytes if memory is None else math.ceil(memory), self._most_bytes)

    def explain(self, category: str, features: Features) -> Explanation:
        """Return the rule and the share of the calls seen that would have needed a retry."""
        allocation = self.predict(category, features)
        sizer = self._sizers.get(category, {}).get("memory_bytes")
        return Explanation(
            rule=self.rule if sizer else f"{self.rule}; no calls yet",
            calls=self._calls.get(category, 0),
            allocation=allocation,
            retry_chance=sizer.exceeding(float(allocation.memory_bytes or 0)) if sizer else None,
        )

    def _bounded(self, resource: str, size: float) -> int:
        most: int | None = getattr(self.node, resource)
        return math.ceil(size) if most is None else min(math.ceil(size), most)


def _in_tenths(cores: float) -> float:
    """Round cores up to a tenth: what was busy is a figure with noise."""
    return max(0.1, math.ceil(10 * cores - 1e-6) / 10)
