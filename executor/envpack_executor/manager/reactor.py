"""What the manager does about an event: typed events in, typed instructions out. Pure: no socket, clock or process.

Mirror image of `envpack_executor.worker.reactor`. Guarantees: each queued call ends in exactly one `CallsDone` or
`CallsFailed`, or was disclaimed by `claim`; a message about a process that is not known (any more) is ignored; a call
is run again only when the process or node that had it was lost before its result came, at most `max_tries` times.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import assert_never

from envpack_executor.errors import ResourcesError
from envpack_executor.manager import admission, misfits, residence, resources
from envpack_executor.manager.alarms import Alarms
from envpack_executor.manager.ends import CallEnds, count_threads, ending
from envpack_executor.manager.events import (
    CallSentAhead,
    CallsQueued,
    CallsReturned,
    CallsWithdrawn,
    CancelRequested,
    CloseRequested,
    ContextFailed,
    ContextPrepared,
    EndProcess,
    Event,
    Finish,
    Instruction,
    NodeDraining,
    NodeJoined,
    NodeLost,
    PreparationRequested,
    ProcessReady,
    ReleaseNode,
    ResultsArrived,
    SendCalls,
    StartContext,
    TimePassed,
)
from envpack_executor.manager.idling import Idling
from envpack_executor.manager.queues import PriorityQueue
from envpack_executor.manager.setups import SetUps
from envpack_executor.manager.stalls import Stalls
from envpack_executor.manager.state import (
    Call,
    ContextRecord,
    Imports,
    ManagerState,
    NodeRecord,
    Phase,
    ProcessRecord,
)
from envpack_executor.manager.warming import Warming
from envpack_executor.messages import CallEnded, MemoryKept, MemorySeen, ProcessGone, ProcessId, ProcessStarted

# Work that is sent ahead to a process: enough that it never waits for us, little enough that nothing waits long
# behind a call that turns out slow.
OUTSTANDING_S = 0.004
# Of longer calls the moment between two is no matter, and each should go to whoever is free first.
NEXT_SENT_BELOW_S = 0.1
MAX_OUTSTANDING = 2048
# Work that is not worth another process: starting one takes longer.
WORTH_A_PROCESS_S = 0.02


class ManagerReactor(CallEnds):
    """Decides for one executor.

    Args:
        state: what the manager knows; changed by each event.
        claim: tells whether a call is still wanted, just before it is sent; from then on it cannot be cancelled.
        is_cancelled: tells whether a call was cancelled, and changes nothing.
    """

    def __init__(
        self, state: ManagerState, claim: Callable[[Call], bool], is_cancelled: Callable[[Call], bool]
    ) -> None:
        super().__init__(state, claim, is_cancelled)
        self.alarms = Alarms()
        self._set_ups = SetUps(state, self.alarms, self._fail_context, self._has_other)
        self._stalls = Stalls(state, self.alarms, self._ask_back)
        self._idling = Idling(state, self.alarms, self._end_idle_process)
        self.warming = Warming(state, self._start_ahead, self._evict)
        self._process_numbers = itertools.count(1)
        self._uses = itertools.count(1)

    def handle(self, event: Event) -> list[Instruction]:
        """Take one event and return what to do, in order."""
        todo: list[Instruction] = []
        match event:
            case ResultsArrived():
                self._results(event, todo)
            case CallsQueued():
                self._queue(event.calls)
            case CallSentAhead():
                self._sent_ahead(event.call)
            case ProcessReady():
                self._ready(event.process, todo)
            case ProcessStarted():
                self._set_ups.began(event)
            case ProcessGone():
                self._process_gone(event, todo)
            case ContextPrepared():
                self._context_prepared(event)
            case ContextFailed():
                self._context_failed(event, todo)
            case NodeJoined():
                self._node_joined(event)
            case NodeDraining():
                self._drain(event, todo)
            case NodeLost():
                self._node_lost(event, todo)
            case CallEnded():
                self._call_ended(event)
            case CallsReturned():
                self._returned(event, todo)
            case CancelRequested():
                self._cancel(event.call, todo)
            case MemorySeen():
                self._memory_seen(event, todo)
            case MemoryKept():
                self._memory_kept(event, todo)
            case PreparationRequested():
                self.warming.request(event.preparation)
            case TimePassed():
                self.alarms.ring(self.state.now_s, todo)
            case CallsWithdrawn():
                self._withdraw()
            case CloseRequested():
                self._withdraw()
                self.warming.close(todo)
                self._close(event, todo)
            case _:
                assert_never(event)
        if self.state.waiting:
            self._schedule(todo)
        if self._stalls.deep and not isinstance(event, TimePassed):
            self._stalls.watch()
        if self.warming.preparations:
            self.warming.go_on(todo)
        if self.state.is_closing and not self.state.open_calls and not self.state.is_closed:
            self._wind_up(todo)
        return todo

    def _memory_seen(self, event: MemorySeen, todo: list[Instruction]) -> None:
        """Nobody is promised any memory here."""

    def _memory_kept(self, event: MemoryKept, todo: list[Instruction]) -> None:
        process = self.state.processes.get(event.process)
        if process is not None:
            residence.note_kept(process, event.kept_bytes)
            self._evict(residence.surplus(self.state, process.node), todo)

    def _evict(self, processes: Iterable[ProcessRecord], todo: list[Instruction]) -> None:
        for process in processes:
            process.context.evictions += 1
            self._stop(process, False, todo)

    # --- calls

    def _queue(self, calls: list[Call]) -> None:
        state = self.state
        state.open_calls += len(calls)
        for call in calls:
            context = call.context
            context.queue.append(call)
            if context.number not in state.waiting:
                state.contexts[context.number] = context
                state.waiting[context.number] = context

    def _sent_ahead(self, call: Call) -> None:
        """Take note of a call that is at its process already; if that has ended meanwhile, it goes elsewhere."""
        process = call.lent
        assert process is not None
        call.lent = None  # its process stays lent until the result tells that the call has really been written
        call.is_claimed = True
        self.state.open_calls += 1
        if process.phase is not Phase.READY or self.state.processes.get(process.process) is not process:
            self.state.contexts[call.context.number] = call.context
            self._requeue(call.context, [call])
            return
        if not process.outstanding:
            self._hold(process)
            process.since_s = self.state.now_s
        process.sent += 1
        process.outstanding.append(call)
        process.last_used = next(self._uses)

    # --- processes

    def _ready(self, process_id: ProcessId, todo: list[Instruction]) -> None:
        process = self.state.processes.get(process_id)
        if process is None or process.phase is not Phase.STARTING:
            return
        if process.holds_slot:
            self._release(process)
        process.enter(Phase.READY)
        process.last_used = next(self._uses)
        misfits.forgive(process.node, process.context)
        self._set_ups.is_over(process)
        self.state.set_ups += 1
        residence.note_ready(process, self.state.now_s)
        self._idling.begins(process)

    def _hold(self, process: ProcessRecord) -> None:
        process.node.busy += 1 if process.context.resources is None else self._slots(resources.take(process))

    def _slots(self, asked: int) -> int:
        """Return how many slots a process takes that asks for so many."""
        return asked

    def _release(self, process: ProcessRecord) -> None:
        process.node.busy -= 1 if process.context.resources is None else self._slots(resources.give(process))
        process.idle_since_s = self.state.now_s

    def _remove(self, process: ProcessRecord) -> None:
        process.node.busy -= process.extra_slots
        if process.holds_slot:
            self._release(process)
        process.node.quiet_since_s = max(process.node.quiet_since_s, process.idle_since_s)
        residence.note_gone(process)
        self._idling.is_over(process)
        self._set_ups.is_over(process)
        del self.state.processes[process.process]
        del process.node.processes[process.process]
        del process.context.processes[process.process]

    def _stop(self, process: ProcessRecord, is_kill: bool, todo: list[Instruction]) -> None:
        if process.holds_slot:
            self._release(process)
        self._set_ups.is_over(process)
        self._idling.is_over(process)
        process.enter(Phase.STOPPING)
        todo.append(EndProcess(process.node.node, process.process, is_kill))

    def _end_idle_process(self, process: ProcessRecord, todo: list[Instruction]) -> None:
        self._stop(process, False, todo)

    def _process_gone(self, event: ProcessGone, todo: list[Instruction]) -> None:
        process = self.state.processes.get(event.process)
        if process is None:
            return
        was = process.phase
        self._remove(process)
        self._let_go(process.node, todo)
        if was is Phase.STARTING:
            never_started = event.exit_status is None
            reason = event.reason if never_started else f"{ending(event.exit_status)} before it was ready"
            self._set_ups.lost(process, reason, not never_started, event.last_words, todo)
        elif process.outstanding:
            self._lost(process, event, todo)

    def _drop_queue(self, context: ContextRecord, error: BaseException, todo: list[Instruction]) -> None:
        calls = list(context.queue)
        context.queue.clear()
        context.failed_starts = ()
        context.misfits.clear()
        self.state.waiting.pop(context.number, None)
        self._fail([call for call in calls if self._claimed(call)], error, todo)

    def _context_prepared(self, event: ContextPrepared) -> None:
        context = self.state.contexts[event.context]
        context.environment, context.boot = event.environment, event.boot

    def _context_failed(self, event: ContextFailed, todo: list[Instruction]) -> None:
        self._fail_context(self.state.contexts[event.context], event.error, todo)

    def _fail_context(self, context: ContextRecord, error: BaseException, todo: list[Instruction]) -> None:
        """End what waits for a context, and the processes that start for it."""
        self._drop_queue(context, error, todo)
        self.warming.fail(context, error, todo)
        for process in list(context.processes.values()):
            if process.phase is Phase.STARTING:
                self._stop(process, True, todo)

    def _node_joined(self, event: NodeJoined) -> NodeRecord:
        node = NodeRecord(event.node, event.name, event.slots, event.resident)
        node.cores, node.memory_bytes = event.cores or event.slots, event.memory_bytes
        node.context_bytes, node.disk_bytes = event.context_bytes, event.disk_bytes
        node.gpus, node.loads = event.gpus, [0.0] * event.gpus
        node.leaves_at_s, node.is_back, node.is_foreign = event.leaves_at_s, event.is_back, event.is_foreign
        node.host, node.pid, node.block, node.python = event.host, event.pid, event.block, event.python
        node.joined_at_s = node.quiet_since_s = self.state.now_s
        self.state.nodes[event.node] = node
        return node

    def _drain(self, event: NodeDraining, todo: list[Instruction]) -> None:
        node = self.state.nodes.get(event.node)
        if node is None or node.is_draining:
            return
        node.draining = event.reason
        for process, is_kill in admission.unneeded(node):
            self._stop(process, is_kill, todo)
        for process in node.processes.values():
            if len(process.outstanding) > 1:
                self._ask_back(process, todo)
        self._let_go(node, todo)

    def _let_go(self, node: NodeRecord, todo: list[Instruction]) -> None:
        if node.is_draining and not node.processes:
            todo.append(ReleaseNode(node.node, node.draining))

    def _node_lost(self, event: NodeLost, todo: list[Instruction]) -> None:
        node = self.state.nodes.pop(event.node, None)
        if node is None:
            return
        for process in list(node.processes.values()):
            self._remove(process)
            self._lost_with_node(process, event.reason, event.is_blameless, todo)

    def _wind_up(self, todo: list[Instruction]) -> None:
        """End the processes that are left; when the last has said what its calls used, the executor is done."""
        for process in list(self.state.processes.values()):
            if process.phase is not Phase.STOPPING:
                self._stop(process, process.phase is Phase.STARTING, todo)
        if not self.state.processes:
            self.state.is_closed = True
            todo.append(Finish())

    # --- scheduling

    def _schedule(self, todo: list[Instruction]) -> None:
        """Give queued calls to processes, the context whose first call is most important, or waits longest, first."""
        waiting = list(self.state.waiting.values())
        for context in waiting:
            if context.has_priorities and not isinstance(context.queue, PriorityQueue):
                context.queue = PriorityQueue(context.queue)
        if len(waiting) > 1:
            waiting.sort(key=lambda context: _rank(context.queue[0]))
        for node in self.state.nodes.values():
            node.is_short = False
        for context in waiting:
            if context.environment is None:
                continue
            self._feed(context, todo)
            if context.queue:
                self._grow(context, todo)
            else:
                del self.state.waiting[context.number]

    def _feed(self, context: ContextRecord, todo: list[Instruction]) -> None:
        ready = [
            process
            for process in context.processes.values()
            if process.phase is Phase.READY and not (process.is_recalled or process.is_lent)
        ]
        # The least loaded first, so that a short queue spreads out instead of piling up at one process.
        ready.sort(key=lambda process: len(process.outstanding))
        for left, process in zip(range(len(ready), 0, -1), ready, strict=True):
            if not context.queue:
                return
            node = process.node
            if context.resources is not None and not process.outstanding and not resources.can_work(process):
                node.is_short = True
                continue
            if node.busy >= node.slots and (not process.outstanding or self._must_yield(context)):
                continue
            if node.is_short and self._must_yield(context):
                continue  # when it is without calls, it can make room for the other
            room = self._room(context, process)
            if room > 0:
                self._send(process, min(room, -(-len(context.queue) // left)), todo)

    def _room(self, context: ContextRecord, process: ProcessRecord) -> int:
        """Return how many more calls `process` may be sent: about `OUTSTANDING_S` of work, refilled at half.

        While there are plenty, a process has the next one of longer calls, too, so that it never waits for us.
        """
        outstanding = len(process.outstanding)
        if context.is_fresh:
            return 1 - process.sent
        if context.is_threaded:
            return process.node.slots - process.node.busy
        estimate_s = context.queue[0].function.estimate_s
        if not estimate_s:
            return 1 - outstanding
        is_next_sent = estimate_s < NEXT_SENT_BELOW_S and len(context.queue) > len(context.processes)
        credit = min(MAX_OUTSTANDING, max(2 if is_next_sent else 1, int(OUTSTANDING_S / estimate_s)))
        return credit - outstanding if outstanding <= credit // 2 else 0

    def _must_yield(self, context: ContextRecord) -> bool:
        """Tell whether more important calls wait, or a context whose calls have waited longer has no slot at all."""
        priority, first = _rank(context.queue[0])
        return any(
            (rank := _rank(other.queue[0])) < (priority, first)
            and (rank[0] < priority or not any(_is_under_way(p) for p in other.processes.values()))
            for other in self.state.waiting.values()
            if other is not context and other.environment is not None
        )

    def _send(self, process: ProcessRecord, count: int, todo: list[Instruction]) -> None:
        node = process.node
        if node.is_choosy:
            calls = itertools.islice(process.context.queue, count)
            count = admission.leading(node, calls, self.state.now_s, self.state.nodes.values())
        if taken := self._take(process.context, count):
            self._dispatch(process, taken, todo)

    def _dispatch(self, process: ProcessRecord, calls: list[Call], todo: list[Instruction]) -> None:
        if not process.outstanding:
            self._hold(process)
            process.since_s = self.state.now_s
        functions = []
        known = process.known
        for call in calls:
            if call.function.number not in known:
                known.add(call.function.number)
                functions.append(call.function)
        first = process.sent
        process.sent += len(calls)
        process.outstanding.extend(calls)
        if process.context.is_threaded:
            process.numbers.extend(range(first, process.sent))
            count_threads(process)
        elif len(process.outstanding) > 1:
            self._stalls.deep.add(process)
        process.last_used = next(self._uses)
        todo.append(SendCalls(process.node.node, process.process, functions, first, calls))

    def _take(self, context: ContextRecord, count: int) -> list[Call]:
        """Take up to `count` calls, less when they turn out to be longer than the first of them."""
        calls: list[Call] = []
        queue = context.queue
        work_s = 0.0
        enough_s = OUTSTANDING_S if count > 2 else NEXT_SENT_BELOW_S
        while queue and len(calls) < count and (work_s < enough_s or context.is_threaded):
            call = queue.popleft()
            if not self._claimed(call):
                continue
            calls.append(call)
            estimate_s = call.function.estimate_s
            work_s += enough_s if estimate_s is None else estimate_s
        return calls

    def _grow(self, context: ContextRecord, todo: list[Instruction]) -> None:
        """Start processes for calls that no process has taken, where there are free slots."""
        if never := self._never(context):
            self._fail_context(context, ResourcesError(context.name, never), todo)
            return
        starting = sum(process.phase is Phase.STARTING for process in context.processes.values())
        estimate_s = context.queue[0].function.estimate_s
        is_short = estimate_s is not None and len(context.queue) * estimate_s < WORTH_A_PROCESS_S
        if (
            is_short
            and not context.is_fresh
            and any(
                p.phase is not Phase.STOPPING and not p.is_recalled and self._may_begin(p.node, context)
                for p in context.processes.values()
            )
        ):
            return
        while starting < len(context.queue):
            node = self._node_for(context, todo)
            if node is None:
                if not context.is_threaded:
                    self.warming.start_ahead(context, todo)
                return
            self._start(context, node, todo)
            starting += 1

    def _may_begin(self, node: NodeRecord, context: ContextRecord) -> bool:
        return admission.may_begin(node, context.queue[0], self.state.now_s, self.state.nodes.values())

    def _has_other(self, context: ContextRecord, node: NodeRecord) -> bool:
        """Tell whether a context that a node cannot host may be hosted by another one."""
        return misfits.has_other(node, context, self.state.nodes.values(), self.state.now_s)

    def _node_for(self, context: ContextRecord, todo: list[Instruction]) -> NodeRecord | None:
        """Return the node with most free slots of those where fewest processes must leave; and let those leave."""
        nodes = self.state.nodes.values()
        free = admission.takers(nodes, context.queue[0], self.state.now_s)
        free = [node for node in free if resources.has_room(node, context.resources)]
        if context.misfits:
            free = [node for node in free if not misfits.is_avoided(node, context, nodes, self.state.now_s)]
        if context.is_threaded:
            taken = {p.node.node for p in context.processes.values() if p.phase is not Phase.STOPPING}
            free = [node for node in free if node.node not in taken]
        if any(node.is_short for node in free) and self._must_yield(context):
            free = [node for node in free if not node.is_short]
        free.sort(key=lambda node: node.busy - node.slots)
        if not free and context.resources is not None:
            for node in self.state.nodes.values():
                node.is_short = True  # what is large would never find room beside small calls that go on and on
        chosen: NodeRecord | None = None
        leaving: list[ProcessRecord] | None = None
        for node in free:
            leavers = residence.leavers(self.state, node, context)
            node.is_short |= leavers is None
            if leavers is not None and (leaving is None or len(leavers) < len(leaving)):
                chosen, leaving = node, leavers
            if leaving == []:
                break
        self._evict(leaving or (), todo)
        return chosen

    def _never(self, context: ContextRecord) -> str:
        """Say why the calls of a context can never run; an empty text if they can, or if a node may still come."""
        if context.resources is None or self.state.can_join:
            return ""
        return resources.no_node_for(context, list(self.state.nodes.values()))

    def _start_ahead(self, context: ContextRecord, node: NodeRecord, todo: list[Instruction]) -> ProcessRecord:
        return self._start(context, node, todo, is_ahead=True)

    def _imports_of(self, context: ContextRecord) -> Imports:
        """Return what the first call of a new process will import; nothing if the last one did not survive it."""
        function = context.queue[0].function if context.queue else self.warming.function_of(context)
        return () if function is None or context.failed_starts else function.imports

    def _start(
        self, context: ContextRecord, node: NodeRecord, todo: list[Instruction], is_ahead: bool = False
    ) -> ProcessRecord:
        assert context.environment is not None
        process = ProcessRecord(
            ProcessId(next(self._process_numbers)), node, context, begun_s=self.state.now_s, is_ahead=is_ahead
        )
        self.state.processes[process.process] = process
        node.processes[process.process] = process
        context.processes[process.process] = process
        if context.resources is not None:
            process.devices = resources.choose_devices(node, context.resources, is_ahead) or ()
        if process.holds_slot:
            self._hold(process)
        devices = process.devices if node.gpus else None
        todo.append(
            StartContext(
                node.node, process.process, context.environment, context.boot, devices, self._imports_of(context)
            )
        )
        return process


def _is_under_way(process: ProcessRecord) -> bool:
    """Tell whether a process works, or will be able to without anybody's leaving."""
    return bool(process.outstanding) or process.phase is Phase.STARTING


def _rank(call: Call) -> tuple[float, int]:
    """Return the place of a call among those that wait, the smallest first."""
    return -call.function.options.priority, call.number
