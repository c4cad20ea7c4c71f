"""What the messages of nodes mean: frames of context processes become events, their usage is remembered.

    node ──message──▶ reception ──event──▶ reactor
                          ├── usage of calls ──▶ history, whoever asked to be told
                          └── what calls print, pieces of large results ──▶ who takes them

Guarantees: the usage of a call is told before the call is done; what comes of a process that is gone is dropped.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, assert_never

from envpack_executor.errors import ContextSetupError, ExecutorError, InitializerError
from envpack_executor.manager import events
from envpack_executor.manager.arrivals import Arrivals
from envpack_executor.manager.loans import Lender
from envpack_executor.manager.outbox import Outbox
from envpack_executor.manager.printer import OnPrint, tell
from envpack_executor.manager.state import Call, ManagerState
from envpack_executor.manager.usage import UsageSink, call_at, killed_figures
from envpack_executor.messages import (
    CallEnded,
    Draining,
    FromWorker,
    Goodbye,
    Hello,
    LayerAway,
    LayersHere,
    MemoryKept,
    MemorySeen,
    NeedChunk,
    NeedLayer,
    NodeId,
    ProcessFrame,
    ProcessGone,
    ProcessId,
    ProcessPrinted,
    ProcessStarted,
    ResultComing,
    ResultPiece,
    Sharing,
    WorkerBeat,
)
from envpack_executor.pickling import load_failure
from envpack_executor.process import frames

if TYPE_CHECKING:
    from envpack_executor.manager.sized import SizedReactor
    from envpack_executor.manager.told import UsageTeller


class Reception:
    """Takes the messages of all nodes, in the loop's thread.

    Args:
        state: what the manager knows.
        handle: gives an event to the reactor.
        outbox: what was sent to the nodes.
        lender: is told of processes that are idle.
        usage: where the usage of calls goes.
        sized: learns from it what calls should be promised; None where they are promised nothing.
        on_broken: told when the executor must take no further calls.
        on_print: takes what calls print; None where it is not wanted here.
        store: folder of the store, or None for the default.
    """

    def __init__(
        self,
        state: ManagerState,
        handle: Callable[[events.Event], None],
        outbox: Outbox,
        lender: Lender,
        usage: UsageSink,
        sized: SizedReactor | None,
        on_broken: Callable[[ExecutorError], None],
        on_print: OnPrint | None,
        store: str | None,
    ) -> None:
        self.arrivals = Arrivals()
        self.on_first_kept: Callable[[], None] | None = None
        self.teller: UsageTeller | None = None
        self._state = state
        self._handle = handle
        self._outbox = outbox
        self._lender = lender
        self._usage = usage
        self._sized = sized
        self._on_broken = on_broken
        self._on_print = on_print
        self._store = store

    def take(self, node: NodeId, message: FromWorker) -> None:
        """Take a message of a node."""
        match message:
            case ProcessFrame():
                self._frame(message)
            case ProcessGone() | ProcessStarted() | CallEnded() | MemorySeen():
                self._handle(message)
            case MemoryKept():
                if self.on_first_kept is not None:
                    self.on_first_kept()
                    self.on_first_kept = None
                self._handle(message)
            case ProcessPrinted():
                process = self._state.processes.get(message.process)
                if self._on_print is not None and process is not None:
                    tell(self._on_print, process, message.pieces)
            case ResultComing():
                self.arrivals.expect(node, message)
            case ResultPiece():
                self.arrivals.take(node, message)
            case NeedChunk():
                self._send_chunk(node, message)
            case Draining():
                self._handle(events.NodeDraining(node, message.reason))
            case Hello() | Goodbye() | WorkerBeat() | Sharing() | NeedLayer() | LayersHere() | LayerAway():
                pass  # the connection's own business
            case _:
                assert_never(message)

    def note_killed(self, calls: Iterable[Call]) -> None:
        """Remember the usage of calls that were killed for it."""
        for call in calls:
            figures = killed_figures(call)
            self._usage.add([(call.function, 1, figures, call.features)])
            if self.teller is not None:
                self.teller.tell(call.function, 1, figures, call.features, call)

    def _frame(self, message: ProcessFrame) -> None:
        match message.kind:
            case frames.RESULTS:
                self._results(message.process, *pickle.loads(message.body))
                if self._sized is None and (process := self._state.processes.get(message.process)) is not None:
                    self._lender.note_idle(process)
            case frames.ANSWERS:
                self._results(message.process, *pickle.loads(message.body))
            case frames.RETURNED:
                self._handle(events.CallsReturned(message.process, int.from_bytes(message.body, "little")))
            case frames.READY:
                self._handle(events.ProcessReady(message.process))
            case frames.SETUP_FAILED:
                self._setup_failed(message.process, *pickle.loads(message.body))

    def _results(
        self,
        process: ProcessId,
        outcomes: list[Any],
        times: list[tuple[int, int, int]],
        usages: list[tuple[int, int, Mapping[str, Any], int]],
        irregular: list[tuple[int, str, Any]],
        numbers: Sequence[int] = (),
    ) -> None:
        if usages:
            self._usages(process, usages)
        durations = [(number, wall_ns / calls / 1e9) for number, calls, wall_ns in times]
        self._handle(events.ResultsArrived(process, outcomes, durations, irregular, numbers))

    def _usages(self, process: ProcessId, usages: list[tuple[int, int, Mapping[str, Any], int]]) -> None:
        """Remember usages; this happens before the calls are done, so that it is known which calls they are of."""
        functions = self._outbox.functions
        if self._sized is None and self.teller is None:
            self._usage.add((functions[number], calls, figures, None) for number, calls, figures, _ in usages)
            return
        for number, calls, figures, call_number in usages:
            function, features = functions[number], None
            if self._sized is not None:
                features = self._sized.learn(process, call_number, function, calls, figures)
            self._usage.add([(function, calls, figures, features)])
            if self.teller is not None:
                call = call_at(self._state.processes.get(process), call_number)
                self.teller.tell(function, calls, figures, features, call)

    def _setup_failed(self, process_id: ProcessId, stage: str, failure: tuple[bytes | None, str, str, str]) -> None:
        process = self._state.processes.get(process_id)
        if process is None:
            return
        cause = load_failure(failure)
        summary = f"{failure[1]}: {failure[2]}"
        error: ExecutorError
        if stage == "initializer":
            error = InitializerError(f"initializer failed in a context process: {summary}")
            error.__cause__ = cause
            self._on_broken(error)
        else:
            error = ContextSetupError(f"set-up of context {process.context.name!r} failed: {summary}")
            error.__cause__ = cause
        self._handle(events.ContextFailed(process.context.number, error))

    def _send_chunk(self, node: NodeId, message: NeedChunk) -> None:
        from envpack_executor.manager.layers import read_chunk

        self._outbox.send(node, read_chunk(self._store, message.digest, message.offset))
