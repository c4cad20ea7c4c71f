"""The manager's one thread: calls in, outcomes out; executes what the reactor decides.

    any thread ──submit──▶ inbox ──┐            ┌──▶ futures
    background ──call_soon─────────┼──▶ reactor ┼──▶ nodes (context processes here, workers elsewhere)
    selector: sockets, pidfds ─────┘            └──▶ usage history

Guarantees: nothing but this thread touches the reactor's state; a call that was accepted gets an end, also when this
loop itself fails. It never polls: it sleeps in the selector until a descriptor or `wake` has something.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, assert_never

from envpack_executor.bulk.stored import StoredLayer
from envpack_executor.errors import ExecutorError, InitializerError, InternalError, ShutdownError
from envpack_executor.futures import CallFuture
from envpack_executor.manager import events
from envpack_executor.manager.events import (
    AskBack,
    CallsCancelled,
    CallsDone,
    CallsFailed,
    CallsRequeued,
    EndProcess,
    Finish,
    KillCall,
    PreparationDone,
    ReleaseNode,
    SendCalls,
    StartContext,
)
from envpack_executor.manager.loans import Lender, Loan, SendNow, frame_of, take
from envpack_executor.manager.nodes import LocalNode, NodePort
from envpack_executor.manager.outbox import Outbox
from envpack_executor.manager.overview import NodeStatus, may_drain, node_status, node_statuses, waiting_calls
from envpack_executor.manager.printer import OnPrint
from envpack_executor.manager.reactor import ManagerReactor
from envpack_executor.manager.reception import Reception
from envpack_executor.manager.settling import (
    cancel,
    claim,
    claim_and_tell,
    end_ticket,
    fail_all,
    fate,
    future_of,
    is_cancelled,
    settle,
)
from envpack_executor.manager.state import (
    Call,
    ContextRecord,
    ManagerState,
    Preparation,
    ProcessRecord,
)
from envpack_executor.manager.thread import SelectorThread
from envpack_executor.manager.usage import UsageSink
from envpack_executor.messages import (
    EndCall,
    Environment,
    Farewell,
    FromWorker,
    Goodbye,
    NodeId,
    ProcessId,
    StopProcess,
    TakeBack,
)
from envpack_executor.values.blobs import BLOBS
from envpack_monitor.errors import LimitExceeded

if TYPE_CHECKING:
    from envpack_executor.linewriter import LineWriter
    from envpack_executor.manager.journal import Journal
    from envpack_executor.manager.sized import SizedReactor
    from envpack_executor.manager.sizing import Sizer

_log = logging.getLogger(__name__)

_numbers = itertools.count()
Prepare = Callable[[ContextRecord], None]
# How often the memory of processes is looked at where calls are promised memory.
WATCH_EVERY_S = 0.05


class ManagerLoop(SelectorThread):
    """Runs the reactor in a thread of its own.

    Args:
        prepare: starts to find out the environment of a context; the answer comes by `context_prepared`.
        on_broken: told when the executor must take no further calls.
        usage: where the usage of calls goes.
        store: folder of the store, or None for the default.
        state: what the manager knows.
        sizer: says what calls should be promised; None to promise nothing.
        log: takes what happens; None to write nothing down.
        on_print: takes what calls print; None where it is not wanted here.
    """

    def __init__(
        self,
        prepare: Prepare,
        on_broken: Callable[[ExecutorError], None],
        usage: UsageSink,
        store: str | None,
        state: ManagerState,
        sizer: Sizer | None = None,
        log: LineWriter | None = None,
        on_print: OnPrint | None = None,
    ) -> None:
        super().__init__("envpack-manager")
        self.state = state
        self._journal = None if log is None else _journal(self.state, log)
        may_begin = claim if self._journal is None else functools.partial(claim_and_tell, self._journal)
        self.sized = None if sizer is None else _sized_reactor(self.state, may_begin, sizer)
        self._reactor = self.sized or ManagerReactor(self.state, may_begin, is_cancelled)
        self._prepare = prepare
        self._on_broken = on_broken
        self._usage = usage
        self._store = store
        self._local: LocalNode | None = None
        self._calls: deque[CallFuture[Any]] = deque()
        self._lender = Lender(self._sender)
        self._tickets: set[Future[None]] = set()
        self._preparing: set[int] = set()
        self._timers: list[Callable[[float], float | None]] = []
        self._node_watchers: list[Callable[[NodeStatus, bool], None]] = []
        self._call_watcher: Callable[[NodeId, Sequence[Call]], None] | None = None
        self._closers: list[Callable[[], None]] = [BLOBS.forget_recent]
        self._outbox = Outbox(self.call_soon, is_streamed=on_print is not None)
        self.reception = Reception(
            state, self._handle, self._outbox, self._lender, usage, self.sized, on_broken, on_print, store
        )
        self._closers.append(self.reception.arrivals.close)
        self.about_nodes: Callable[[], str] | None = None
        self._has_withdrawn = False
        self._is_finished = False
        self._is_over = False

    # --- from any thread

    def submit(self, call: CallFuture[Any]) -> None:
        """Take a call."""
        if call.context.loans and (loan := take(call)) is not None:
            self._send_ahead(call, loan)
            return
        self._calls.append(call)
        if self._is_over:
            self._refuse_late_calls()
        # First append, then look: the loop says that it sleeps first and looks then, so one of both sees the other.
        if self._is_asleep:
            self._wake()

    def _send_ahead(self, call: CallFuture[Any], loan: Loan) -> None:
        """Send a call to a lent process, in the caller's thread; the loop takes note of it while it runs."""
        is_sent = False
        try:
            call.set_running_or_notify_cancel()
            call.lent = loan.process
            data = frame_of(call, loan)
            self._calls.append(call)
            try:
                is_sent = loan.send(data) == len(data)
            except OSError:
                pass
        finally:
            if not is_sent or self._is_over:
                # Interrupted, or its process has ended: nobody can tell what arrived, so the process must go.
                self.call_soon(functools.partial(self._end_lent, loan.process))
                if self._is_over:
                    self._refuse_late_calls()
        if self._is_asleep:
            self._wake()

    def prepare(self, preparation: Preparation) -> None:
        """Let processes of a context be ready; its ticket is a future."""
        self._tickets.add(preparation.ticket)
        self.call_soon(functools.partial(self._request, preparation))
        if self._is_over:
            self._refuse_late_tickets()

    def note_cancel(self) -> None:
        """Note, from any thread, that a queued call was cancelled; when the executor closes, nobody waits for it."""
        self._has_withdrawn = True
        if self.state.is_closing and not self._is_over:
            self.call_soon(self.forget_withdrawn)

    def forget_withdrawn(self) -> None:
        """Count the calls no more that were cancelled while they were queued; in the loop's thread."""
        if self._has_withdrawn:
            self._has_withdrawn = False
            self._handle(events.CallsWithdrawn())

    def slots(self) -> int:
        """Return, from any thread, how many calls run at once."""
        return sum(node.slots for node in list(self.state.nodes.values()))

    def why(self, call: CallFuture[Any]) -> str:
        """Say, from any thread, what a call waits for."""
        try:
            return self.ask(functools.partial(self._reason, call))
        except TimeoutError:
            return "the manager's thread does not answer"

    def nodes(self) -> tuple[NodeStatus, ...]:
        """Return, from any thread, how each node stands.

        Raises:
            TimeoutError: the loop does not answer: a callback of the user holds it up.
        """
        return self.ask(lambda: node_statuses(self.state, time.monotonic()))

    def waiting(self) -> int:
        """Return, from any thread, how many calls have not been sent to any process."""
        return len(self._calls) + waiting_calls(self.state)

    def drain(self, node: NodeId, reason: str) -> bool:
        """Let a node leave, from any thread, when the calls that run there have ended.

        Args:
            node: which.
            reason: in words; its worker tells it when it leaves.

        Returns:
            False where no such node is, or none that can leave.

        Raises:
            TimeoutError: as `nodes`.
        """

        def drain() -> bool:
            if not may_drain(self.state, node):
                return False
            self._handle(events.NodeDraining(node, reason))
            return True

        return self.ask(drain)

    def _reason(self, call: CallFuture[Any]) -> str:
        from envpack_executor.manager.reasons import reason

        if call.done():
            return fate(call)
        about_nodes = "" if self.about_nodes is None else self.about_nodes()
        return reason(self.state, call, () if self.sized is None else self.sized.waits(), about_nodes)

    def request_cancel(self, call: Call) -> None:
        """Ask the loop to end a call, wherever it is."""
        self.call_soon(functools.partial(self._handle, events.CancelRequested(call)))

    def give_up_waiting(self, error: ExecutorError) -> None:
        """Let no further call in, and end those that wait with this error; those that run go on."""

        def end() -> None:
            self._on_broken(error)
            contexts = {*self.state.waiting.values(), *(each.context for each in self._reactor.warming.preparations)}
            for context in contexts:
                self._handle(events.ContextFailed(context.number, error))

        self.call_soon(end)

    def request_close(self, is_cancelling: bool = False) -> None:
        """Ask the loop to end when every call has its end."""
        self.call_soon(functools.partial(self._handle, events.CloseRequested(is_cancelling)))

    def request_kill(self, error: BaseException | None = None) -> None:
        """Ask the loop to give up every call that is not done and to end now.

        Args:
            error: the end of all of them; by default those that have not begun are cancelled.
        """
        self.call_soon(functools.partial(self._give_up, error))

    def context_prepared(self, context: ContextRecord, environment: Environment, boot: bytes) -> None:
        """Say, from any thread, that the environment of a context is known."""
        self._after_preparing(context, events.ContextPrepared(context.number, environment, boot))

    def context_failed(self, context: ContextRecord, error: BaseException) -> None:
        """Say, from any thread, that a context cannot be had."""
        self._after_preparing(context, events.ContextFailed(context.number, error))

    def know_memory(self, find: Callable[[], int]) -> None:
        """Find out, from any thread, what calls that ask for memory may have here; where nobody has said it."""
        here = self.state.nodes.get(NodeId("local"))
        if here is not None and here.memory_bytes is None:
            here.memory_bytes = find()  # before the first of them is submitted

    def bound_contexts(self, context_bytes: int) -> None:
        """Say, from any thread, what the context processes of this machine may keep in memory between calls."""

        def bound() -> None:
            self.state.nodes[NodeId("local")].context_bytes = context_bytes

        self.call_soon(bound)

    # --- set-up, before `start`

    @property
    def watch_every_s(self) -> float:
        """How often nodes must tell what their processes have in memory; 0 for never."""
        return 0.0 if self.sized is None else WATCH_EVERY_S

    def add_local_node(self, offer: events.NodeJoined) -> None:
        """Let calls run on this machine."""
        node = offer.node
        port = LocalNode(
            node, self.selector, self.call_soon, self.receive, offer.slots, self._store, self.watch_every_s
        )
        self._outbox.ports[node] = self._local = port
        self._reactor.handle(offer)

    def add_timer(self, timer: Callable[[float], float | None]) -> None:
        """Call `timer(now)` whenever the loop comes round; it returns when it must be called next, or None."""
        self._timers.append(timer)

    def add_node_watcher(self, watcher: Callable[[NodeStatus, bool], None]) -> None:
        """Call `watcher` in the loop's thread when a node has joined (with True) or is about to be forgotten."""
        self._node_watchers.append(watcher)

    def watch_calls(self, watcher: Callable[[NodeId, Sequence[Call]], None]) -> None:
        """Call `watcher` in the loop's thread when calls have been sent to a process of a node elsewhere."""
        self._call_watcher = watcher

    def add_closer(self, closer: Callable[[], None]) -> None:
        """Call `closer` in the loop's thread when it ends."""
        self._closers.append(closer)

    def abandon(self) -> None:
        """Free everything, instead of `start`."""
        self._close()

    # --- nodes, in the loop's thread

    def node_joined(self, offer: events.NodeJoined, port: NodePort) -> None:
        """Let calls run on a node elsewhere."""
        self._outbox.ports[offer.node] = port
        self._handle(offer)
        self._tell_of(offer.node, is_there=True)

    def node_lost(self, node: NodeId, reason: str, is_blameless: bool = False) -> None:
        """Forget a node; what ran there is run again elsewhere."""
        if self._outbox.ports.pop(node, None) is not None:
            self._outbox.blobs.forget(node)
            self.reception.arrivals.forget(node)
            self._tell_of(node, is_there=False)
            self._handle(events.NodeLost(node, reason, is_blameless))

    def _tell_of(self, node: NodeId, is_there: bool) -> None:
        if self._node_watchers and node in self.state.nodes:
            status = node_status(self.state.nodes[node], time.monotonic())
            for watcher in self._node_watchers:
                watcher(status, is_there)

    def receive(self, node: NodeId, message: FromWorker) -> None:
        """Take a message of a node."""
        if isinstance(message, Goodbye):
            self.node_lost(node, message.reason, message.is_blameless)
        else:
            self.reception.take(node, message)

    # --- the thread

    def _run(self) -> None:
        self._listen_for_wake()
        self.state.now_s = time.monotonic()
        try:
            while not self._is_finished:
                self._turn()
        except BaseException as error:
            _log.exception("the manager's loop failed")
            broken = InternalError(f"the manager's loop failed: {type(error).__name__}: {error}")
            broken.__cause__ = error
            self._on_broken(broken)
            self._fail_all(broken)
        finally:
            self._close()

    def _turn(self) -> None:
        if self._calls:
            self._take_calls()
        while self._jobs:
            if self._calls:
                self._take_calls()  # submitted before the job: a request to close must not overtake it
            self._jobs.popleft()()
        timeout_s = self._timers_due()
        if self._is_finished:
            return  # nobody would wake us any more
        self._lender.lend()
        self._is_asleep = True
        ready = self.selector.select(0 if self._calls or self._jobs else timeout_s)
        self._is_asleep = False
        self.state.now_s = time.monotonic()
        self._lender.recall()
        if self._calls:
            self._take_calls()  # before the results of those that were sent ahead
        for key, mask in ready:
            key.data(mask)

    def _take_calls(self) -> None:
        calls: list[Call] = [self._calls.popleft() for _ in range(len(self._calls))]
        sent_ahead = [call for call in calls if call.lent is not None]
        for call in sent_ahead:
            self._handle(events.CallSentAhead(call))
        if len(sent_ahead) == len(calls):
            return
        if sent_ahead:
            calls = [call for call in calls if call not in sent_ahead]
        self._handle(events.CallsQueued(calls))
        for context in [context for context in self.state.waiting.values() if context.environment is None]:
            self._find_environment(context)

    def _find_environment(self, context: ContextRecord) -> None:
        if context.environment is None and context.number not in self._preparing:
            self._preparing.add(context.number)
            self._prepare(context)

    def _timers_due(self) -> float | None:
        now = self.state.now_s = time.monotonic()
        due = [next_s for timer in self._timers if (next_s := timer(now)) is not None]
        if (alarm_s := self._reactor.alarms.next_s) is not None:
            if alarm_s <= now:
                self._handle(events.TimePassed())
                alarm_s = self._reactor.alarms.next_s
            if alarm_s is not None:
                due.append(alarm_s)
        if self._local is not None and (deadline := self._local.host.next_deadline_s()) is not None:
            if deadline <= now:
                self._local.host.tick()
            due.append(deadline)
        return max(0.0, min(due) - now) if due else None

    def _request(self, preparation: Preparation) -> None:
        self._handle(events.PreparationRequested(preparation))
        if not self.state.is_closing:
            self._find_environment(preparation.context)

    def _preparation_done(self, instruction: PreparationDone) -> None:
        ticket = instruction.preparation.ticket
        self._tickets.discard(ticket)
        end_ticket(ticket, instruction.error)

    def _handle(self, event: events.Event) -> None:
        instructions = self._reactor.handle(event)
        if self._journal is not None:
            self._journal.note(event, instructions)
        for instruction in instructions:
            self._execute(instruction)

    def _execute(self, instruction: events.Instruction) -> None:
        match instruction:
            case SendCalls():
                self._outbox.calls(instruction)
                if self._call_watcher is not None:
                    self._call_watcher(instruction.node, instruction.calls)
            case CallsDone():
                for call, outcome in zip(instruction.calls, instruction.outcomes, strict=True):
                    settle(future_of(call), outcome)
            case StartContext():
                self._outbox.start(instruction)
            case EndProcess():
                self._outbox.send(instruction.node, StopProcess(instruction.process, instruction.is_kill))
            case AskBack():
                self._outbox.send(instruction.node, TakeBack(instruction.process, instruction.until))
            case KillCall():
                self._outbox.send(
                    instruction.node, EndCall(instruction.process, instruction.number, instruction.reason)
                )
            case ReleaseNode():
                self._outbox.send(instruction.node, Farewell(instruction.reason))
            case CallsFailed():
                if isinstance(instruction.error, InitializerError):
                    self._on_broken(instruction.error)
                if isinstance(instruction.error, LimitExceeded):
                    self.reception.note_killed(instruction.calls)
                fail_all(instruction.calls, instruction.error)
            case CallsCancelled():
                for call in instruction.calls:
                    cancel(call)
            case CallsRequeued():
                pass  # they wait in their queues already
            case PreparationDone():
                self._preparation_done(instruction)
            case Finish():
                self._is_finished = True
            case _:
                assert_never(instruction)

    def _sender(self, node: NodeId, process: ProcessId) -> SendNow | None:
        port = self._outbox.ports.get(node)
        return None if port is None else port.sender(process)

    def _end_lent(self, process: ProcessRecord) -> None:
        self._outbox.send(process.node.node, StopProcess(process.process, is_kill=True))

    def layer(self, digest: str) -> StoredLayer:
        """Return the file of a layer, opened, from any thread.

        Raises:
            OSError: the client's store has it not.
        """
        return StoredLayer.of(self._store, digest)

    def _after_preparing(self, context: ContextRecord, event: events.ContextPrepared | events.ContextFailed) -> None:
        def tell() -> None:
            self._preparing.discard(context.number)
            self._handle(event)

        self.call_soon(tell)

    # --- the end

    def _give_up(self, error: BaseException | None) -> None:
        if error is None:
            self._handle(events.CloseRequested(is_cancelling=True))
        self.state.is_closing = True
        self._fail_all(error or ShutdownError("the executor was shut down while the call ran"))
        self._is_finished = True

    def _fail_all(self, error: BaseException) -> None:
        """Give every call that has no end this one."""
        calls: list[Call] = [*self._calls]
        self._calls.clear()
        for context in self.state.contexts.values():
            calls += context.queue
        for process in self.state.processes.values():
            calls += process.outstanding
        calls = [call for call in calls if not future_of(call).done()]
        if self._journal is not None:
            self._journal.calls("call failed", calls, reason=str(error))
        for call in calls:
            future_of(call).set_exception(error)

    def _refuse_late_tickets(self) -> None:
        while self._tickets:
            try:
                end_ticket(self._tickets.pop(), ShutdownError("the executor was shut down"))
            except KeyError:
                return  # another thread was faster

    def _refuse_late_calls(self) -> None:
        """End calls that were submitted while the loop ended; may run in several threads at once."""
        while True:
            try:
                call = self._calls.popleft()
            except IndexError:
                return
            if call.lent is not None or claim(call):
                future_of(call).set_exception(ShutdownError("the executor was shut down while the call was submitted"))

    def _close(self) -> None:
        """Leave nothing behind: processes, descriptors, the last rows of the history, calls that came too late."""
        self._is_over = True
        self._is_asleep = False
        self._refuse_late_calls()
        self._refuse_late_tickets()
        steps: Iterable[Callable[[], None]] = [*(port.close for port in self._outbox.ports.values()), *self._closers]
        for step in [*steps, self._usage.close]:
            try:
                step()
            except Exception:
                _log.exception("while the executor closed")
        self._free()


def _journal(state: ManagerState, log: LineWriter) -> Journal:
    from envpack_executor.manager.journal import Journal

    return Journal(f"{os.getpid()}-{next(_numbers)}", state, time.time, log.put)


def _sized_reactor(state: ManagerState, claim: Callable[[Call], bool], sizer: Sizer) -> SizedReactor:
    from envpack_executor.manager.sized import SizedReactor  # with the predictors, for those who ask for them

    return SizedReactor(state, claim, is_cancelled, sizer)
