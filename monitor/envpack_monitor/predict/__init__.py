"""Predictors: from the usage of the calls so far to the allocation of the next one. Pure and deterministic."""

from __future__ import annotations

from collections.abc import Callable

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.experts import BestLadder
from envpack_monitor.predict.protocol import HINT, Explanation, Predictor
from envpack_monitor.predict.replay import Replay, killed_at_end, killed_on_crossing, replay
from envpack_monitor.predict.simple import Fixed, MaxSeen, Percentile, WholeNode

__all__ = [
    "HINT",
    "POLICIES",
    "BestLadder",
    "Explanation",
    "Fixed",
    "MaxSeen",
    "Percentile",
    "Predictor",
    "Replay",
    "WholeNode",
    "default_predictor",
    "killed_at_end",
    "killed_on_crossing",
    "replay",
]

POLICIES: dict[str, Callable[[Allocation], Predictor]] = {
    "default": BestLadder,
    "max-seen": MaxSeen,
    "percentile-95": Percentile,
    "whole-node": WholeNode,
}
"""Every policy that needs to know nothing but the largest node, by name."""


def default_predictor(node: Allocation | None = None) -> Predictor:
    """Return a new predictor of the default policy.

    Args:
        node: what the largest node has; no allocation has more memory.
    """
    return BestLadder(node)
