"""What a call that has no end yet waits for, in words. Pure: reads what the manager knows, and changes nothing.

queued:       environment ▶ node that may run it ▶ set-up ▶ memory or slot ▶ calls before it
outstanding:  calls before it at its process ▶ runs
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from envpack_executor.manager import admission, resources
from envpack_executor.manager.lanes import group_of
from envpack_executor.manager.state import Call, ManagerState, Phase, ProcessRecord

if TYPE_CHECKING:
    from envpack_executor.manager.sized import Wait


def reason(state: ManagerState, call: Call, waits: Sequence[Wait] = (), about_nodes: str = "") -> str:
    """Say what a call waits for, or for how long it has run.

    Args:
        state: what the manager knows.
        call: a call that has no end yet.
        waits: why calls wait for what they are promised, where they are promised something.
        about_nodes: what whoever supplies nodes says about those that are on their way.
    """
    for process in call.context.processes.values():
        if call in process.outstanding:
            return _at(process, process.outstanding.index(call), state.now_s)
    before = _before(call)
    if before is None:
        return "it has been submitted just now"
    behind = f"; {_count(before, 'call')} of its context before it" if before else ""
    return _queued(state, call, waits, about_nodes) + _tries(call) + behind


def _at(process: ProcessRecord, index: int, now_s: float) -> str:
    where = f"{process.node.name}, pid {process.pid}" if process.pid else process.node.name
    if process.context.is_threaded:
        others = len(process.outstanding) - 1
        return f"runs on {where}, beside {_count(others, 'other call')}{_tries(process.outstanding[index])}"
    since = f"since {max(0.0, now_s - process.since_s):.3g} s"
    call = process.outstanding[index]
    if index == 0:
        doing = "being cancelled, runs" if call.is_unwanted else "runs"
        return f"{doing} {since} on {where}{_tries(call)}"
    first = process.outstanding[0].function.name
    asked = "; it was asked back" if process.is_asked else ""
    return f"{_count(index, 'call')} before it on {where}, of which {first!r} runs {since}{asked}"


def _queued(state: ManagerState, call: Call, waits: Sequence[Wait], about_nodes: str) -> str:
    context = call.context
    if context.environment is None:
        return "its environment is being found out and packed"
    more = f": {about_nodes}" if about_nodes else ""
    if not state.nodes:
        return f"no node has joined yet{more}"
    alive = [process for process in context.processes.values() if process.phase is not Phase.STOPPING]
    starting = [process for process in alive if process.phase is Phase.STARTING]
    if starting and len(starting) == len(alive):
        first = min(starting, key=lambda process: process.begun_s)
        return f"set-up of {context.name!r} runs since {state.now_s - first.begun_s:.3g} s on {first.node.name}"
    for wait in waits:
        if wait.category == group_of(call):
            return wait.reason
    nodes = state.nodes.values()
    if all(objections := [admission.objection(node, call, state.now_s, nodes) for node in nodes]):
        return "; ".join(objections)
    if context.resources is not None and (lacks := resources.reason(context, list(state.nodes.values()))):
        return lacks
    if all(node.busy >= node.slots for node in state.nodes.values()):
        slots = sum(node.slots for node in state.nodes.values())
        return f"no free slot: {slots} of {slots} are taken on {_count(len(state.nodes), 'node')}{more}"
    if not alive and any(node.is_short for node in state.nodes.values()):
        return f"no room: no node has memory for another process of {context.name!r} beside those that work"
    return "its turn has not come"


def _before(call: Call) -> int | None:
    """Return how many calls of its context go before a queued call; None when it is not there."""
    for number, other in enumerate(call.context.queue):
        if other is call:
            return number
    return None


def _tries(call: Call) -> str:
    failures = call.troubles.failures if call.troubles is not None else ()
    tries = (*failures, *call.losses)
    return f"; {'try' if len(tries) == 1 else 'tries'} before: {'; '.join(tries)}" if tries else ""


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
