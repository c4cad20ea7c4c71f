"""What may begin on which node, where that is not only a question of free slots. Pure.

    node.is_draining:  it will leave as soon as it can: nothing is begun there
    node.leaves_at_s:  it said when it joined how long it lasts: nothing is begun that is likely to outlast it, unless
                       it has just come, and no other that is there stays long enough: a further one would not either
    node.is_foreign:   its Python is another minor version than the client's: code that travels as bytecode is not
                       begun there, unless its environment brings an interpreter of its own

A node that drains is let go when its last process is gone: processes without calls are ended at once, those that
start, too, and the others when their last call has ended.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from envpack_executor.manager import resources
from envpack_executor.manager.state import Call, ContextRecord, FunctionRecord, NodeRecord, Phase, ProcessRecord

# A call may take that much longer than its function took of late.
MARGIN = 1.5
# A node has just come while less of its stay is over than this, without the time that a context takes to be set up.
JUST_COME = 0.25


def carries_bytecode(payload: bytes) -> bool:
    """Tell whether a pickle holds functions by value: their code is good for one minor version of Python alone.

    Cloudpickle finds the type of code by this name, which no other pickle has unless a value of the user's says it.
    """
    return b"CodeType" in payload


def may_begin(node: NodeRecord, call: Call, now_s: float, nodes: Collection[NodeRecord] = ()) -> bool:
    """Tell whether a call may begin on a node, if it has room.

    Args:
        node: where.
        call: what.
        now_s: on the clock of the events.
        nodes: all that are there.
    """
    return not (node.is_choosy and objection(node, call, now_s, nodes))


def objection(node: NodeRecord, call: Call, now_s: float, nodes: Collection[NodeRecord] = ()) -> str:
    """Say why a call may not begin on a node; empty if it may. Arguments as of `may_begin`."""
    if obstacle := _obstacle(node, call):
        return obstacle
    left_s, likely_s = _left_s(node, now_s), _likely_s(call.function)
    if likely_s < left_s or (_has_just_come(node, call.context, now_s) and not _has_longer(nodes, call)):
        return ""
    return f"{node.name} leaves in {max(0.0, left_s):.3g} s, and it may take {likely_s:.3g} s"


def takers(nodes: Collection[NodeRecord], call: Call, now_s: float) -> list[NodeRecord]:
    """Return the nodes on which a call may begin, as `may_begin` says of each, but with one look at the others."""
    able = [node for node in nodes if not (node.is_choosy and _obstacle(node, call))]
    likely_s = _likely_s(call.function)
    lasting = [node for node in able if likely_s < _left_s(node, now_s)]
    if len(lasting) == len(able):
        return able
    young = [node for node in able if likely_s >= _left_s(node, now_s) and _has_just_come(node, call.context, now_s)]
    return lasting if not young or _has_longer(nodes, call) else lasting + young


def hosts(nodes: Collection[NodeRecord], context: ContextRecord, now_s: float) -> list[NodeRecord]:
    """Return the nodes where a process of a context may be started ahead of its calls, of which some may wait."""
    if context.queue:
        return takers(nodes, context.queue[0], now_s)
    return [node for node in nodes if not (node.is_draining or (node.is_foreign and _needs_our_python(context)))]


def leading(node: NodeRecord, calls: Iterable[Call], now_s: float, nodes: Collection[NodeRecord] = ()) -> int:
    """Return how many of the first of `calls` may begin on a node; other arguments as of `may_begin`."""
    count = 0
    for call in calls:
        if not may_begin(node, call, now_s, nodes):
            break
        count += 1
    return count


def unneeded(node: NodeRecord) -> list[tuple[ProcessRecord, bool]]:
    """Return the processes that a draining node need not wait for, and of each whether it is to be killed."""
    return [
        (process, process.phase is Phase.STARTING)
        for process in node.processes.values()
        if process.phase is Phase.STARTING or process.is_idle
    ]


def _obstacle(node: NodeRecord, call: Call) -> str:
    """Say what of a node keeps a call from it, however short the call is; empty if nothing does."""
    if node.is_draining:
        return f"{node.name} is about to leave"
    if node.is_foreign and _needs_our_python(call.context, call):
        return f"{node.name} runs another minor version of Python, and functions travel by value"
    return ""


def _left_s(node: NodeRecord, now_s: float) -> float:
    return math.inf if node.leaves_at_s is None else node.leaves_at_s - now_s


def _has_just_come(node: NodeRecord, context: ContextRecord, now_s: float) -> bool:
    """Tell whether a further node like this one would hardly have more time for a call of a context."""
    if node.leaves_at_s is None or node.is_back or now_s >= node.leaves_at_s:
        return False
    return now_s - node.joined_at_s - _set_up_s(context) < JUST_COME * (node.leaves_at_s - node.joined_at_s)


def _has_longer(nodes: Iterable[NodeRecord], call: Call) -> bool:
    """Tell whether a call is likely to fit on one of `nodes`, now or when another one like that has come."""
    needed_s = (_likely_s(call.function) + _set_up_s(call.context)) / (1 - JUST_COME)
    return any(
        _left_s(node, node.joined_at_s) > needed_s
        and not _obstacle(node, call)
        and resources.could_hold(node, call.context.resources)
        for node in nodes
    )


def _set_up_s(context: ContextRecord) -> float:
    """Return how long the set-up of a process takes."""
    return context.set_up_s / max(context.set_ups, 1)


def _needs_our_python(context: ContextRecord, call: Call | None = None) -> bool:
    if context.environment is None or context.environment.kind != "inherit":
        return False
    has_bytecode = call is not None and (call.function.has_bytecode or carries_bytecode(call.payload))
    return context.has_bytecode or has_bytecode


def _likely_s(function: FunctionRecord) -> float:
    """Return how long a call will take at most, as far as is known or was said; 0 where nothing is."""
    likely_s = MARGIN * (function.estimate_s or 0.0)
    limit_s = function.options.timeout_s
    found_s = min(likely_s, limit_s) if limit_s and likely_s else likely_s or limit_s
    return max(found_s, function.options.least_s)
