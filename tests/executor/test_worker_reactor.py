"""The worker's decisions, without any process: tables of the interesting orders, and random orders of everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from envpack_executor import messages
from envpack_executor.messages import Chunk, Deliver, Environment, NeedChunk, ProcessId, StartProcess, StopProcess
from envpack_executor.worker import events as worker
from envpack_executor.worker.events import (
    CallKilled,
    CheckEnvironment,
    DrainRequested,
    EnvironmentChecked,
    FrameArrived,
    KillCall,
    Launch,
    Launched,
    LaunchFailed,
    LayerFailed,
    LayerStored,
    Leave,
    ProcessEnded,
    Reply,
    Stop,
    StoreChunk,
    TakeCallsBack,
    Tick,
    Write,
)
from envpack_executor.worker.reactor import WorkerReactor
from envpack_executor.worker.state import Phase, WorkerState
from tests.fuzzing import times

PACKED = Environment("manifest", manifest=b"{}", manifest_id="m")
ONE, TWO = ProcessId(1), ProcessId(2)


@pytest.fixture
def reactor() -> WorkerReactor:
    return WorkerReactor(WorkerState())


def start(reactor: WorkerReactor, process: ProcessId, missing: tuple[str, ...] = ()) -> list[worker.Instruction]:
    assert reactor.handle(StartProcess(process, PACKED, b"boot")) == [CheckEnvironment(process, PACKED)]
    return reactor.handle(EnvironmentChecked(process, missing))


def run(reactor: WorkerReactor, process: ProcessId) -> None:
    assert start(reactor, process) == [Launch(process, PACKED, b"boot")]
    assert reactor.handle(Launched(process, 77)) == [Reply(messages.ProcessStarted(process, 77))]


def gone(process: ProcessId, exit_status: int | None = None, running: int = -1, reason: str = "") -> Reply:
    return Reply(messages.ProcessGone(process, exit_status, running, reason))


# --- processes


def test_a_process_is_launched_and_passes_frames_both_ways(reactor: WorkerReactor) -> None:
    run(reactor, ONE)
    assert reactor.handle(Deliver(ONE, b"calls")) == [Write(ONE, b"calls")]
    assert reactor.handle(FrameArrived(ONE, 18, b"results")) == [Reply(messages.ProcessFrame(ONE, 18, b"results"))]
    assert reactor.handle(ProcessEnded(ONE, -9, 5)) == [gone(ONE, -9, 5)]
    assert not reactor.state.processes


def test_frames_that_come_before_the_process_are_held_and_written_in_order(reactor: WorkerReactor) -> None:
    start(reactor, ONE)
    assert reactor.handle(Deliver(ONE, b"1")) == reactor.handle(Deliver(ONE, b"2")) == []
    assert reactor.handle(Launched(ONE, 7))[1:] == [Write(ONE, b"1"), Write(ONE, b"2")]


def test_a_launch_that_fails_is_told_with_its_reason(reactor: WorkerReactor) -> None:
    start(reactor, ONE)
    assert reactor.handle(LaunchFailed(ONE, "no room")) == [gone(ONE, reason="no room")]


def test_a_process_stopped_before_its_launch_is_gone_at_once(reactor: WorkerReactor) -> None:
    start(reactor, ONE, missing=("a",))
    assert reactor.handle(StopProcess(ONE, True)) == [gone(ONE, reason="stopped before it was started")]
    assert reactor.handle(LayerStored("a")) == []


@pytest.mark.parametrize("is_kill", [True, False])
def test_a_process_stopped_during_its_launch_is_ended_as_soon_as_it_is_there(
    reactor: WorkerReactor, is_kill: bool
) -> None:
    start(reactor, ONE)
    assert reactor.handle(StopProcess(ONE, is_kill)) == []
    assert reactor.handle(Launched(ONE, 7))[-1] == Stop(ONE, is_kill=True)
    assert reactor.handle(ProcessEnded(ONE, -9, -1)) == [gone(ONE, -9)]


def test_a_running_process_is_stopped_as_asked(reactor: WorkerReactor) -> None:
    run(reactor, ONE)
    assert reactor.handle(StopProcess(ONE, False)) == [Stop(ONE, False)]
    assert reactor.handle(StopProcess(ONE, True)) == [Stop(ONE, True)]


def test_messages_about_unknown_processes_are_ignored(reactor: WorkerReactor) -> None:
    for event in (
        Deliver(ONE, b"x"),
        StopProcess(ONE, True),
        EnvironmentChecked(ONE, ("a",)),
        LaunchFailed(ONE, "late"),
        ProcessEnded(ONE, 0, -1),
        LayerStored("a"),
        LayerFailed("a", "late"),
    ):
        assert reactor.handle(event) == []
    assert reactor.handle(Launched(ONE, 7)) == [Stop(ONE, is_kill=True)], "nobody wants it: it must not stay"


# --- layers


def test_a_layer_that_two_processes_miss_is_asked_for_once_and_starts_both(reactor: WorkerReactor) -> None:
    assert start(reactor, ONE, missing=("a", "b")) == [Reply(NeedChunk("a", 0)), Reply(NeedChunk("b", 0))]
    assert start(reactor, TWO, missing=("a",)) == []
    assert reactor.handle(LayerStored("a")) == [Launch(TWO, PACKED, b"boot")]
    assert reactor.handle(LayerStored("b")) == [Launch(ONE, PACKED, b"boot")]


def test_a_layer_is_fetched_piece_by_piece(reactor: WorkerReactor) -> None:
    start(reactor, ONE, missing=("a",))
    assert reactor.handle(Chunk("a", 0, b"xxx", 5)) == [StoreChunk("a", b"xxx", False), Reply(NeedChunk("a", 3))]
    assert reactor.handle(Chunk("a", 0, b"xxx", 5)) == [], "it came twice"
    assert reactor.handle(Chunk("a", 3, b"yy", 5)) == [StoreChunk("a", b"yy", True)]


def test_a_layer_that_nobody_has_fails_the_processes_that_miss_it(reactor: WorkerReactor) -> None:
    start(reactor, ONE, missing=("a" * 64,))
    start(reactor, TWO, missing=("b",))
    [reply] = reactor.handle(Chunk("a" * 64, 0, b"", -1))
    assert reply == gone(ONE, reason=f"layer {'a' * 12} could not be fetched: the manager does not have it")
    assert set(reactor.state.processes) == {TWO}


def test_a_layer_that_failed_is_asked_for_again_by_the_next_process(reactor: WorkerReactor) -> None:
    start(reactor, ONE, missing=("a",))
    reactor.handle(LayerFailed("a", "digest mismatch"))
    assert start(reactor, TWO, missing=("a",)) == [Reply(NeedChunk("a", 0))]


# --- calls that must end


def test_what_concerns_calls_goes_to_running_processes_alone(reactor: WorkerReactor) -> None:
    assert reactor.handle(messages.EndCall(ONE, 0, "cancelled")) == []
    run(reactor, ONE)
    assert reactor.handle(messages.EndCall(ONE, 2, "cancelled")) == [KillCall(ONE, 2, "cancelled")]
    assert reactor.handle(messages.TakeBack(ONE, 3)) == [TakeCallsBack(ONE, 3)]
    killed = reactor.handle(CallKilled(ONE, 2, "timeout", 1.5))
    assert killed == [Reply(messages.CallEnded(ONE, 2, "timeout", 1.5))]


# --- the worker itself


def test_signs_of_life_are_sent_in_time_and_silence_ends_the_worker(reactor: WorkerReactor) -> None:
    assert reactor.handle(Tick(100.0)) == [], "not welcomed yet"
    reactor.handle(messages.Welcome(1.0, 5.0))
    reactor.heard(100.0)
    assert reactor.handle(Tick(100.5)) == [Reply(messages.WorkerBeat())]
    assert reactor.handle(Tick(101.4)) == []
    assert reactor.handle(Tick(101.5)) == [Reply(messages.WorkerBeat())]
    assert reactor.handle(Tick(105.0)) == [Reply(messages.WorkerBeat())]
    assert reactor.handle(Tick(105.1)) == [Leave("manager silent for 5.1 s", is_silence=True, may_return=True)]
    assert reactor.handle(Tick(106.0)) == [], "it leaves once"


def test_who_drains_says_so_once_and_leaves_when_let_go(reactor: WorkerReactor) -> None:
    reactor.handle(messages.Welcome(1.0, 5.0))
    reactor.heard(100.0)
    assert reactor.handle(DrainRequested("told to", 110.0)) == [Reply(messages.Draining("told to"))]
    assert reactor.handle(Tick(101.0)) == [Reply(messages.WorkerBeat())]
    assert reactor.handle(messages.Farewell("nothing is left to do")) == [Leave("told to")]


@pytest.mark.parametrize("how", ["its time is over", "it is told so again", "the manager is silent", "not welcome yet"])
def test_who_drains_does_not_wait_for_ever_and_never_returns(reactor: WorkerReactor, how: str) -> None:
    if how == "not welcome yet":
        assert reactor.handle(DrainRequested("told to", 110.0)) == [Leave("told to")]
        return
    reactor.handle(messages.Welcome(1.0, 5.0))
    reactor.heard(100.0)
    reactor.handle(DrainRequested("told to", 103.0))
    if how == "the manager is silent":
        reactor.handle(messages.Welcome(1.0, 2.0))
        silence = Leave("manager silent for 2.5 s", is_silence=True, may_return=False)
        assert reactor.handle(Tick(102.5)) == [silence]
    elif how == "its time is over":
        assert reactor.handle(Tick(103.0)) == [Leave("told to")]
    else:
        assert reactor.handle(DrainRequested("told to", 103.0)) == [Leave("told to")]


def test_who_was_forgotten_may_return_unless_it_was_to_leave_anyway(reactor: WorkerReactor) -> None:
    forgotten = messages.Farewell("given up", may_return=True)
    reactor.handle(messages.Welcome(1.0, 5.0))
    assert reactor.handle(forgotten) == [Leave("given up", may_return=True)]
    other = WorkerReactor(WorkerState())
    other.handle(messages.Welcome(1.0, 5.0))
    other.handle(DrainRequested("told to", 103.0))
    assert other.handle(forgotten) == [Leave("told to")]


@pytest.mark.parametrize("is_refusal", [True, False])
def test_a_farewell_is_the_end_and_nothing_is_started_after_it(reactor: WorkerReactor, is_refusal: bool) -> None:
    assert reactor.handle(messages.Farewell("done", is_refusal)) == [Leave("done", is_refusal=is_refusal)]
    assert reactor.handle(messages.Farewell("done")) == []
    assert reactor.handle(StartProcess(ONE, PACKED, b"")) == []


def test_a_process_is_started_once_however_often_it_is_asked_for(reactor: WorkerReactor) -> None:
    start(reactor, ONE)
    assert reactor.handle(StartProcess(ONE, PACKED, b"boot")) == []


# --- any order


class AnyOrder(RuleBasedStateMachine):
    """Checks, layers, launches, stops and ends cross each other; the manager hears of each process's end once."""

    def __init__(self) -> None:
        super().__init__()
        self.reactor = WorkerReactor(WorkerState())
        self.started = 0
        self.checking: set[ProcessId] = set()
        self.launching: set[ProcessId] = set()
        self.running: set[ProcessId] = set()
        self.asked: dict[str, int] = {}
        self.storing: set[str] = set()
        self.gone: Counter[ProcessId] = Counter()
        self.delivered: dict[ProcessId, list[bytes]] = {}
        self.written: dict[ProcessId, list[bytes]] = {}

    def tell(self, event: worker.Event) -> None:
        for instruction in self.reactor.handle(event):
            self.obey(instruction)

    def obey(self, instruction: worker.Instruction) -> None:
        match instruction:
            case CheckEnvironment():
                self.checking.add(instruction.process)
            case Launch():
                assert instruction.process not in self.launching | self.running, "launched twice"
                self.launching.add(instruction.process)
            case Write():
                assert instruction.process in self.running, "written to a process that is not there"
                self.written[instruction.process].append(instruction.frames)
            case Stop():
                assert instruction.process in self.running
            case StoreChunk():
                assert instruction.digest not in self.storing
                if instruction.is_last:
                    self.storing.add(instruction.digest)
            case Reply(messages.ProcessGone() as message):
                self.gone[message.process] += 1
            case Reply(NeedChunk() as message):
                assert message.digest not in self.asked | dict.fromkeys(self.storing), "asked for twice at once"
                self.asked[message.digest] = message.offset

    def pick(self, data: st.DataObject, values: Iterable[Any]) -> Any:
        return data.draw(st.sampled_from(sorted(values)))

    @rule()
    def process_is_asked_for(self) -> None:
        self.started += 1
        process = ProcessId(self.started)
        self.delivered[process], self.written[process] = [], []
        self.tell(StartProcess(process, PACKED, b""))

    @precondition(lambda self: self.checking)
    @rule(data=st.data(), missing=st.sets(st.sampled_from("abc")))
    def environment_is_checked(self, data: st.DataObject, missing: set[str]) -> None:
        process = self.pick(data, self.checking)
        self.checking.remove(process)
        self.tell(EnvironmentChecked(process, tuple(sorted(missing))))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), rest=st.integers(-1, 2))
    def chunk_arrives(self, data: st.DataObject, rest: int) -> None:
        digest = self.pick(data, self.asked)
        offset = self.asked.pop(digest)
        if rest < 0:
            self.tell(Chunk(digest, offset, b"", -1))
        else:
            self.tell(Chunk(digest, offset, b"x", offset + 1 + rest))

    @precondition(lambda self: self.storing)
    @rule(data=st.data(), is_good=st.booleans())
    def layer_is_stored(self, data: st.DataObject, is_good: bool) -> None:
        digest = self.pick(data, self.storing)
        self.storing.remove(digest)
        self.tell(LayerStored(digest) if is_good else LayerFailed(digest, "no room"))

    @precondition(lambda self: self.launching)
    @rule(data=st.data(), is_good=st.booleans())
    def launch_ends(self, data: st.DataObject, is_good: bool) -> None:
        process = self.pick(data, self.launching)
        self.launching.remove(process)
        if is_good:
            self.running.add(process)
            self.tell(Launched(process, 1))
            assert process in self.gone or self.written[process] == self.delivered[process]
        else:
            self.tell(LaunchFailed(process, "no room"))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def process_ends(self, data: st.DataObject) -> None:
        process = self.pick(data, self.running)
        self.running.remove(process)
        self.tell(ProcessEnded(process, 0, -1))

    @precondition(lambda self: self.started)
    @rule(data=st.data(), is_kill=st.booleans())
    def process_is_stopped(self, data: st.DataObject, is_kill: bool) -> None:
        self.tell(StopProcess(ProcessId(data.draw(st.integers(1, self.started))), is_kill))

    @precondition(lambda self: self.started)
    @rule(data=st.data(), frames=st.binary(min_size=1, max_size=2))
    def frames_are_delivered(self, data: st.DataObject, frames: bytes) -> None:
        process = ProcessId(data.draw(st.integers(1, self.started)))
        if not self.gone[process]:
            self.delivered[process].append(frames)
        self.tell(Deliver(process, frames))

    @invariant()
    def every_process_is_known_until_it_is_gone_and_gone_once(self) -> None:
        everybody = {ProcessId(number + 1) for number in range(self.started)}
        assert all(count == 1 for count in self.gone.values() if count)
        assert set(self.reactor.state.processes) == {process for process in everybody if not self.gone[process]}
        for process in self.running - {process for process in everybody if self.gone[process]}:
            assert self.written[process] == self.delivered[process]
        for record in self.reactor.state.processes.values():
            assert (record.phase is Phase.FETCHING) == bool(record.missing)
            assert record.missing <= set(self.reactor.state.fetching), "nobody fetches what it waits for"

    def teardown(self) -> None:
        """When nothing more goes wrong, every process is launched, and its end is told when it ends."""
        while self.checking or self.asked or self.storing or self.launching or self.running:
            for process in list(self.checking):
                self.checking.remove(process)
                self.tell(EnvironmentChecked(process, ()))
            for digest, offset in list(self.asked.items()):
                del self.asked[digest]
                self.tell(Chunk(digest, offset, b"x", offset + 1))
            for digest in list(self.storing):
                self.storing.remove(digest)
                self.tell(LayerStored(digest))
            for process in list(self.launching):
                self.launching.remove(process)
                self.running.add(process)
                self.tell(Launched(process, 1))
            for process in list(self.running):
                self.running.remove(process)
                self.tell(ProcessEnded(process, 0, -1))
        assert not self.reactor.state.processes
        assert sum(self.gone.values()) == self.started


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=times(120), stateful_step_count=40, deadline=None)
