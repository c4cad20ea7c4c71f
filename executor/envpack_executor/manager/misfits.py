"""Nodes where a context cannot be started while it can elsewhere: one broken machine must not fail all calls. Pure.

    started processes lost before they are ready, MAX_FAILED_STARTS times on one node ──others left──▶ a misfit
    a misfit ──no other node left, or AGAIN_AFTER_S have passed──▶ tried again

Only when no other node is left is the context given up, with the story of all its starts.
"""

from __future__ import annotations

from collections.abc import Collection

from envpack_executor.manager import admission, resources
from envpack_executor.manager.state import ContextRecord, NodeRecord

MAX_FAILED_STARTS = 3
AGAIN_AFTER_S = 60.0


def note(node: NodeRecord, context: ContextRecord, reason: str, can_retry: bool) -> bool:
    """Note that a process of a context was lost on a node before it was ready.

    Args:
        node: where.
        context: of which.
        reason: how, in words.
        can_retry: whether another one may have better luck there.

    Returns:
        Whether it has none there.
    """
    context.failed_starts += ((node.node, f"{reason} on {node.name}"),)
    here = sum(where == node.node for where, _ in context.failed_starts)
    return not can_retry or here >= MAX_FAILED_STARTS


def forgive(node: NodeRecord, context: ContextRecord) -> None:
    """Note that a process of a context became ready on a node."""
    if context.failed_starts:
        context.failed_starts = tuple(each for each in context.failed_starts if each[0] != node.node)
        context.misfits.pop(node.node, None)


def has_other(node: NodeRecord, context: ContextRecord, nodes: Collection[NodeRecord], now_s: float) -> bool:
    """Tell whether a context may be had on another node.

    Args:
        node: the one that it is not about.
        context: what it would host.
        nodes: all that are there.
        now_s: on the clock of the events.
    """
    return any(
        other is not node and not _is_misfit(other, context, now_s) and resources.could_hold(other, context.resources)
        for other in admission.hosts(nodes, context, now_s)
    )


def is_avoided(node: NodeRecord, context: ContextRecord, nodes: Collection[NodeRecord], now_s: float) -> bool:
    """Tell whether a context is not started on a node for now; arguments as of `has_other`."""
    return _is_misfit(node, context, now_s) and has_other(node, context, nodes, now_s)


def _is_misfit(node: NodeRecord, context: ContextRecord, now_s: float) -> bool:
    return now_s < context.misfits.get(node.node, 0.0)
