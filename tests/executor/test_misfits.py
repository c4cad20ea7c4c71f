"""A node where a context cannot be started: its calls go to others, and fail only where none is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from envpack_executor import ContextExecutor, RemoteNodes, task
from envpack_executor.errors import ProcessStartError
from envpack_executor.manager import events, misfits
from envpack_executor.manager.reactor import ManagerReactor
from envpack_executor.manager.state import Call, ContextRecord, FunctionRecord, ManagerState
from envpack_executor.messages import Environment, NodeId, ProcessGone
from tests.executor.conftest import StartWorker
from tests.executor.helpers import GENEROUS_S, wait_until

BROKEN, WHOLE = NodeId("broken"), NodeId("whole")


@pytest.fixture
def reactor() -> ManagerReactor:
    reactor = ManagerReactor(ManagerState(can_join=True), lambda call: True, lambda call: False)
    for node in (BROKEN, WHOLE):
        reactor.handle(events.NodeJoined(node, node, 1, 8))
    return reactor


def make_calls(count: int) -> list[Call]:
    context = ContextRecord(1, "key", "c", Environment("inherit"))
    function = FunctionRecord(1, b"", "f", "f", None)
    return [Call(number, function, context, b"") for number in range(count)]


def starts(todo: list[events.Instruction]) -> dict[NodeId, events.StartContext]:
    return {step.node: step for step in todo if isinstance(step, events.StartContext)}


def failures(todo: list[events.Instruction]) -> list[events.CallsFailed]:
    return [step for step in todo if isinstance(step, events.CallsFailed)]


def fail_starts(reactor: ManagerReactor, start: events.StartContext, count: int) -> list[events.Instruction]:
    """Let a process, and those that are started in its place on its node, be lost before they are ready."""
    for number in range(count):
        todo = reactor.handle(ProcessGone(start.process, 1, -1))
        if number < count - 1:
            start = starts(todo)[start.node]
    return todo


def test_a_context_leaves_a_node_alone_where_it_could_not_be_started(reactor: ManagerReactor) -> None:
    begun = starts(reactor.handle(events.CallsQueued(make_calls(2))))
    assert set(begun) == {BROKEN, WHOLE}
    todo = fail_starts(reactor, begun[BROKEN], misfits.MAX_FAILED_STARTS)
    assert todo == []  # neither a failure nor another start
    todo = reactor.handle(events.ProcessReady(begun[WHOLE].process))
    assert [step.node for step in todo if isinstance(step, events.SendCalls)] == [WHOLE]
    assert not starts(todo)


def test_a_process_that_never_began_is_not_tried_again_on_its_node(reactor: ManagerReactor) -> None:
    begun = starts(reactor.handle(events.CallsQueued(make_calls(2))))
    todo = reactor.handle(ProcessGone(begun[BROKEN].process, None, -1, "no space left on device"))
    assert todo == []


def test_calls_fail_with_the_story_of_every_node_when_none_is_left(reactor: ManagerReactor) -> None:
    begun = starts(reactor.handle(events.CallsQueued(make_calls(2))))
    fail_starts(reactor, begun[BROKEN], misfits.MAX_FAILED_STARTS)
    (failed,) = failures(fail_starts(reactor, begun[WHOLE], misfits.MAX_FAILED_STARTS))
    assert len(failed.calls) == 2
    assert isinstance(failed.error, ProcessStartError)
    assert "after 6 tries" in str(failed.error)
    assert str(failed.error).count(" on broken") == str(failed.error).count(" on whole") == 3
    assert set(starts(reactor.handle(events.CallsQueued(make_calls(2))))) == {BROKEN, WHOLE}


def test_a_node_is_tried_again_when_the_others_are_gone(reactor: ManagerReactor) -> None:
    begun = starts(reactor.handle(events.CallsQueued(make_calls(2))))
    fail_starts(reactor, begun[BROKEN], misfits.MAX_FAILED_STARTS)
    todo = reactor.handle(events.NodeLost(WHOLE, "cut off"))
    assert set(starts(todo)) == {BROKEN}


def test_a_node_is_tried_again_after_a_while(reactor: ManagerReactor) -> None:
    begun = starts(reactor.handle(events.CallsQueued(make_calls(2))))
    fail_starts(reactor, begun[BROKEN], misfits.MAX_FAILED_STARTS)
    reactor.state.now_s += misfits.AGAIN_AFTER_S
    todo = reactor.handle(events.TimePassed())
    assert set(starts(todo)) == {BROKEN}
    assert not failures(reactor.handle(events.ProcessReady(starts(todo)[BROKEN].process)))


def _set_up(broken: str) -> None:
    if os.getppid() == int(Path(broken).read_text()):
        os.kill(os.getpid(), signal.SIGKILL)


def test_calls_of_two_workers_end_well_where_one_cannot_set_them_up(start_worker: StartWorker, tmp_path: Path) -> None:
    nodes = RemoteNodes()
    with ContextExecutor(nodes=nodes) as executor:
        broken, whole = (start_worker(nodes.address, nodes.key_file, "--cores", "1") for _ in range(2))
        (tmp_path / "broken").write_text(str(broken.pid))
        wait_until(lambda: executor.stats().nodes == 2, "both have joined")
        function = task(context=(_set_up, str(tmp_path / "broken")))(os.getppid)
        futures = [executor.submit(function) for _ in range(20)]
        assert {future.result(GENEROUS_S) for future in futures} == {whole.pid}
