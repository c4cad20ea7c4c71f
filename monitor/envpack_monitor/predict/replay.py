"""Replay calls that are over against a policy: what would it have allocated, wasted and failed? Pure.

Each call is predicted before it is observed, in the order given, from a cold start. The figure of merit is the
*absolute workflow efficiency*: memory really needed times seconds, over memory allocated times seconds, with the failed
attempts in the denominator (Tovar et al., "A Job Sizing Strategy for High-Throughput Scientific Workflows", TPDS 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.failed import FailedRun, killed_at_end
from envpack_monitor.predict.protocol import Predictor
from envpack_monitor.usage import Usage

ATTEMPTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a policy would have cost.

    Args:
        calls: how many calls were replayed.
        failures: attempts that would have been killed.
        used_byte_s: peak memory times wall time of all calls.
        allocated_byte_s: what the policy would have set aside, failed attempts included.
        impossible: calls that need more than the policy would ever give; they count as failures.
        predict_s: what asking took on average (the mean over all calls); 0 without a clock.
        observe_s: what telling took on average; 0 without a clock.
    """

    calls: int
    failures: int
    used_byte_s: float
    allocated_byte_s: float
    impossible: int = 0
    predict_s: float = 0.0
    observe_s: float = 0.0

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


def replay(
    predictor: Predictor,
    calls: Iterable[Usage],
    failed: FailedRun = killed_at_end,
    clock: Callable[[], float] = lambda: 0.0,
) -> Replay:
    """Return what a policy would have cost, cold start included.

    Args:
        predictor: the policy; it is changed by what it observes.
        calls: with `category`, `features`, `wall_s` and `peak_memory_bytes`, in the order of submission. Calls without
            a peak are left out.
        failed: the share of its run after which an attempt dies that got too little.
        clock: gives seconds; with one, it is measured what the policy itself costs.
    """
    count = failures = impossible = 0
    used = allocated = predict_s = observe_s = 0.0
    for call in calls:
        if not call.peak_memory_bytes:
            continue
        count += 1
        before = clock()
        first = predictor.predict(call.category, call.features)
        predict_s += clock() - before
        attempts = _attempts(predictor, call, first)
        failures += len(attempts) - 1
        used += call.peak_memory_bytes * call.wall_s
        allocated += sum(size * call.wall_s * failed(size, call.peak_memory_bytes) for size in attempts[:-1])
        allocated += attempts[-1] * call.wall_s
        if attempts[-1] < call.peak_memory_bytes:
            failures, impossible = failures + 1, impossible + 1
        before = clock()
        predictor.observe(call.category, call.features, call)
        observe_s += clock() - before
    return Replay(
        calls=count,
        failures=failures,
        used_byte_s=used,
        allocated_byte_s=allocated,
        impossible=impossible,
        predict_s=predict_s / max(count, 1),
        observe_s=observe_s / max(count, 1),
    )


def _attempts(predictor: Predictor, call: Usage, first: Allocation) -> list[int]:
    """Return the memory of each attempt; the last one succeeds unless the policy cannot give more."""
    allocation = first
    sizes = [allocation.memory_bytes or 0]
    while sizes[-1] < (call.peak_memory_bytes or 0) and len(sizes) < ATTEMPTS:
        allocation = predictor.retry(call.category, call.features, allocation)
        if (allocation.memory_bytes or 0) <= sizes[-1]:
            break
        sizes.append(allocation.memory_bytes or 0)
    return sizes
