"""The manager's reactor where calls are promised memory and cores before they are sent. Pure.

    queue of a context ──put──▶ placement ──Start──▶ lane: a warm process, or a new one ──▶ outstanding
                                    ▲                    │ more memory in place, or ended and put again with more
                                    └────exhausted───────┘

It is the reactor of `envpack_executor.manager.reactor` with another schedule: `envpack_monitor.predict.placement`
decides which call goes where, and with how much. Guarantees, besides those of the other: promises on a node never add
up to more than it has; no more of its processes work than it has slots; a call that was ended for its memory is put
again with more, until it had all of the largest node.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from envpack_executor.errors import ResourcesError
from envpack_executor.manager import residence, resources
from envpack_executor.manager.events import (
    CloseRequested,
    ContextPrepared,
    EndProcess,
    Instruction,
    NodeDraining,
    NodeJoined,
    NodeLost,
    ResultsArrived,
)
from envpack_executor.manager.lanes import Lane, group_of, idle_to_end, victim
from envpack_executor.manager.queues import CallQueue
from envpack_executor.manager.reactor import MAX_OUTSTANDING, OUTSTANDING_S, WORTH_A_PROCESS_S, ManagerReactor
from envpack_executor.manager.sizing import Sizer
from envpack_executor.manager.state import (
    Call,
    ContextRecord,
    FunctionRecord,
    ManagerState,
    NodeRecord,
    Phase,
    ProcessRecord,
)
from envpack_executor.messages import MemorySeen, NodeId, ProcessGone, ProcessId
from envpack_monitor.allocation import Allocation
from envpack_monitor.errors import LimitExceeded
from envpack_monitor.predict.node import NodeState
from envpack_monitor.predict.placement import Placement, Start
from envpack_monitor.units import format_figure

# After so much work in a row a lane ends when calls of another category wait: then it is decided anew who goes first.
LANE_S = 0.05
# After so many retries for its memory a call is given all of the largest node.
MOST_RETRIES = 6


@dataclass(frozen=True, slots=True)
class Promise:
    """What a call that runs, or short ones in a row, may have.

    Args:
        category: theirs.
        node: where, in words.
        pid: of their process there; 0 while it starts.
        allocation: what they may have now.
        seen_bytes: what their process had in memory when it was last looked at; 0 before.
    """

    category: str
    node: str
    pid: int
    allocation: Allocation
    seen_bytes: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Why calls wait.

    Args:
        category: theirs.
        calls: how many wait.
        wanted: what the first of them should be promised.
        reason: in words.
    """

    category: str
    calls: int
    wanted: Allocation
    reason: str


class SizedReactor(ManagerReactor):
    """Decides for one executor whose calls are promised what they get.

    Args:
        state: what the manager knows; changed by each event.
        claim: tells whether a call is still wanted, see `ManagerReactor`.
        is_cancelled: likewise.
        sizer: says what a call should be promised.
    """

    def __init__(
        self,
        state: ManagerState,
        claim: Callable[[Call], bool],
        is_cancelled: Callable[[Call], bool],
        sizer: Sizer,
    ) -> None:
        super().__init__(state, claim, is_cancelled)
        self.sizer = sizer
        self.lanes: dict[ProcessId, Lane] = {}
        self.placement = Placement([], self._ask)
        self._put: set[Call] = set()
        self._least_cores = 0.0
        self._most_bytes: int | None = None

    def promises(self) -> list[Promise]:
        """Return what is promised now; callable from any thread."""
        return [
            Promise(lane.category, lane.process.node.name, lane.process.pid, lane.allocation, lane.process.seen_bytes)
            for lane in list(self.lanes.values())
        ]

    def waits(self) -> list[Wait]:
        """Return why calls wait, those that go first first; callable from any thread."""
        rooms = [(self.state.nodes.get(NodeId(node.name)), node.room) for node in self.placement.nodes]
        return [
            Wait(category, calls, wanted, _reason(wanted, [(node.name, room) for node, room in rooms if node]))
            for category, calls, wanted in self.placement.waiting()
        ]

    def learn(
        self, process_id: ProcessId, number: int, function: FunctionRecord, calls: int, figures: Mapping[str, Any]
    ) -> Mapping[str, float] | None:
        """Take a usage that a process has sent.

        Args:
            process_id: the process.
            number: of the call at the process; -1 when short calls were measured together.
            function: what was called.
            calls: how many calls they are.
            figures: what they used.

        Returns:
            The features of the call; None where they are not known.
        """
        features, seen_bytes = None, 0
        process = self.state.processes.get(process_id)
        if number >= 0 and process is not None:
            index = number - process.first
            if 0 <= index < len(process.outstanding):
                features = process.outstanding[index].features
            lane = self.lanes.get(process_id)
            if lane is not None and number == lane.first:
                seen_bytes = lane.peak_bytes
        self.sizer.note(function.category, features, calls, figures, seen_bytes)
        return features

    # --- into the placement, and out of it

    def _ask(self, call: object, category: str) -> Allocation:
        assert isinstance(call, Call)
        wanted = call.needs or self.sizer.ask(call.function.category, call.features)
        wanted = replace(wanted, cores=max(wanted.cores, self._least_cores))
        return wanted if call.context.resources is None else _at_least(wanted, call.context.resources)

    def _slots(self, asked: int) -> int:
        return 1  # cores are promised

    def _queue(self, calls: list[Call]) -> None:
        for call in calls:
            if not isinstance(call.context.queue, CallQueue):
                call.context.queue = CallQueue(call.context.queue)
        super()._queue(calls)
        self._offer(call for call in calls if call.context.environment is not None)

    def _context_prepared(self, event: ContextPrepared) -> None:
        super()._context_prepared(event)
        self._offer(self.state.contexts[event.context].queue)

    def _requeue(self, context: ContextRecord, calls: Iterable[Call]) -> None:
        calls = list(calls)
        super()._requeue(context, calls)
        for call in calls:
            self._leave_lane(call)
        self._offer(calls)

    def _leave_lane(self, call: Call) -> None:
        """Let the call that runs now have the promise of a lane whose leader waits again."""
        for lane in self.lanes.values():
            if lane.leader is call and lane.process.outstanding:
                lane.leader = lane.process.outstanding[0]
                self.placement.hand_over(call, lane.leader)

    def _offer(self, calls: Iterable[Call]) -> None:
        for call in calls:
            if call not in self._put:
                self._put.add(call)
                self.placement.put(call, group_of(call), call.needs, call.function.options.priority)

    def _forget(self, calls: Iterable[Call]) -> None:
        """Take calls out of the placement that have left their queues without being sent."""
        for call in calls:
            if call in self._put and call not in _queue_of(call):
                self._put.discard(call)
                self.placement.withdraw(call, group_of(call))

    def _drop_queue(self, context: ContextRecord, error: BaseException, todo: list[Instruction]) -> None:
        calls = list(context.queue)
        super()._drop_queue(context, error, todo)
        self._forget(calls)

    def _cancel(self, call: Call, todo: list[Instruction]) -> None:
        super()._cancel(call, todo)
        self._forget([call])

    def _take_returned(self, process: ProcessRecord, first: int) -> list[Call]:
        calls = super()._take_returned(process, first)
        if not process.outstanding and (lane := self.lanes.get(process.process)) is not None:
            self._quit_lane(lane)
        return calls

    def _withdraw(self) -> None:
        calls = self._all_queued()
        super()._withdraw()
        self._forget(calls)

    def _close(self, event: CloseRequested, todo: list[Instruction]) -> None:
        calls = self._all_queued() if event.is_cancelling else []
        super()._close(event, todo)
        self._forget(calls)

    def _all_queued(self) -> list[Call]:
        return [call for context in self.state.waiting.values() for call in context.queue]

    # --- nodes

    def _node_joined(self, event: NodeJoined) -> NodeRecord:
        node = super()._node_joined(event)
        capacity = Allocation(
            cores=node.cores, memory_bytes=node.memory_bytes, disk_bytes=node.disk_bytes, gpus=float(node.gpus)
        )
        self.placement.add_node(NodeState(node.node, capacity))
        self._measure_nodes()
        return node

    def _has_other(self, context: ContextRecord, node: NodeRecord) -> bool:
        """Return False: which node a call goes to is decided by its allocation, without a look at its context."""
        return False

    def _drain(self, event: NodeDraining, todo: list[Instruction]) -> None:
        super()._drain(event, todo)
        self.placement.close_node(event.node)

    def _node_lost(self, event: NodeLost, todo: list[Instruction]) -> None:
        is_known = event.node in self.state.nodes
        super()._node_lost(event, todo)
        if is_known:
            self.placement.lose_node(event.node)
            self._measure_nodes()

    def _measure_nodes(self) -> None:
        """Note the largest memory of all nodes; and the least share of cores, which bounds the calls at once."""
        nodes = self.state.nodes.values()
        # Rounded down: as many such shares as there are slots must fit.
        self._least_cores = max((math.floor(1e6 * node.cores / node.slots) / 1e6 for node in nodes), default=0.0)
        memories = [node.memory_bytes for node in nodes]
        known = [memory for memory in memories if memory is not None]
        self._most_bytes = max(known) if known and len(known) == len(memories) else None

    # --- processes and their lanes

    def _results(self, event: ResultsArrived, todo: list[Instruction]) -> None:
        super()._results(event, todo)
        process = self.state.processes.get(event.process)
        lane = self.lanes.get(event.process)
        if process is None or lane is None or process.outstanding or lane.is_bound:
            return
        del self.lanes[event.process]
        process.seen_bytes = process.rest_bytes
        self.placement.end(lane.leader, lane.leader.function.estimate_s or 0.0)
        self._grow_those_above(process.node)
        if lane.is_killed and process.phase is Phase.READY:
            process.enter(Phase.STOPPING)  # it is dying: no call may be sent to it any more

    def _ready(self, process_id: ProcessId, todo: list[Instruction]) -> None:
        process = self.state.processes.get(process_id)
        was_starting = process is not None and process.phase is Phase.STARTING
        super()._ready(process_id, todo)
        lane = self.lanes.get(process_id)
        if not was_starting or lane is None:
            return
        lane.is_bound = False
        if lane.leader in lane.process.context.queue and self._claim_bound(lane):
            self._dispatch_lane(lane, todo)
        else:
            self._quit_lane(lane)

    def _claim_bound(self, lane: Lane) -> bool:
        self._unqueue(lane.leader)
        return self._claimed(lane.leader)

    def _stop(self, process: ProcessRecord, is_kill: bool, todo: list[Instruction]) -> None:
        lane = self.lanes.get(process.process)
        if lane is not None and lane.is_killed:
            process.enter(Phase.STOPPING)  # its end was asked for already
            return
        if lane is not None and process.phase is Phase.STARTING:
            self._quit_lane(lane)
        super()._stop(process, is_kill, todo)

    def _remove(self, process: ProcessRecord) -> None:
        super()._remove(process)
        if (lane := self.lanes.get(process.process)) is not None:
            self._quit_lane(lane)

    def _quit_lane(self, lane: Lane) -> None:
        """End a lane without having learned anything from it; a leader that was not sent waits again."""
        del self.lanes[lane.process.process]
        self.placement.quit(lane.leader)
        if lane.process.phase is Phase.STARTING and lane.leader in lane.process.context.queue:
            self._offer([lane.leader])

    # --- scheduling

    def _schedule(self, todo: list[Instruction]) -> None:
        for context in list(self.state.waiting.values()):
            if never := self._never(context):
                self._fail_context(context, ResourcesError(context.name, never), todo)
        for lane in list(self.lanes.values()):
            if not lane.is_bound and (calls := self._followers(lane)):
                self._dispatch(lane.process, calls, todo)
        while starts := self.placement.place():
            for start in starts:
                self._begin(start, todo)

    def _begin(self, start: Start, todo: list[Instruction]) -> None:
        call = start.call
        assert isinstance(call, Call)
        self._put.discard(call)
        node, context = self.state.nodes[NodeId(start.node)], call.context
        if self._is_cancelled(call) and not call.is_claimed:
            self._unqueue(call)
            self._claimed(call)
            self.placement.quit(call)
            return
        process, allocation = self._warm(start, context, node, todo)
        if process is None and (behind := self._lane_for(start)) is not None:
            self.placement.quit(call)
            self._unqueue(call)
            if self._claimed(call):
                self._dispatch(behind.process, [call], todo)
            return
        if process is None:
            leaving = residence.leavers(self.state, node, context)
            # Where the budget cannot be kept beside those that work, none may be idle: the call has a promise.
            self._evict(residence.idle_of(node) if leaving is None else leaving, todo)
            process = self._start(context, node, todo)
            self.lanes[process.process] = Lane(call, process, allocation, is_bound=True)
            context.queue.extendleft([call])  # a call that has a process counts as begun: it is the first to stay
        else:
            lane = self.lanes[process.process] = Lane(call, process, allocation)
            self._unqueue(call)
            if not self._claimed(call):
                self._quit_lane(lane)
                return
            self._dispatch_lane(lane, todo)
        self._end_idle(node, process, todo)

    def _warm(
        self, start: Start, context: ContextRecord, node: NodeRecord, todo: list[Instruction]
    ) -> tuple[ProcessRecord | None, Allocation]:
        """Return an idle process of a context on a node, and what the call is promised in it.

        Where all of them keep more memory than the call is promised, it is promised what one of them has. If so much
        is not free, that one is ended: nobody has promised that memory to it.
        """
        idle = [
            each
            for each in context.processes.values()
            if each.node is node and each.is_idle and resources.has_devices(each)
        ]
        promised = start.allocation.memory_bytes
        fitting = [each for each in idle if promised is None or each.seen_bytes <= promised]
        if fitting or not idle:
            return max(fitting, key=lambda each: each.last_used, default=None), start.allocation
        leanest = min(idle, key=lambda each: each.seen_bytes)
        allocation = self.placement.grow(start.call, leanest.seen_bytes) or start.allocation
        if (allocation.memory_bytes or 0) >= leanest.seen_bytes:
            return leanest, allocation
        self._stop(leanest, False, todo)
        return None, allocation

    def _lane_for(self, start: Start) -> Lane | None:
        """Return a lane behind whose calls one can run that is not worth another process."""
        assert isinstance(start.call, Call)
        context, estimate_s = start.call.context, start.call.function.estimate_s
        if context.is_fresh or not estimate_s or len(context.queue) * estimate_s >= WORTH_A_PROCESS_S:
            return None
        for process in context.processes.values():
            lane = self.lanes.get(process.process)
            if (
                lane is not None
                and not (lane.is_bound or lane.is_killed or process.is_recalled)
                and lane.group == start.category
                and _covers(lane.allocation, start.allocation)
                and (process.outstanding[-1].function.estimate_s or OUTSTANDING_S) < OUTSTANDING_S
                and len(process.outstanding) * estimate_s < OUTSTANDING_S
            ):
                return lane
        return None

    def _dispatch_lane(self, lane: Lane, todo: list[Instruction]) -> None:
        """Send the leader of a lane, and what may follow it at once."""
        lane.first = lane.process.sent
        lane.work_s = lane.leader.function.estimate_s or OUTSTANDING_S
        self._dispatch(lane.process, [lane.leader, *self._followers(lane, 1)], todo)

    def _followers(self, lane: Lane, sent: int = 0) -> list[Call]:
        """Take short calls that can run behind those of a lane, under the same promise.

        Args:
            lane: the lane.
            sent: calls that are about to be sent to it.
        """
        process = lane.process
        if lane.is_killed or process.is_recalled or process.context.is_fresh or process.node.is_draining:
            return []
        if lane.process.context.is_threaded:
            return []  # they would not run behind it, but beside it
        last_s = (lane.leader if sent else lane.process.outstanding[-1]).function.estimate_s
        if last_s is None or last_s >= OUTSTANDING_S:
            return []
        calls: list[Call] = []
        outstanding = len(lane.process.outstanding) + sent
        first = self.placement.next_of(lane.group)
        if not isinstance(first, Call) or not first.function.estimate_s:
            return []
        credit = min(MAX_OUTSTANDING, int(OUTSTANDING_S / first.function.estimate_s))
        if outstanding > max(credit // 2, sent):
            return []
        # A short queue spreads out over the node instead of piling up at one process.
        share = -(-(len(first.context.queue) + outstanding) // lane.process.node.slots)
        room = min(credit, share) - outstanding
        while len(calls) < room and (call := self._follower(lane)) is not None:
            calls.append(call)
        return calls

    def _follower(self, lane: Lane) -> Call | None:
        while True:
            call = self.placement.next_of(lane.group)
            if not isinstance(call, Call) or call.context is not lane.process.context:
                return None
            estimate_s = call.function.estimate_s
            if not estimate_s or estimate_s > OUTSTANDING_S:
                return None
            if lane.work_s > LANE_S and self.placement.waits_beside(lane.group):
                return None
            if call.features and not _covers(lane.allocation, self._ask(call, lane.group)):
                return None
            self._put.discard(call)
            self.placement.withdraw(call, lane.group)
            self._unqueue(call)
            if self._claimed(call):
                lane.work_s += estimate_s
                return call

    # --- memory

    def _memory_seen(self, event: MemorySeen, todo: list[Instruction]) -> None:
        nodes: dict[NodeId, NodeRecord] = {}
        for process_id, seen_bytes, running_call in event.seen:
            process = self.state.processes.get(process_id)
            if process is None:
                continue
            lane = self.lanes.get(process_id)
            if running_call < 0:
                process.seen_bytes = process.rest_bytes = seen_bytes
            elif lane is not None and not lane.is_bound and running_call >= lane.first:
                process.seen_bytes = seen_bytes
                lane.peak_bytes = max(lane.peak_bytes, seen_bytes)
            # Otherwise it tells of a call that has ended since.
            nodes[process.node.node] = process.node
        for node in nodes.values():
            self._grow_those_above(node)
            self._end_idle(node, None, todo)
            if (lane := victim(node, self.lanes.values())) is not None:
                lane.is_killed = True
                todo.append(EndProcess(node.node, lane.process.process, True))

    def _grow_those_above(self, node: NodeRecord) -> None:
        """Promise more to calls that have more than they were promised, as far as nobody was promised it."""
        for lane in self.lanes.values():
            if lane.process.node is node and lane.excess_bytes > 0 and not lane.is_killed:
                wanted = self._larger(lane, lane.leader)
                lane.allocation = self.placement.grow(lane.leader, wanted.memory_bytes or 0) or lane.allocation

    def _larger(self, lane: Lane, call: Call) -> Allocation:
        """Return what a call should have that has used up what its lane was promised."""
        used = max(lane.allocation.memory_bytes or 0, lane.process.seen_bytes, lane.peak_bytes)
        failed = replace(lane.allocation, memory_bytes=used, attempt=call.exhaustions)
        return self.sizer.retry(lane.category, call.features, failed)

    def _end_idle(self, node: NodeRecord, keep: ProcessRecord | None, todo: list[Instruction]) -> None:
        if node.memory_bytes is None or node.is_draining:
            return
        room = next(each.room for each in self.placement.nodes if each.name == node.node)
        promised = node.memory_bytes - (room.memory_bytes or 0)
        above = sum(max(0, lane.excess_bytes) for lane in self.lanes.values() if lane.process.node is node)
        self._evict(idle_to_end(node, promised + above, self.state.now_s, keep), todo)

    def _process_gone(self, event: ProcessGone, todo: list[Instruction]) -> None:
        lane = self.lanes.get(event.process)
        if lane is None or not lane.is_killed or lane.process.is_doomed or event.exit_status != -signal.SIGKILL:
            super()._process_gone(event, todo)
            return
        process = lane.process
        calls = list(process.outstanding)
        self._remove(process)
        index = event.running_call - process.first
        # Between two calls nobody has used up anything, and what a call would need that nobody wants is no matter.
        was_running = event.running_call >= 0 and 0 <= index < len(calls) and not calls[index].is_unwanted
        exhausted = [calls[index]] if was_running else []
        self._put_back(process, calls, todo, exhausted, lambda call: self._retry(call, lane, todo))

    def _retry(self, call: Call, lane: Lane, todo: list[Instruction]) -> list[Call]:
        """Return a call that was ended for its memory, to be put again; one that had all that there is fails."""
        most, had = self._most_bytes, lane.allocation.memory_bytes or 0
        used = max(lane.peak_bytes, had)
        if most is not None and (used > most or had >= most):
            self._fail([call], LimitExceeded("memory", most, used, lane.category, lane.process.pid or None), todo)
            return []
        larger = self._larger(lane, call)
        if most is not None and (call.exhaustions >= MOST_RETRIES or (larger.memory_bytes or 0) > most):
            larger = replace(larger, memory_bytes=most)
        call.needs = larger
        call.exhaustions += 1
        return [call]


def _queue_of(call: Call) -> CallQueue:
    queue = call.context.queue
    assert isinstance(queue, CallQueue)
    return queue


def _at_least(wanted: Allocation, asked: Allocation) -> Allocation:
    """Return what is wanted, and no less than was asked for. A share of a GPU counts as a whole one here."""
    return replace(
        wanted,
        cores=max(wanted.cores, asked.cores),
        memory_bytes=max(wanted.memory_bytes or 0, asked.memory_bytes or 0) or None,
        disk_bytes=asked.disk_bytes,
        gpus=None if asked.gpus is None else float(math.ceil(asked.gpus)),
    )


def _covers(promised: Allocation, wanted: Allocation) -> bool:
    return promised.memory_bytes is None or (wanted.memory_bytes or 0) <= promised.memory_bytes


def _reason(wanted: Allocation, rooms: list[tuple[str, Allocation]]) -> str:
    """Say why something has not begun."""
    if not rooms:
        return "no node has joined yet"
    name, room = max(rooms, key=lambda each: (each[1].cores >= wanted.cores, each[1].memory_bytes or 0))
    if room.cores < wanted.cores:
        return f"no core: {wanted.cores:g} wanted, {max(room.cores, 0):g} free on {name}"
    if wanted.memory_bytes is not None and room.memory_bytes is not None and room.memory_bytes < wanted.memory_bytes:
        free = format_figure("memory", room.memory_bytes)
        return f"no room: {format_figure('memory', wanted.memory_bytes)} wanted, {free} free on {name}"
    return "others go first"
