"""A node's reactor and large values: frames wait for their blobs in order, and what is said waits for its results."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envpack_executor import messages
from envpack_executor.messages import Deliver, DropBlobs, Environment, ProcessId, StartProcess, StopProcess
from envpack_executor.worker.events import (
    BlobFailed,
    BlobHere,
    EnvironmentChecked,
    FetchBlob,
    FrameArrived,
    FreeBlobs,
    Launch,
    Launched,
    ProcessEnded,
    Reply,
    ResultSent,
    ResultTaken,
    SendResult,
    Stop,
    TellBlobs,
    Write,
)
from envpack_executor.worker.reactor import WorkerReactor
from envpack_executor.worker.state import WorkerState
from tests.fuzzing import times

ONE, TWO = ProcessId(1), ProcessId(2)
HERE = Environment("inherit")


def running(*processes: ProcessId) -> WorkerReactor:
    reactor = WorkerReactor(WorkerState())
    for process in processes:
        reactor.handle(StartProcess(process, HERE, b"boot"))
        reactor.handle(EnvironmentChecked(process, ()))
        reactor.handle(Launched(process, 100 + process))
    return reactor


def needing(process: ProcessId, frames: bytes, *names: str) -> Deliver:
    return Deliver(process, frames, blobs=tuple((name, 5) for name in names))


def test_frames_wait_for_their_blob_in_order_and_hold_up_nobody_else() -> None:
    reactor = running(ONE, TWO)
    assert reactor.handle(needing(ONE, b"1", "a")) == [FetchBlob("a", 5)]
    assert reactor.handle(Deliver(ONE, b"2")) == []
    assert reactor.handle(Deliver(TWO, b"3")) == [Write(TWO, b"3")]
    assert reactor.handle(BlobHere("a")) == [TellBlobs(ONE, ("a",)), Write(ONE, b"1"), Write(ONE, b"2")]
    assert reactor.handle(needing(ONE, b"4", "a")) == [Write(ONE, b"4")], "it knows the place"
    assert reactor.handle(needing(TWO, b"5", "a")) == [TellBlobs(TWO, ("a",)), Write(TWO, b"5")]


def test_a_blob_is_fetched_once_whoever_asks() -> None:
    reactor = running(ONE, TWO)
    asked = [reactor.handle(needing(process, b"x", "a", "b")) for process in (ONE, TWO, ONE)]
    assert asked == [[FetchBlob("a", 5), FetchBlob("b", 5)], [], []]


def test_a_blob_that_cannot_be_had_is_told_to_the_calls_that_need_it_and_tried_again_later() -> None:
    reactor = running(ONE)
    reactor.handle(needing(ONE, b"1", "a"))
    told = TellBlobs(ONE, problems=(("a", "no memory"),))
    assert reactor.handle(BlobFailed("a", "no memory")) == [told, Write(ONE, b"1")]
    assert reactor.handle(needing(ONE, b"2", "a")) == [FetchBlob("a", 5)]
    assert reactor.handle(BlobHere("a")) == [TellBlobs(ONE, ("a",)), Write(ONE, b"2")]


def test_what_is_dropped_is_forgotten_by_the_processes_that_know_it() -> None:
    reactor = running(ONE, TWO)
    reactor.handle(needing(ONE, b"1", "a"))
    reactor.handle(BlobHere("a"))
    assert reactor.handle(DropBlobs(("a",))) == [TellBlobs(ONE, dropped=("a",)), FreeBlobs(("a",))]
    assert reactor.handle(needing(ONE, b"2", "a")) == [FetchBlob("a", 5)]


def test_a_blob_that_arrives_after_it_was_dropped_is_freed() -> None:
    reactor = running(ONE)
    reactor.handle(needing(ONE, b"1", "a"))
    reactor.handle(StopProcess(ONE, is_kill=True))
    reactor.handle(ProcessEnded(ONE, -9, -1))
    reactor.handle(DropBlobs(("a",)))
    assert reactor.handle(BlobHere("a")) == [FreeBlobs(("a",))]


def test_a_set_up_that_needs_a_blob_is_launched_meanwhile() -> None:
    reactor = WorkerReactor(WorkerState())
    assert FetchBlob("a", 5) in reactor.handle(StartProcess(ONE, HERE, b"boot", (("a", 5),)))
    assert reactor.handle(EnvironmentChecked(ONE, ())) == [Launch(ONE, HERE, b"")]
    reactor.handle(Launched(ONE, 7))
    assert reactor.handle(BlobHere("a")) == [TellBlobs(ONE, ("a",)), Write(ONE, b"boot")]


def test_a_process_ends_in_order_only_after_what_it_was_given() -> None:
    reactor = running(ONE)
    reactor.handle(needing(ONE, b"1", "a"))
    assert reactor.handle(StopProcess(ONE, is_kill=False)) == []
    assert reactor.handle(BlobHere("a")) == [TellBlobs(ONE, ("a",)), Write(ONE, b"1"), Stop(ONE, is_kill=False)]


@pytest.mark.parametrize("results", [("a",), ("a", "b")])
def test_what_a_process_says_waits_for_its_large_results(results: tuple[str, ...]) -> None:
    reactor = running(ONE, TWO)
    for name in results:
        assert reactor.handle(ResultTaken(ONE, name)) == [SendResult(name)]
    assert reactor.handle(FrameArrived(ONE, 18, b"outcome")) == []
    assert reactor.handle(ProcessEnded(ONE, 0, -1)) == []
    assert reactor.handle(FrameArrived(TWO, 18, b"x")) == [Reply(messages.ProcessFrame(TWO, 18, b"x"))]
    for name in results[:-1]:
        assert reactor.handle(ResultSent(name)) == []
    frame, gone = messages.ProcessFrame(ONE, 18, b"outcome"), messages.ProcessGone(ONE, 0, -1)
    assert reactor.handle(ResultSent(results[-1])) == [Reply(frame), Reply(gone)]
    assert reactor.handle(ResultSent("unknown")) == []


def test_a_blob_that_came_at_a_second_attempt_is_no_problem_any_more() -> None:
    reactor = running(ONE)
    reactor.handle(needing(ONE, b"1", "a", "b"))
    assert reactor.handle(BlobFailed("a", "cut")) == []
    assert reactor.handle(needing(ONE, b"2", "a")) == [FetchBlob("a", 5)]
    assert reactor.handle(BlobHere("a")) == []
    assert reactor.handle(BlobHere("b")) == [TellBlobs(ONE, ("a", "b")), Write(ONE, b"1"), Write(ONE, b"2")]


# A machine that has much else to do is no failure.
@settings(max_examples=times(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from([ONE, TWO]), st.sets(st.sampled_from("abc"))), max_size=12), st.randoms())
def test_in_any_order_of_arrivals_all_frames_are_written_once_and_in_order(
    sent: list[tuple[ProcessId, set[str]]], random: Any
) -> None:
    reactor = running(ONE, TWO)
    wanted: set[str] = set()
    written: dict[ProcessId, list[bytes]] = {ONE: [], TWO: []}
    known: dict[ProcessId, set[str]] = {ONE: set(), TWO: set()}
    needs: dict[bytes, set[str]] = {}

    def act(event: Any) -> None:
        for step in reactor.handle(event):
            match step:
                case FetchBlob():
                    assert step.name not in wanted
                    wanted.add(step.name)
                case TellBlobs():
                    known[step.process] |= {*step.names, *(name for name, _ in step.problems)}
                case Write():
                    assert needs[step.frames] <= known[step.process], "a place is told before it is needed"
                    written[step.process].append(step.frames)

    def arrive() -> None:
        name = random.choice(sorted(wanted))
        wanted.remove(name)
        act(BlobHere(name) if random.random() < 0.7 else BlobFailed(name, "cut"))

    for number, (process, names) in enumerate(sent):
        frames = str(number).encode()
        needs[frames] = names
        act(needing(process, frames, *sorted(names)))
        if wanted and random.random() < 0.5:
            arrive()
    while wanted:
        arrive()
    for process in (ONE, TWO):
        assert written[process] == [str(number).encode() for number, (to, _) in enumerate(sent) if to == process]
