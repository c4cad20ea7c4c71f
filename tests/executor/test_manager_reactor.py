"""The manager's decisions, without any process: tables of the interesting orders, and random orders of everything."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from envpack_executor.errors import ProcessExitedError, ProcessLostError, ProcessStartError
from envpack_executor.manager import events as manager
from envpack_executor.manager import misfits
from envpack_executor.manager.events import (
    AskBack,
    CallsCancelled,
    CallsDone,
    CallsFailed,
    CallsQueued,
    CallsRequeued,
    CallsReturned,
    CallsWithdrawn,
    CancelRequested,
    CloseRequested,
    ContextFailed,
    ContextPrepared,
    EndProcess,
    Finish,
    KillCall,
    NodeDraining,
    NodeJoined,
    NodeLost,
    PreparationDone,
    PreparationRequested,
    ProcessReady,
    ReleaseNode,
    ResultsArrived,
    SendCalls,
    StartContext,
    TimePassed,
)
from envpack_executor.manager.reactor import OUTSTANDING_S, ManagerReactor
from envpack_executor.manager.resources import slots_for
from envpack_executor.manager.state import (
    Call,
    CallOptions,
    ContextRecord,
    FunctionRecord,
    ManagerState,
    NodeRecord,
    Phase,
    Preparation,
    ProcessRecord,
)
from envpack_executor.messages import CallEnded, Environment, MemoryKept, NodeId, ProcessGone, ProcessId
from envpack_monitor import Allocation
from tests.fuzzing import times

LOST_CHILDREN = ((3, "", 0.1), (-9, "", 0.1), (-9, "timeout", 1.1), (-9, "cancelled", 0.1), (-9, "another", 0.1))
INHERIT = Environment("inherit")
HERE = NodeId("here")


def check_invariants(state: ManagerState) -> None:
    """Assert what must be true between any two events."""
    check_places(state)
    nodes = state.nodes.values()
    free = [node for node in nodes if node.busy < node.slots and not node.is_draining]
    for context in state.waiting.values():
        has_free_slot = any(not misfits.is_avoided(node, context, nodes, state.now_s) for node in free)
        if context.environment is not None and has_free_slot and context.resources is None:
            phases = {process.phase for process in context.processes.values()}
            is_short = any(node.is_short and node.busy for node in nodes)
            assert phases & {Phase.STARTING, Phase.READY} or is_short, f"context {context.number} is forgotten"


def check_places(state: ManagerState, slots_for: Callable[[NodeRecord, Allocation | None], int] = slots_for) -> None:
    """Assert that each call is in one place, and each slot with one process."""
    for node in state.nodes.values():
        holders = [process for process in node.processes.values() if holds_a_slot(process)]
        alive = [process for process in node.processes.values() if process.phase is not Phase.STOPPING]
        taken = sum(slots_for(node, each.context.resources) + each.extra_slots for each in holders)
        assert node.busy == taken, "a slot leaked"
        for device, load in enumerate(node.loads):
            shares = [min(each.context.resources.gpus, 1) for each in holders if device in each.devices]  # type: ignore
            assert load == pytest.approx(sum(shares)), "a device leaked"
            assert load <= 1, "more calls on a device than it has shares"
        assert 0 <= node.busy <= node.slots
        assert len(alive) <= node.resident
    for process in state.processes.values():
        assert state.nodes[process.node.node].processes[process.process] is process
        assert process.context.processes[process.process] is process
        assert process.phase is Phase.READY or not process.outstanding
        assert len(process.outstanding) + process.taken <= process.sent
        assert process.is_recalled or not (process.taken or process.is_asked)
    contexts = state.contexts.values()
    assert {context.number for context in contexts if context.queue} == set(state.waiting)
    at_processes = sum(len(process.outstanding) for process in state.processes.values())
    assert state.open_calls == at_processes + sum(len(context.queue) for context in contexts)


def holds_a_slot(process: ProcessRecord) -> bool:
    return (process.phase is Phase.STARTING and not process.is_ahead) or bool(process.outstanding)


class Manager:
    """A reactor whose invariants are checked after each event, and short words for what the tests do with it."""

    def __init__(self, slots: int = 1, resident: int = 8, max_tries: int = 3) -> None:
        self.state = ManagerState(max_tries=max_tries)
        self.cancelled: set[int] = set()
        self.claimed: set[int] = set()
        self.reactor = ManagerReactor(self.state, self._claim, lambda call: call.number in self.cancelled)
        self.numbers = itertools.count()
        self.requeued: list[CallsRequeued] = []
        self.function = FunctionRecord(0, b"", "work", "work")
        if slots:
            self.handle(NodeJoined(HERE, "here", slots, resident))

    def _claim(self, call: Call) -> bool:
        assert call.number not in self.claimed, "claimed twice"
        if call.number in self.cancelled:
            return False
        self.claimed.add(call.number)
        return True

    def handle(self, event: manager.Event) -> list[manager.Instruction]:
        instructions = self.reactor.handle(event)
        self.check()
        self.requeued = [each for each in instructions if isinstance(each, CallsRequeued)]
        return [each for each in instructions if not isinstance(each, CallsRequeued)]

    def check(self) -> None:
        check_invariants(self.state)

    def calls(self, context: ContextRecord, count: int = 1, function: FunctionRecord | None = None) -> list[Call]:
        return [Call(next(self.numbers), function or self.function, context, b"") for _ in range(count)]

    def queue(self, context: ContextRecord, count: int = 1, function: FunctionRecord | None = None) -> Any:
        calls = self.calls(context, count, function)
        return calls, self.handle(CallsQueued(calls))

    def warm(self, context: ContextRecord, estimate_s: float | None = None) -> ProcessId:
        """Let a context have one ready process that has served one call, and return its id."""
        _, [start] = self.queue(context)
        self.handle(ProcessReady(start.process))
        self.results(start.process, 1, estimate_s or 1.0)
        self.function.estimate_s = estimate_s
        return ProcessId(start.process)

    def results(self, process: ProcessId, count: int, wall_s: float = 1.0) -> list[manager.Instruction]:
        return self.handle(ResultsArrived(process, list(range(count)), [(0, wall_s)]))


def make_context(number: int = 1, **options: Any) -> ContextRecord:
    return ContextRecord(number, f"key-{number}", f"context-{number}", **{"environment": INHERIT, **options})


def kinds(instructions: Iterable[manager.Instruction]) -> list[str]:
    return [type(instruction).__name__ for instruction in instructions]


# --- the ordinary course


def test_a_call_starts_a_process_and_is_sent_when_that_is_ready() -> None:
    world, context = Manager(), make_context()
    calls, instructions = world.queue(context)
    assert instructions == [StartContext(HERE, ProcessId(1), INHERIT, b"")]
    assert world.handle(ProcessReady(ProcessId(1))) == [SendCalls(HERE, ProcessId(1), [world.function], 0, calls)]
    assert world.results(ProcessId(1), 1) == [CallsDone(calls, [0])]
    assert (world.state.open_calls, world.state.nodes[HERE].busy) == (0, 0)


def test_a_function_is_sent_once_to_each_process() -> None:
    world, context = Manager(), make_context()
    process = world.warm(context)
    _, [again] = world.queue(context)
    assert (again.process, again.functions, again.first) == (process, [], 1)


def test_short_calls_travel_in_batches_and_long_ones_alone() -> None:
    world, context = Manager(), make_context()
    process = world.warm(context, estimate_s=1e-5)
    _, [batch] = world.queue(context, 1000)
    assert len(batch.calls) == OUTSTANDING_S / 1e-5
    world.results(process, len(batch.calls), 1e-5)
    other = Manager()
    other.warm(make_context(), estimate_s=1.0)
    _, [alone] = other.queue(next(iter(other.state.contexts.values())), 1000)
    assert len(alone.calls) == 1


def test_a_process_has_the_next_call_of_10_ms_too_while_more_wait_than_there_are_processes() -> None:
    world, context = Manager(), make_context()
    process = world.warm(context, estimate_s=0.01)
    _, [sent] = world.queue(context, 3)
    assert len(sent.calls) == 2
    assert kinds(world.results(process, 1, 0.01)) == ["CallsDone"], "the last one may go to whoever is free first"
    _, last = world.results(process, 1, 0.01)
    assert len(last.calls) == 1


def test_work_too_short_for_another_process_starts_none() -> None:
    world, context = Manager(slots=4), make_context()
    world.warm(context, estimate_s=1e-5)
    _, instructions = world.queue(context, 100)
    assert kinds(instructions) == ["SendCalls"]
    _, instructions = world.queue(context, 10_000)
    assert "StartContext" in kinds(instructions)


def test_no_more_processes_are_started_than_there_are_slots_or_calls() -> None:
    world = Manager(slots=4)
    _, instructions = world.queue(make_context(), 2)
    assert kinds(instructions) == ["StartContext"] * 2
    _, instructions = world.queue(make_context(2), 100)
    assert kinds(instructions) == ["StartContext"] * 2


def test_the_context_whose_call_waits_longest_gets_the_next_slot() -> None:
    world, first, second = Manager(slots=1), make_context(1), make_context(2)
    process = world.warm(first)
    world.queue(first, 2)
    [start] = world.queue(second)[1]
    world.queue(first, 5)
    assert kinds(world.results(process, 1)) == ["CallsDone", "SendCalls"], "its second call came before"
    assert kinds(world.results(process, 1)) == ["CallsDone", "SendCalls"], "nobody waits for a set-up"
    assert world.handle(ProcessReady(start.process)) == []
    _done, sent = world.results(process, 1)
    assert isinstance(sent, SendCalls)
    assert sent.process == start.process


def test_the_process_that_was_idle_longest_makes_room() -> None:
    world = Manager(slots=1, resident=2)
    oldest = world.warm(make_context(1))
    world.warm(make_context(2))
    _, instructions = world.queue(make_context(3))
    assert kinds(instructions) == ["EndProcess", "StartContext"]
    assert instructions[0] == EndProcess(HERE, oldest, False)


def test_a_fresh_process_serves_one_call() -> None:
    world, context = Manager(slots=1), make_context(is_fresh=True)
    calls, [start] = world.queue(context, 2)
    sent, ahead = world.handle(ProcessReady(start.process))
    assert sent.calls == calls[:1]  # type: ignore[union-attr]
    assert isinstance(ahead, StartContext), "the next one starts while the call runs"
    assert kinds(world.results(start.process, 1)) == ["EndProcess", "CallsDone"]
    world.handle(ProcessGone(start.process, 0, -1))
    [sent] = world.handle(ProcessReady(ahead.process))
    assert sent.calls == calls[1:]  # type: ignore[union-attr]
    assert set(world.state.processes) == {2}


def test_calls_wait_for_their_environment_and_then_run_in_order() -> None:
    world, context = Manager(), make_context(environment=None)
    calls, instructions = world.queue(context, 3)
    assert instructions == []
    assert kinds(world.handle(ContextPrepared(1, INHERIT, b"boot"))) == ["StartContext"]
    [sent] = world.handle(ProcessReady(ProcessId(1)))
    assert sent.calls == calls[:1]  # type: ignore[union-attr]


def test_calls_wait_for_a_node() -> None:
    world = Manager(slots=0)
    assert world.queue(make_context(), 3)[1] == []
    assert kinds(world.handle(NodeJoined(HERE, "here", 2, 8))) == ["StartContext"] * 2


# --- losses


def lose_a_batch(exit_status: int | None, running_call: int) -> tuple[Manager, list[Call], Any]:
    world, context = Manager(), make_context()
    process = world.warm(context, estimate_s=1e-3)
    calls, [sent] = world.queue(context, 4)
    assert (sent.first, sent.calls) == (1, calls)
    return world, calls, world.handle(ProcessGone(process, exit_status, running_call))


def test_an_exit_is_the_end_of_the_call_that_ran_and_the_others_are_run_again_in_order() -> None:
    _, calls, instructions = lose_a_batch(exit_status=3, running_call=2)
    assert kinds(instructions) == ["CallsFailed", "StartContext"]
    assert instructions[0].calls == [calls[1]]
    assert isinstance(instructions[0].error, ProcessExitedError)
    assert list(calls[0].context.queue) == [calls[0], calls[2], calls[3]]
    assert not any(call.losses for call in (calls[0], calls[2], calls[3]))


def test_a_signal_is_a_loss_of_the_call_that_ran_and_all_are_run_again_in_order() -> None:
    _, calls, instructions = lose_a_batch(exit_status=-9, running_call=2)
    assert kinds(instructions) == ["StartContext"]
    assert list(calls[0].context.queue) == calls
    assert [len(call.losses) for call in calls] == [0, 1, 0, 0]


@pytest.mark.parametrize(("exit_status", "running_call"), [(-9, -1), (0, -1), (3, -1), (-9, 0), (1, 7)])
def test_between_calls_the_next_one_is_blamed_but_not_given_back(exit_status: int, running_call: int) -> None:
    _, calls, instructions = lose_a_batch(exit_status, running_call)
    assert kinds(instructions) == ["StartContext"]
    assert list(calls[0].context.queue) == calls
    assert [len(call.losses) for call in calls] == [1, 0, 0, 0]


def test_a_call_that_lost_every_try_is_given_back_with_all_losses() -> None:
    world, context = Manager(max_tries=3), make_context()
    calls, [start] = world.queue(context)
    process = start.process
    for _ in range(2):
        world.handle(ProcessReady(process))
        [start] = world.handle(ProcessGone(process, -11, 0))
        process = start.process  # type: ignore[union-attr]
    world.handle(ProcessReady(process))
    [failed] = world.handle(ProcessGone(process, -9, 0))
    assert isinstance(failed, CallsFailed)
    assert failed.calls == calls
    assert isinstance(failed.error, ProcessLostError)
    assert failed.error.losses == ("killed by signal 11 on here",) * 2 + ("killed by signal 9 on here",)


def test_results_that_came_before_the_loss_are_kept_and_those_after_it_ignored() -> None:
    world, context = Manager(), make_context()
    process = world.warm(context, estimate_s=1e-3)
    calls, _ = world.queue(context, 4)
    assert world.results(process, 2, 1e-3)[0] == CallsDone(calls[:2], [0, 1])
    world.handle(ProcessGone(process, -9, 3))
    assert list(context.queue) == calls[2:]
    assert world.results(process, 2) == []
    assert world.handle(ProcessGone(process, -9, 3)) == []
    assert world.handle(ProcessReady(process)) == []


def test_three_processes_lost_before_they_were_ready_fail_every_waiting_call() -> None:
    world, context = Manager(), make_context()
    calls, _ = world.queue(context, 2)
    for process in (1, 2):
        assert kinds(world.handle(ProcessGone(ProcessId(process), 1, -1))) == ["StartContext"]
    [failed] = world.handle(ProcessGone(ProcessId(3), -9, -1))
    assert isinstance(failed, CallsFailed)
    assert failed.calls == calls
    assert isinstance(failed.error, ProcessStartError)
    assert "killed by signal 9 before it was ready" in str(failed.error)


def test_a_process_that_cannot_be_started_at_all_is_not_tried_again() -> None:
    world, context = Manager(), make_context()
    world.queue(context, 2)
    [failed] = world.handle(ProcessGone(ProcessId(1), None, -1, "no such interpreter"))
    assert isinstance(failed, CallsFailed)
    assert "no such interpreter" in str(failed.error)


def test_a_failed_context_fails_what_waits_and_ends_what_starts() -> None:
    world, context = Manager(slots=2), make_context()
    calls, _ = world.queue(context, 3)
    error = ValueError("no model")
    instructions = world.handle(ContextFailed(1, error))
    ends = [EndProcess(HERE, ProcessId(number), True) for number in (1, 2)]
    assert instructions == [CallsFailed(calls, error), *ends]
    assert kinds(world.queue(context)[1]) == ["StartContext"], "a later call tries again"


def test_what_ran_on_a_lost_node_runs_on_another_with_the_loss_noted() -> None:
    world, context = Manager(slots=1), make_context()
    process = world.warm(context, estimate_s=1e-3)
    calls, _ = world.queue(context, 3)
    world.handle(NodeJoined(NodeId("there"), "there", 1, 8))
    [start] = world.handle(NodeLost(HERE, "silent for 10.0 s"))
    assert isinstance(start, StartContext)
    assert start.node == "there"
    assert list(context.queue) == calls
    first, *others = calls
    assert first.losses == ("node here lost: silent for 10.0 s",)
    assert all(call.losses == () for call in others), "they only stood behind it"
    assert world.results(process, 3) == [], "the result of a lost node comes too late"
    assert world.handle(NodeLost(HERE, "again")) == []


# --- cancelling and closing


def test_a_call_cancelled_in_the_queue_is_never_sent() -> None:
    world, context = Manager(), make_context()
    calls, [start] = world.queue(context, 2)
    world.cancelled.add(calls[0].number)
    [sent] = world.handle(ProcessReady(start.process))
    assert sent.calls == calls[1:]  # type: ignore[union-attr]


def test_calls_cancelled_while_no_node_is_there_do_not_keep_the_executor_open() -> None:
    world, context = Manager(slots=0), make_context()
    calls, _ = world.queue(context, 3)
    world.cancelled.add(calls[1].number)
    assert world.handle(CloseRequested(False)) == []
    world.cancelled |= {call.number for call in calls}
    assert world.handle(CallsWithdrawn()) == [Finish()]


def test_closing_without_cancelling_finishes_after_the_last_call_and_the_last_process() -> None:
    world, context = Manager(), make_context()
    _, [start] = world.queue(context)
    assert world.handle(CloseRequested(False)) == []
    world.handle(ProcessReady(start.process))
    assert kinds(world.results(start.process, 1)) == ["CallsDone", "EndProcess"]
    assert world.handle(ProcessGone(start.process, 0, -1)) == [Finish()]
    assert world.handle(CloseRequested(False)) == [], "finished once"


def test_closing_ends_processes_that_are_not_ready_at_once_and_warm_ones_in_order() -> None:
    world, context = Manager(slots=2), make_context()
    world.queue(context, 2)
    world.handle(ProcessReady(ProcessId(1)))
    world.results(ProcessId(1), 1)
    world.results(ProcessId(1), 1)
    assert world.handle(CloseRequested(False)) == [
        EndProcess(HERE, ProcessId(1), False),
        EndProcess(HERE, ProcessId(2), True),
    ]


def test_closing_with_cancelling_drops_what_has_not_begun() -> None:
    world, context = Manager(), make_context()
    calls, _ = world.queue(context, 4)
    [dropped] = world.handle(CloseRequested(True))
    assert dropped == CallsCancelled(calls[1:]), "for the first one a process starts"
    assert list(context.queue) == calls[:1]


def test_closing_with_cancelling_keeps_what_was_sent_once() -> None:
    world, context = Manager(), make_context()
    process = world.warm(context, estimate_s=1e-3)
    calls, _ = world.queue(context, 4)
    more, _ = world.queue(context, 4)
    world.handle(ProcessGone(process, -9, 1))
    [dropped] = world.handle(CloseRequested(True))
    assert dropped == CallsCancelled(more)
    assert list(context.queue) == calls


def test_an_idle_executor_finishes_at_once() -> None:
    assert Manager().handle(CloseRequested(False)) == [Finish()]


# --- any order


@dataclass
class Ghost:
    """A context process as the world outside knows it, which may be more than the manager still does."""

    process: ProcessId
    node: NodeId
    context: int
    is_ready: bool = False
    is_ending: bool = False
    is_dying: bool = False
    asked: int | None = None
    unanswered: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    received: int = 0

    def take(self, count: int) -> list[int]:
        """Forget the oldest calls, and return them."""
        taken, self.unanswered, self.numbers = self.unanswered[:count], self.unanswered[count:], self.numbers[count:]
        return taken


class AnyOrder(RuleBasedStateMachine):
    """Everything may happen at any time: calls, losses of anything in any phase, late messages, cancels, the end."""

    def __init__(self) -> None:
        super().__init__()
        self.world = Manager(slots=0)
        self.contexts = [make_context(number, environment=None, is_fresh=number == 2) for number in range(3)]
        asked = Allocation(cores=1, gpus=0.5)
        self.contexts += [make_context(3, resources=asked), make_context(4, resources=replace(asked, gpus=2))]
        self.functions = [
            FunctionRecord(0, b"", "f0", "f"),
            FunctionRecord(1, b"", "f1", "f", options=CallOptions(retries=1, priority=1, timeout_s=1.0)),
        ]
        self.calls: dict[int, Call] = {}
        self.ends: Counter[int] = Counter()
        self.living: dict[ProcessId, Ghost] = {}
        self.forgotten: dict[ProcessId, Ghost] = {}
        self.node_numbers = itertools.count()
        self.preparations: list[Preparation] = []
        self.finished = 0

    # -- the world

    def tell(self, event: manager.Event) -> None:
        for instruction in self.world.handle(event):
            self.obey(instruction)

    def obey(self, instruction: manager.Instruction) -> None:
        match instruction:
            case StartContext():
                assert not self.world.state.nodes[instruction.node].is_draining
                context = self.world.state.processes[instruction.process].context.number
                self.living[instruction.process] = Ghost(instruction.process, instruction.node, context)
            case SendCalls():
                ghost = self.living[instruction.process]
                assert ghost.is_ready, "sent to a process that is not ready"
                assert ghost.asked is None, "sent before it has answered"
                assert not ghost.is_dying, "sent to a process that was killed"
                assert not self.world.state.nodes[ghost.node].is_draining
                assert instruction.first == ghost.received
                assert ghost.numbers == list(range(ghost.received - len(ghost.numbers), ghost.received)), "after a gap"
                ghost.received += len(instruction.calls)
                ghost.numbers += range(instruction.first, ghost.received)
                assert all(call.context.number == ghost.context for call in instruction.calls)
                ghost.unanswered += [call.number for call in instruction.calls]
            case AskBack():
                ghost = self.living[instruction.process]
                assert (ghost.asked, instruction.until) == (None, ghost.received), "asked twice"
                ghost.asked = instruction.until
            case KillCall():
                assert instruction.number < self.living[instruction.process].received
            case EndProcess():
                ghost = self.living[instruction.process]
                assert not ghost.is_ending, "ended twice"
                self.check_end(ghost, instruction)
                ghost.is_ending = True
            case ReleaseNode():
                assert self.world.state.nodes[instruction.node].is_draining
                assert not any(ghost.node == instruction.node for ghost in self.living.values())
            case CallsDone() | CallsFailed() | CallsCancelled():
                self.ends.update(call.number for call in instruction.calls)
            case PreparationDone():
                self.preparations.remove(instruction.preparation)
            case Finish():
                self.finished += 1

    def check_end(self, ghost: Ghost, instruction: EndProcess) -> None:
        assert not ghost.unanswered, "ended with calls"

    def pick(self, data: st.DataObject, values: Iterable[Any]) -> Any:
        return data.draw(st.sampled_from(sorted(values)))

    # -- events

    @precondition(lambda self: len(self.world.state.nodes) < 3)
    @rule(
        slots=st.integers(1, 3), size=st.integers(4, 20), budget=st.none() | st.integers(1, 10), gpus=st.integers(0, 2)
    )
    def node_joins(self, slots: int, size: int, budget: int | None, gpus: int) -> None:
        node = NodeId(f"n{next(self.node_numbers)}")
        self.tell(NodeJoined(node, str(node), slots, 2 * slots, memory_bytes=size, context_bytes=budget, gpus=gpus))

    @precondition(lambda self: self.living)
    @rule(data=st.data(), kept_bytes=st.integers(1, 6))
    def memory_is_kept(self, data: st.DataObject, kept_bytes: int) -> None:
        self.tell(MemoryKept(self.pick(data, self.living), kept_bytes))

    @precondition(lambda self: not self.finished)
    @rule(context=st.integers(0, 4), count=st.integers(1, 5))
    def processes_are_prepared(self, context: int, count: int) -> None:
        preparation = Preparation(self.contexts[context], count)
        self.preparations.append(preparation)
        self.tell(PreparationRequested(preparation))

    @rule(seconds=st.sampled_from([0.005, 0.01, 1.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.state.now_s += seconds
        self.tell(TimePassed())

    @precondition(lambda self: not self.finished)
    @rule(context=st.integers(0, 4), function=st.integers(0, 1), count=st.integers(1, 30))
    def calls_are_queued(self, context: int, function: int, count: int) -> None:
        calls = self.world.calls(self.contexts[context], count, self.functions[function])
        self.calls.update((call.number, call) for call in calls)
        self.tell(CallsQueued(calls))

    @precondition(lambda self: len(self.calls) > len(self.world.claimed | self.world.cancelled))
    @rule(data=st.data())
    def call_is_cancelled(self, data: st.DataObject) -> None:
        number = self.pick(data, self.calls.keys() - self.world.claimed - self.world.cancelled)
        if not self.ends[number]:
            self.world.cancelled.add(number)
            self.tell(CallsWithdrawn())

    @rule(context=st.integers(0, 4), is_failure=st.booleans())
    def context_is_prepared(self, context: int, is_failure: bool) -> None:
        record = self.contexts[context]
        if record.number not in self.world.state.contexts:
            return
        if record.environment is None and not is_failure:
            self.tell(ContextPrepared(record.number, INHERIT, b""))
        elif is_failure:
            self.tell(ContextFailed(record.number, ValueError("cannot be had")))

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def process_becomes_ready(self, data: st.DataObject) -> None:
        self.make_ready(self.pick(data, self.living))

    def make_ready(self, process: ProcessId) -> None:
        ghost = self.living[process]
        if not ghost.is_ready:
            ghost.is_ready = True
            self.tell(ProcessReady(process))

    @precondition(lambda self: any(ghost.unanswered for ghost in self.living.values()))
    @rule(data=st.data(), wall_s=st.sampled_from([1e-6, 1e-4, 1.0]))
    def results_arrive(self, data: st.DataObject, wall_s: float) -> None:
        process = self.pick(data, [process for process, ghost in self.living.items() if ghost.unanswered])
        self.answer(process, data.draw(st.integers(1, len(self.living[process].unanswered))), wall_s)

    @precondition(lambda self: any(ghost.unanswered for ghost in self.living.values()))
    @rule(data=st.data(), count=st.integers(1, 4))
    def results_are_failures(self, data: st.DataObject, count: int) -> None:
        process = self.pick(data, [process for process, ghost in self.living.items() if ghost.unanswered])
        count = min(count, len(self.living[process].unanswered))
        what = st.sampled_from(
            [None, ("raised", "E: e"), ("limit", "memory"), *(("lost", lost) for lost in LOST_CHILDREN)]
        )
        kinds = [data.draw(what) for _ in range(count)]
        self.answer(process, count, 1e-4, [(index, *kind) for index, kind in enumerate(kinds) if kind is not None])

    def answer(
        self, process: ProcessId, count: int, wall_s: float, irregular: Sequence[tuple[int, str, Any]] = ()
    ) -> None:
        outcomes = self.living[process].take(count)
        before = self.ends.copy()
        self.tell(ResultsArrived(process, outcomes, [(number, wall_s) for number in range(2)], irregular))
        failed = {outcomes[index] for index, *_ in irregular}
        for number in outcomes:
            assert self.ends[number] - before[number] in ((0, 1) if number in failed else (1,)), "outcomes of others"

    @precondition(lambda self: any(ghost.asked is not None for ghost in self.living.values()))
    @rule(data=st.data(), begun=st.integers(0, 3))
    def calls_are_given_back(self, data: st.DataObject, begun: int) -> None:
        self.give_back(self.pick(data, [p for p, ghost in self.living.items() if ghost.asked is not None]), begun)

    def give_back(self, process: ProcessId, begun: int) -> None:
        ghost = self.living[process]
        assert ghost.asked is not None
        first, ghost.asked = (ghost.numbers[begun] if begun < len(ghost.numbers) else ghost.asked), None
        del ghost.unanswered[begun:], ghost.numbers[begun:]
        self.tell(CallsReturned(process, first))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def call_is_cancelled_wherever_it_is(self, data: st.DataObject) -> None:
        number = self.pick(data, self.calls)
        if number not in self.world.cancelled:
            self.tell(CancelRequested(self.calls[number]))

    @precondition(lambda self: any(ghost.unanswered and not ghost.is_dying for ghost in self.living.values()))
    @rule(data=st.data(), reason=st.sampled_from(["timeout", "cancelled", "another"]))
    def running_call_is_killed(self, data: st.DataObject, reason: str) -> None:
        process = self.pick(data, [p for p, ghost in self.living.items() if ghost.unanswered and not ghost.is_dying])
        self.living[process].is_dying = True
        self.tell(CallEnded(process, data.draw(st.sampled_from(self.living[process].numbers)), reason, 1.5))

    @precondition(lambda self: self.living)
    @rule(data=st.data(), exit_status=st.sampled_from([None, 0, 3, -9]), between=st.booleans())
    def process_is_gone(self, data: st.DataObject, exit_status: int | None, between: bool) -> None:
        ghost = self.living.pop(self.pick(data, self.living))
        if ghost.is_ready and exit_status is None:
            exit_status = -9  # it had been started
        running = -1 if between or not ghost.unanswered else data.draw(st.sampled_from(ghost.numbers))
        self.forgotten[ghost.process] = ghost
        self.tell(ProcessGone(ghost.process, exit_status, running))

    @precondition(lambda self: self.world.state.nodes)
    @rule(data=st.data())
    def node_drains(self, data: st.DataObject) -> None:
        self.tell(NodeDraining(self.pick(data, self.world.state.nodes)))

    @precondition(lambda self: self.world.state.nodes)
    @rule(data=st.data())
    def node_is_lost(self, data: st.DataObject) -> None:
        node = self.pick(data, self.world.state.nodes)
        lost = [ghost for ghost in self.living.values() if ghost.node == node]
        for ghost in lost:
            self.forgotten[ghost.process] = self.living.pop(ghost.process)
        self.tell(NodeLost(node, "silent", data.draw(st.booleans())))

    @precondition(lambda self: self.forgotten)
    @rule(data=st.data(), kind=st.integers(0, 4))
    def message_comes_late(self, data: st.DataObject, kind: int) -> None:
        process = self.pick(data, self.forgotten)
        before = self.ends.copy()
        self.tell(
            (
                ProcessReady(process),
                ResultsArrived(process, self.forgotten[process].unanswered, []),
                ProcessGone(process, 0, 0),
                CallsReturned(process, 0),
                CallEnded(process, 0, "timeout", 1.0),
            )[kind]
        )
        assert self.ends == before

    @rule(is_cancelling=st.booleans())
    def close_is_requested(self, is_cancelling: bool) -> None:
        if len(self.calls) > 20:
            self.tell(CloseRequested(is_cancelling))

    @invariant()
    def no_call_ends_twice(self) -> None:
        assert all(count <= 1 for count in self.ends.values())
        assert self.finished <= 1

    def teardown(self) -> None:
        """When nothing more goes wrong, every call gets its end and the executor finishes, once."""
        self.tell(NodeJoined(NodeId("last"), "last", 2, 8, memory_bytes=20, gpus=2))
        for context in list(self.world.state.contexts.values()):
            if context.environment is None:
                self.tell(ContextPrepared(context.number, INHERIT, b""))
        self.tell(CloseRequested(False))
        for _ in range(5 * len(self.calls) + 10):
            for process in list(self.living):
                if process in self.living:
                    self.make_ready(process)
            for process, ghost in list(self.living.items()):
                if ghost.is_dying:
                    del self.living[process]
                    self.tell(ProcessGone(process, -9, ghost.numbers[0] if ghost.numbers else -1))
                elif ghost.asked is not None:
                    self.give_back(process, 1)
                elif ghost.unanswered:
                    self.answer(process, len(ghost.unanswered), 1e-3)
                elif ghost.is_ending:
                    del self.living[process]
                    self.tell(ProcessGone(process, 0, -1))
        assert self.finished == 1
        assert not self.living
        assert not self.world.state.processes
        assert not self.preparations, "one that is told once leaves the list"
        # One that was cancelled may have met a failure or the end of the executor first; it has its end either way.
        for number in self.calls:
            assert self.ends[number] == 1 or number in self.world.cancelled


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=times(120), stateful_step_count=40, deadline=None)
