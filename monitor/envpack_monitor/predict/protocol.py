"""What every predictor is: it is told how calls went, and asked what to set aside for the next one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from envpack_monitor.allocation import Allocation
from envpack_monitor.usage import Usage

Features = Mapping[str, float]

HINT = "hint_memory_bytes"
"""The feature by which a user says how much memory a call will need, in bytes."""


class Predictor(Protocol):
    """A policy of allocation: deterministic, picklable, without input or output."""

    def predict(self, category: str, features: Features) -> Allocation:
        """Return what to set aside for the next call of a category.

        Args:
            category: which calls it is like.
            features: numbers known before the call; some or all may be missing.
        """
        ...

    def observe(self, category: str, features: Features, usage: Usage) -> None:
        """Learn from a call that has ended, with the usage of the attempt that succeeded."""
        ...

    def retry(self, category: str, features: Features, failed: Allocation) -> Allocation:
        """Return a larger allocation for a call that used up the memory of the failed one."""
        ...

    def explain(self, category: str, features: Features) -> Explanation:
        """Return why `predict` says what it says."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why an allocation is what it is.

    Args:
        rule: the rule in words.
        calls: on how many calls it rests.
        allocation: what the rule gives.
        retry_chance: the share of the seen calls that would have needed a second attempt; `None` if nothing was seen.
        retry_cost: what failed attempts are expected to cost, as a share of all that is allocated.
        ladder_bytes: the first allocation and those of the retries that would follow.
    """

    rule: str
    calls: int
    allocation: Allocation
    retry_chance: float | None = None
    retry_cost: float | None = None
    ladder_bytes: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return an object that JSON can hold."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"allocation": self.allocation.to_dict(), "ladder_bytes": list(self.ladder_bytes)}


def larger(failed: Allocation, memory_bytes: float, most_bytes: int) -> Allocation:
    """Return the allocation that follows a failed one.

    Args:
        failed: what was too small.
        memory_bytes: what the policy wants to give next; at least one byte more than failed is given.
        most_bytes: the memory of the largest node; more is never given.
    """
    wanted = max(int(memory_bytes), (failed.memory_bytes or 0) + 1)
    return replace(failed, memory_bytes=min(wanted, most_bytes), attempt=failed.attempt + 1)
