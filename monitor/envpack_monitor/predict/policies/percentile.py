"""Percentiles of what was seen, the largest among them. Pure."""

from __future__ import annotations

import math

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.policies.each_resource import EachResource
from envpack_monitor.predict.policies.sizer import Needs, Sizer
from envpack_monitor.predict.protocol import Features

STEPS = {"memory_bytes": 250e6, "disk_bytes": 250e6, "gpu_memory_bytes": 250e6, "cores": 1.0}
"""In which steps Work Queue counts the resources."""


class Percentile(EachResource):
    """What a given share of the calls of the category stayed below; after a failure twice as much, and so on.

    The percentile of Witt et al., "Feedback-Based Resource Allocation for Batch Scheduling of Scientific Workflows"
    (HPCS 2019).

    Args:
        node: what the largest node has; no allocation has more.
        share: 0.95 is the 95th percentile.
    """

    def __init__(self, node: Allocation, share: float = 0.95) -> None:
        self.share = share
        self.rule = f"percentile {share * 100:g} of what was seen, then twice as much"
        super().__init__(node)

    def new_sizer(self, resource: str) -> Sizer:
        """Return one for the percentile."""
        return _PercentileSizer(self.share)


class MaxSeen(EachResource):
    """The largest amount seen, rounded up in steps as Work Queue does; then the whole node.

    Args:
        node: what the largest node has; no allocation has more.
        step_bytes: memory is rounded up to a multiple of it.
    """

    def __init__(self, node: Allocation, step_bytes: int = 250_000_000) -> None:
        self.step_bytes = step_bytes
        self.rule = f"the largest peak seen, in steps of {step_bytes // 1_000_000} MB, then the whole node"
        super().__init__(node)

    def new_sizer(self, resource: str) -> Sizer:
        """Return one that rounds up as is usual for that resource."""
        return _MaxSizer(self.step_bytes if resource == "memory_bytes" else STEPS[resource])


class _PercentileSizer(Needs):
    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def size(self, features: Features) -> float:
        return self.needs[max(0, math.ceil(self.share * len(self.needs)) - 1)]

    def next_size(self, failed: float, features: Features) -> float | None:
        return 2 * failed


class _MaxSizer(Needs):
    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def size(self, features: Features) -> float:
        return math.ceil(self.needs[-1] / self.step) * self.step

    def next_size(self, failed: float, features: Features) -> float | None:
        return None
