"""Policies of others, one small class each: what the default is compared with, and what may be chosen instead of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.policies.bucketing import ExhaustiveBucketing, GreedyBucketing
from envpack_monitor.predict.policies.cold import ColdStart
from envpack_monitor.predict.policies.first_allocation import MaxThroughput, MinWaste
from envpack_monitor.predict.policies.fixed import Fixed, Presets, WholeNode
from envpack_monitor.predict.policies.percentile import MaxSeen, Percentile
from envpack_monitor.predict.policies.regression import Linear, LowWastage
from envpack_monitor.predict.policies.regressor import Regressor, regression_tree
from envpack_monitor.predict.protocol import Predictor

__all__ = [
    "PUBLISHED",
    "ColdStart",
    "ExhaustiveBucketing",
    "Fixed",
    "GreedyBucketing",
    "Linear",
    "LowWastage",
    "MaxSeen",
    "MaxThroughput",
    "MinWaste",
    "Percentile",
    "Presets",
    "Regressor",
    "WholeNode",
]

PUBLISHED: dict[str, Callable[[Allocation], Predictor]] = {
    "whole-node": WholeNode,
    "presets": Presets,
    "max-seen": MaxSeen,
    "min-waste": MinWaste,
    "max-throughput": MaxThroughput,
    "percentile-95": Percentile,
    "linear": Linear,
    "low-wastage": LowWastage,
    "greedy-bucketing": GreedyBucketing,
    "greedy-bucketing-deterministic": partial(GreedyBucketing, seed=None),
    "exhaustive-bucketing": ExhaustiveBucketing,
    "exhaustive-bucketing-deterministic": partial(ExhaustiveBucketing, seed=None),
    "regression-tree": regression_tree,
}
"""Every policy of others that needs to know nothing but the largest node, by name."""
