"""What a process at work was promised, and which of them must give way when a node is short of memory. Pure.

    promised: what calls were told that they may use; never more than the node has
    seen:     what processes have in memory; a call may have more than it was promised while nobody needs it

A call is ended for its memory only if three things come together: it has more than it was promised, nothing is left
that it could be promised, and the processes of the node have more in memory than the node has for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from envpack_executor.manager.residence import worth
from envpack_executor.manager.state import Call, NodeRecord, Phase, ProcessRecord
from envpack_monitor.allocation import Allocation


@dataclass(slots=True, eq=False)
class Lane:
    """A process that works, or starts in order to work, under one promise: for one call, or short ones in a row.

    Args:
        leader: the call for which the promise was made.
        process: where it runs.
        allocation: what is promised now.
        is_bound: the leader waits for its process to start.
        first: the number, at its process, of its first call.
        work_s: how much work it was given, in seconds as estimated.
        peak_bytes: the most memory that was seen since it began.
        is_killed: it is being ended because the node is short of memory.
    """

    leader: Call
    process: ProcessRecord
    allocation: Allocation
    is_bound: bool = False
    first: int = 0
    work_s: float = 0.0
    peak_bytes: int = 0
    is_killed: bool = False

    @property
    def category(self) -> str:
        """The category of all its calls."""
        return self.leader.function.category

    @property
    def group(self) -> str:
        """The category under which all its calls wait in the placement."""
        return group_of(self.leader)

    @property
    def excess_bytes(self) -> int:
        """How much more than it was promised it was seen to have; 0 or less where nothing was promised."""
        promised = self.allocation.memory_bytes
        return 0 if promised is None else self.process.seen_bytes - promised


def group_of(call: Call) -> str:
    """Return the category under which a call waits in the placement: one for each priority."""
    function = call.function
    priority = function.options.priority
    return f"{function.category} (priority {priority})" if priority else function.category


def is_short(node: NodeRecord, processes: Iterable[ProcessRecord]) -> bool:
    """Tell whether these processes of a node have more in memory than the node has for them."""
    return node.memory_bytes is not None and sum(each.seen_bytes for each in processes) > node.memory_bytes


def victim(node: NodeRecord, lanes: Iterable[Lane]) -> Lane | None:
    """Return the lane that must give way on a node, or None.

    Processes without calls are not counted: they are ended before any call is. So are those that are being ended: what
    they have will be free in a moment.
    """
    here = [lane for lane in lanes if lane.process.node is node and not lane.is_killed]
    if not is_short(node, (lane.process for lane in here)):
        return None
    over = [lane for lane in here if lane.excess_bytes > 0 and lane.process.phase is Phase.READY and not lane.is_bound]
    return max(over, key=lambda lane: lane.excess_bytes, default=None)


def idle_to_end(
    node: NodeRecord, promised_bytes: int, now_s: float, keep: ProcessRecord | None = None
) -> list[ProcessRecord]:
    """Return the processes without calls that must end so that what the others keep fits beside what is promised.

    Those that are worth least end first.

    Args:
        node: where.
        promised_bytes: what is promised there.
        now_s: what time it is.
        keep: a process that has just been given calls.
    """
    if node.memory_bytes is None:
        return []
    idle = [each for each in node.processes.values() if each.is_idle and each is not keep]
    idle.sort(key=lambda each: (worth(each, now_s), each.last_used))
    excess = promised_bytes + sum(each.seen_bytes for each in idle) - node.memory_bytes
    ending = []
    for process in idle:
        if excess <= 0:
            break
        if process.seen_bytes:
            ending.append(process)
            excess -= process.seen_bytes
    return ending
