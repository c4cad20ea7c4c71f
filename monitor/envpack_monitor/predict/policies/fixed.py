"""The policies that learn nothing: a fixed guess, the whole node, the users' own guesses. Pure."""

from __future__ import annotations

import math

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.protocol import HINT, Explanation, Features, larger
from envpack_monitor.usage import Usage


class Fixed:
    """The same allocation for every call: what people write into job scripts.

    Args:
        allocation: what every call gets; a call that needs more gets the whole node next.
        node: what the largest node has.
    """

    rule = "a fixed guess"

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
        return Explanation(rule=self.rule, calls=0, allocation=self.predict(category, features))


class WholeNode(Fixed):
    """The whole node for every call: nothing ever fails, and almost everything is wasted.

    Args:
        node: what the node has.
    """

    rule = "the whole node"

    def __init__(self, node: Allocation) -> None:
        super().__init__(node, node)


class Presets(Fixed):
    """What the user said (the feature `predict.HINT`); after a failure twice as much, three times as much, and so on.

    That is how the modules of nf-core ask, and what they ask where nobody said anything is what a call without a hint
    gets here.

    Args:
        node: what the largest node has; no allocation has more.
        default_bytes: the guess for calls without a hint.
    """

    rule = "the user's hint"

    def __init__(self, node: Allocation, default_bytes: float = 6e9) -> None:
        self.default_bytes = default_bytes
        super().__init__(node, node)

    def predict(self, category: str, features: Features) -> Allocation:
        """Return the hint, or the default guess."""
        return self._times(1, features)

    def retry(self, category: str, features: Features, failed: Allocation) -> Allocation:
        """Return the guess times the number of the attempt."""
        wanted = self._times(failed.attempt + 2, features).memory_bytes or 0
        return larger(failed, wanted, self.node.memory_bytes or wanted)

    def _times(self, times: int, features: Features) -> Allocation:
        wanted = math.ceil(times * (features.get(HINT, 0.0) or self.default_bytes))
        return Allocation(memory_bytes=min(wanted, self.node.memory_bytes or wanted))
