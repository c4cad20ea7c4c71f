"""Which context processes stay on a node, and which one leaves when another needs their memory. Pure.

    worth of a process = time to set it up again (s) x calls that it was given per second / what it keeps (bytes)

The frequency of calls is forgotten with time, so that what was used much long ago is worth little now. What a process
keeps is measured by its node as proportional set size; of one that nobody has measured, that of its context is assumed,
or else the mean of all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from envpack_executor.manager.state import ContextRecord, ManagerState, NodeRecord, Phase, ProcessRecord

FORGOTTEN_AFTER_S = 300.0
"""The time constant with which calls are forgotten."""

# The share of the newest observation in what is expected of the next process of a context.
_NEWEST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class ContextUse:
    """What became of a context so far.

    Args:
        name: of its set-up function, or of the function where there is none.
        processes: how many hold it now.
        set_ups: how many have become ready, ever.
        set_up_s: how long that took altogether, with the start of the interpreter, in seconds.
        memory_bytes: what its processes keep in memory between calls, as far as it was measured.
        calls: how many were sent to its processes.
        evictions: how many of its processes had to leave because others needed their memory.
    """

    name: str
    processes: int
    set_ups: int
    set_up_s: float
    memory_bytes: int
    calls: int
    evictions: int


def uses(state: ManagerState) -> tuple[ContextUse, ...]:
    """Return what became of all contexts; callable from any thread."""
    return tuple(_use(context) for context in list(state.contexts.values()))


def _use(context: ContextRecord) -> ContextUse:
    processes = list(context.processes.values())
    calls = context.past_calls + sum(process.sent for process in processes)
    kept_bytes = sum(process.kept_bytes for process in processes)
    return ContextUse(
        context.name, len(processes), context.set_ups, context.set_up_s, kept_bytes, calls, context.evictions
    )


def note_ready(process: ProcessRecord, now_s: float) -> None:
    """Take note of how long the set-up of a process took."""
    context = process.context
    context.set_ups += 1
    context.set_up_s += now_s - process.begun_s
    # Whoever started it wanted it at least once.
    process.frequency, process.counted_s = 1.0, now_s


def note_gone(process: ProcessRecord) -> None:
    """Take note of the calls of a process that is not there any more."""
    process.context.past_calls += process.sent


def note_kept(process: ProcessRecord, kept_bytes: int) -> None:
    """Take note of what a process keeps between calls."""
    process.kept_bytes = kept_bytes
    context = process.context
    context.kept_bytes += round((_NEWEST_SHARE if context.kept_bytes else 1.0) * (kept_bytes - context.kept_bytes))


def count_calls(process: ProcessRecord, now_s: float) -> None:
    """Bring the frequency of the calls of a process up to date; called when it begins to work and when it is judged."""
    new = process.sent - process.counted
    process.frequency = process.frequency * math.exp((process.counted_s - now_s) / FORGOTTEN_AFTER_S) + new
    process.counted, process.counted_s = process.sent, now_s


def worth(process: ProcessRecord, now_s: float) -> float:
    """Return what keeping a process is worth: the seconds of set-up that it saves, per second and byte."""
    count_calls(process, now_s)
    context = process.context
    rebuild_s = context.set_up_s / max(context.set_ups, 1)
    return rebuild_s * process.frequency / FORGOTTEN_AFTER_S / max(_bytes_of(process, 0), 1)


def expected_bytes(state: ManagerState, context: ContextRecord) -> int:
    """Return what the next process of a context will probably keep; 0 where nothing was ever measured."""
    if context.kept_bytes:
        return context.kept_bytes
    known = [other.kept_bytes for other in state.contexts.values() if other.kept_bytes]
    return sum(known) // len(known) if known else 0


def held_bytes(state: ManagerState, processes: Iterable[ProcessRecord]) -> int:
    """Return what processes keep, or will probably keep."""
    return sum(_bytes_of(process, expected_bytes(state, process.context)) for process in processes)


def leavers(
    state: ManagerState, node: NodeRecord, context: ContextRecord, is_extra: bool = False
) -> list[ProcessRecord] | None:
    """Return the idle processes that must leave a node so that another one of `context` finds room there.

    Args:
        state: what the manager knows.
        node: where.
        context: whose process is about to start.
        is_extra: it is one more beside those that the context has: none of them leaves for it.

    Returns:
        None if that would not be enough as long as other processes work there. Beside nobody, any context has room.
    """
    staying = [process for process in node.processes.values() if process.phase is not Phase.STOPPING]
    idle = _by_worth(state, [each for each in staying if not (is_extra and each.context is context)])
    excess = held_bytes(state, staying) + expected_bytes(state, context) - (node.context_bytes or math.inf)
    ending: list[ProcessRecord] = []
    while excess > 0 or len(staying) - len(ending) >= node.resident:
        if len(ending) == len(idle):
            return ending if len(ending) == len(staying) else None
        excess -= held_bytes(state, [idle[len(ending)]])
        ending.append(idle[len(ending)])
    return ending


def idle_of(node: NodeRecord) -> list[ProcessRecord]:
    """Return the processes of a node that have nothing to do."""
    return [process for process in node.processes.values() if process.is_idle]


def surplus(state: ManagerState, node: NodeRecord) -> list[ProcessRecord]:
    """Return the idle processes that must leave where those of a node keep more than they may; one may stay."""
    if node.context_bytes is None:
        return []
    staying = [process for process in node.processes.values() if process.phase is not Phase.STOPPING]
    excess = held_bytes(state, staying) - node.context_bytes
    ending: list[ProcessRecord] = []
    for process in _by_worth(state, staying):
        if excess <= 0 or len(ending) == len(staying) - 1:
            break
        ending.append(process)
        excess -= held_bytes(state, [process])
    return ending


def _by_worth(state: ManagerState, processes: Iterable[ProcessRecord]) -> list[ProcessRecord]:
    """Return those without calls, the one that is worth least first."""
    idle = [process for process in processes if process.is_idle]
    return sorted(idle, key=lambda process: (worth(process, state.now_s), process.last_used))


def _bytes_of(process: ProcessRecord, otherwise: int) -> int:
    return process.kept_bytes or process.context.kept_bytes or otherwise
