"""Predictors: from the usage of the calls so far to the allocation of the next one. Pure and deterministic."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from envpack_monitor.allocation import Allocation
from envpack_monitor.errors import FormatError
from envpack_monitor.predict.experts import BestLadder
from envpack_monitor.predict.failed import FailedRun, kill_mode, killed_after, killed_at_end, killed_on_crossing
from envpack_monitor.predict.policies import (
    PUBLISHED,
    ColdStart,
    ExhaustiveBucketing,
    Fixed,
    GreedyBucketing,
    Linear,
    LowWastage,
    MaxSeen,
    MaxThroughput,
    MinWaste,
    Percentile,
    Presets,
    Regressor,
    WholeNode,
)
from envpack_monitor.predict.protocol import HINT, Explanation, Predictor
from envpack_monitor.predict.replay import Replay, replay
from envpack_monitor.predict.trace import Trace, TracedCall, read_trace
from envpack_monitor.units import parse_bytes

__all__ = [
    "HINT",
    "POLICIES",
    "BestLadder",
    "ColdStart",
    "ExhaustiveBucketing",
    "Explanation",
    "FailedRun",
    "Fixed",
    "GreedyBucketing",
    "Linear",
    "LowWastage",
    "MaxSeen",
    "MaxThroughput",
    "MinWaste",
    "Percentile",
    "Predictor",
    "Presets",
    "Regressor",
    "Replay",
    "Trace",
    "TracedCall",
    "WholeNode",
    "default_predictor",
    "kill_mode",
    "killed_after",
    "killed_at_end",
    "killed_on_crossing",
    "make_policy",
    "policy_names",
    "read_trace",
    "replay",
]

POLICIES: dict[str, Callable[[Allocation], Predictor]] = {"default": BestLadder, **PUBLISHED}
"""Every policy that needs to know nothing but the largest node, by name."""


def policy_names() -> list[str]:
    """Return the names of all policies, the default first."""
    return list(POLICIES)


def make_policy(name: str, node: Allocation, failed: FailedRun = killed_at_end) -> Predictor:
    """Return a new predictor of a policy.

    Args:
        name: one of `policy_names()`; or `percentile-N`, or `fixed-SIZE` such as `fixed-2GB`.
        node: what the largest node has.
        failed: the share of its run that a failed attempt costs; only the default reckons with it.

    Raises:
        FormatError: there is no such policy; similar names are the hint.
        MissingLibraryError: it needs a distribution that is not installed.
    """
    if name == "default":
        return default_predictor(node, failed)
    if name in POLICIES:
        return POLICIES[name](node)
    kind, _, value = name.partition("-")
    try:
        if kind == "percentile" and 0 < float(value) <= 100:
            return Percentile(node, float(value) / 100)
        if kind == "fixed" and parse_bytes(value) > 0:
            return Fixed(Allocation(memory_bytes=parse_bytes(value)), node)
    except ValueError:
        pass
    close = difflib.get_close_matches(name, POLICIES, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(POLICIES)}"
    raise FormatError(f"no policy {name!r}", hint)


def default_predictor(node: Allocation | None = None, failed: FailedRun = killed_at_end) -> Predictor:
    """Return a new predictor of the default policy.

    Args:
        node: what the largest node has; no allocation has more memory.
        failed: the share of its run that a failed attempt is expected to cost.
    """
    return BestLadder(node, failed=failed)
