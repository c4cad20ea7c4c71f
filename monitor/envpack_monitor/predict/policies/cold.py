"""`ColdStart`: another policy answers for new categories, so that policies are compared from the same start. Pure."""

from __future__ import annotations

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.protocol import Explanation, Features, Predictor
from envpack_monitor.usage import Usage


class ColdStart:
    """A policy whose categories begin with another one.

    Args:
        policy: answers when it has seen enough calls of a category.
        beginner: answers until then; it is told of these calls only.
        calls: how many calls are enough.
    """

    def __init__(self, policy: Predictor, beginner: Predictor, calls: int = 1) -> None:
        self.policy = policy
        self.beginner = beginner
        self.calls = calls
        self._seen: dict[str, int] = {}

    def predict(self, category: str, features: Features) -> Allocation:
        """Return what the one whose turn it is says."""
        return self._asked(category).predict(category, features)

    def observe(self, category: str, features: Features, usage: Usage) -> None:
        """Tell the policy, and in the beginning the beginner."""
        seen = self._seen[category] = self._seen.get(category, 0) + 1
        self.policy.observe(category, features, usage)
        if seen <= self.calls:
            self.beginner.observe(category, features, usage)

    def retry(self, category: str, features: Features, failed: Allocation) -> Allocation:
        """Return what the one whose turn it is says."""
        return self._asked(category).retry(category, features, failed)

    def explain(self, category: str, features: Features) -> Explanation:
        """Return what the one whose turn it is says."""
        return self._asked(category).explain(category, features)

    def _asked(self, category: str) -> Predictor:
        return self.policy if self._seen.get(category, 0) >= self.calls else self.beginner
