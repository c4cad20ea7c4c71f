"""What may begin on which node, where that is not only a question of free slots. Pure.

    node.is_draining:  it will leave as soon as it can: nothing is begun there
    node.leaves_at_s:  it said when it joined how long it lasts: nothing is begun that is likely to outlast it
    node.is_foreign:   its Python is another minor version than the client's: code that travels as bytecode is not
                       begun there, unless its environment brings an interpreter of its own

A node that drains is let go when its last process is gone: processes without calls are ended at once, those that
start, too, and the others when their last call has ended.
"""

from __future__ import annotations

from collections.abc import Iterable

from envpack_executor.manager.state import Call, ContextRecord, FunctionRecord, NodeRecord, Phase, ProcessRecord

# A call may take that much longer than its function took of late.
MARGIN = 1.5


def carries_bytecode(payload: bytes) -> bool:
    """Tell whether a pickle holds functions by value: their code is good for one minor version of Python alone.

    Cloudpickle finds the type of code by this name, which no other pickle has unless a value of the user's says it.
    """
    return b"CodeType" in payload


def may_begin(node: NodeRecord, call: Call, now_s: float) -> bool:
    """Tell whether a call may begin on a node, if it has room.

    Args:
        node: where.
        call: what.
        now_s: on the clock of the events.
    """
    return not (node.is_choosy and objection(node, call, now_s))


def objection(node: NodeRecord, call: Call, now_s: float) -> str:
    """Say why a call may not begin on a node; empty if it may."""
    if node.is_draining:
        return f"{node.name} is about to leave"
    if node.is_foreign and _needs_our_python(call.context, call):
        return f"{node.name} runs another minor version of Python, and functions travel by value"
    likely_s = _likely_s(call.function)
    if node.leaves_at_s is not None and now_s + likely_s >= node.leaves_at_s:
        return f"{node.name} leaves in {max(0.0, node.leaves_at_s - now_s):.3g} s, and it may take {likely_s:.3g} s"
    return ""


def may_host(node: NodeRecord, context: ContextRecord, now_s: float) -> bool:
    """Tell whether a process of a context may be started on a node ahead of its calls, of which some may wait."""
    if context.queue:
        return may_begin(node, context.queue[0], now_s)
    return not (node.is_draining or (node.is_foreign and _needs_our_python(context)))


def leading(node: NodeRecord, calls: Iterable[Call], now_s: float) -> int:
    """Return how many of the first of `calls` may begin on a node."""
    count = 0
    for call in calls:
        if not may_begin(node, call, now_s):
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
