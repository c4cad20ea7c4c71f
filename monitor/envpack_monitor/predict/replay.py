"""Replay calls that are over against a policy: what would it have allocated, wasted and failed? Pure.

Each call is predicted before it is observed, in the order given, from a cold start. The figure of merit is the
*absolute workflow efficiency*: memory really needed times seconds, over memory allocated times seconds, with the failed
attempts in the denominator (Tovar et al., "A Job Sizing Strategy for High-Throughput Scientific Workflows", TPDS 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.protocol import Predictor
from envpack_monitor.usage import Usage

ATTEMPTS = 100

_CURVE = ((0.0, 0.0), (0.5, 0.09), (0.7, 0.16), (0.9, 0.31), (0.95, 0.38), (1.0, 0.74))
"""After which share of its run a call first crosses a share of its peak, measured on 4,712 memory series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a policy would have cost.

    Args:
        calls: how many calls were replayed.
        failures: attempts that would have been killed.
        used_byte_s: peak memory times wall time of all calls.
        allocated_byte_s: what the policy would have set aside, failed attempts included.
        impossible: calls that need more than the policy would ever give; they count as failures.
    """

    calls: int
    failures: int
    used_byte_s: float
    allocated_byte_s: float
    impossible: int = 0

    @property
    def awe(self) -> float:
        """Absolute workflow efficiency, 0 to 1; 0 if nothing was allocated."""
        return self.used_byte_s / self.allocated_byte_s if self.allocated_byte_s else 0.0

    @property
    def wasted_byte_s(self) -> float:
        """Memory times seconds that were set aside and not needed."""
        return self.allocated_byte_s - self.used_byte_s

    def to_dict(self) -> dict[str, Any]:
        """Return an object that JSON can hold."""
        return {name: getattr(self, name) for name in self.__slots__} | {"awe": self.awe}


def killed_at_end(allocated_bytes: float, peak_bytes: float) -> float:
    """Return the share of its run that a failed attempt lasts, as the literature assumes: all of it."""
    return 1.0


def killed_on_crossing(allocated_bytes: float, peak_bytes: float) -> float:
    """Return the share of its run after which a real call crosses its allocation, by the measured curve."""
    share = allocated_bytes / peak_bytes
    for (low, start), (high, end) in pairwise(_CURVE):
        if share <= high:
            return start + (end - start) * (share - low) / (high - low)
    return 1.0


def replay(
    predictor: Predictor, calls: Iterable[Usage], failed_share: Callable[[float, float], float] = killed_at_end
) -> Replay:
    """Return what a policy would have cost, cold start included.

    Args:
        predictor: the policy; it is changed by what it observes.
        calls: with `category`, `features`, `wall_s` and `peak_memory_bytes`, in the order of submission. Calls without
            a peak are left out.
        failed_share: from allocated and needed bytes to the share of its run after which an attempt dies.
    """
    count = failures = impossible = 0
    used = allocated = 0.0
    for call in calls:
        if not call.peak_memory_bytes:
            continue
        count += 1
        attempts = _attempts(predictor, call)
        failures += len(attempts) - 1
        used += call.peak_memory_bytes * call.wall_s
        allocated += sum(size * call.wall_s * failed_share(size, call.peak_memory_bytes) for size in attempts[:-1])
        allocated += attempts[-1] * call.wall_s
        if attempts[-1] < call.peak_memory_bytes:
            failures, impossible = failures + 1, impossible + 1
        predictor.observe(call.category, call.features, call)
    return Replay(calls=count, failures=failures, used_byte_s=used, allocated_byte_s=allocated, impossible=impossible)


def _attempts(predictor: Predictor, call: Usage) -> list[int]:
    """Return the memory of each attempt; the last one succeeds unless the policy cannot give more."""
    allocation: Allocation = predictor.predict(call.category, call.features)
    sizes = [allocation.memory_bytes or 0]
    while sizes[-1] < (call.peak_memory_bytes or 0) and len(sizes) < ATTEMPTS:
        allocation = predictor.retry(call.category, call.features, allocation)
        if (allocation.memory_bytes or 0) <= sizes[-1]:
            break
        sizes.append(allocation.memory_bytes or 0)
    return sizes
