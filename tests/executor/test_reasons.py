"""What the executor says of calls that have no end yet."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from envpack_executor import ContextExecutor, task
from envpack_executor.manager.events import (
    CallsQueued,
    CancelRequested,
    NodeJoined,
    ProcessReady,
    ResultsArrived,
    StartContext,
    TimePassed,
)
from envpack_executor.manager.reasons import reason
from envpack_executor.manager.state import FunctionRecord
from envpack_executor.messages import NodeId
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, wait_until
from tests.executor.test_call_ends import STALL_S, batch
from tests.executor.test_manager_reactor import Manager, make_context
from tests.executor.test_sized_reactor import SizedManager


def test_every_step_of_a_call_has_its_words() -> None:
    world, context = Manager(slots=0), make_context(environment=None)
    [call, second], _ = world.queue(context, 2)
    assert reason(world.state, call) == "its environment is being found out and packed"
    context.environment = make_context().environment
    assert reason(world.state, second) == "no node has joined yet; 1 call of its context before it"
    [start] = world.handle(NodeJoined(NodeId("here"), "here", 1, 8))
    world.state.now_s += 2.5
    assert reason(world.state, call) == "set-up of 'context-1' runs since 2.5 s on here"
    world.handle(ProcessReady(start.process))  # type: ignore[union-attr]
    world.state.processes[start.process].pid = 4711  # type: ignore[union-attr]
    world.state.now_s += 1.25
    assert reason(world.state, call) == "runs since 1.25 s on here, pid 4711"
    assert reason(world.state, second) == "no free slot: 1 of 1 are taken on 1 node"
    world.handle(CancelRequested(call))
    assert reason(world.state, call) == "being cancelled, runs since 1.25 s on here, pid 4711"
    [third] = world.calls(context)
    assert reason(world.state, third) == "it has been submitted just now"


def test_calls_that_were_sent_ahead_say_what_runs_before_them() -> None:
    world, calls, _ = batch(4)
    world.state.now_s += STALL_S
    world.handle(TimePassed())
    assert (
        reason(world.state, calls[2]) == "2 calls before it on here, of which 'f0' runs since 0.01 s; it was asked back"
    )


def test_calls_in_threads_run_beside_each_other() -> None:
    world, context = Manager(slots=2), make_context(is_threaded=True)
    calls = world.calls(context, 2)
    [start] = world.reactor.handle(CallsQueued(calls))
    assert isinstance(start, StartContext)
    world.reactor.handle(ProcessReady(start.process))
    assert [reason(world.state, call) for call in calls] == ["runs on here, beside 1 other call"] * 2


def test_earlier_tries_are_told() -> None:
    world, calls, process = batch(1, retries=1)
    world.handle(ResultsArrived(process, [0], [], [(0, "raised", "ValueError: bad")]))
    assert reason(world.state, calls[0]) == "runs since 0 s on here; try before: ValueError: bad (on here)"


def test_a_call_that_waits_for_memory_says_how_much() -> None:
    world, context = SizedManager(work=4), make_context()
    work = FunctionRecord(1, b"", "work", "work")
    calls, starts = world.queue(context, 3, work)
    for start in starts:
        world.handle(ProcessReady(start.process))
    said = reason(world.state, calls[2], world.sized.waits())
    assert said == "no room: 4e-06 MB wanted, 2e-06 MB free on here"


def test_an_executor_says_why_from_any_thread(tmp_path: Path) -> None:
    said: dict[str, str] = {}

    def ask(name: str, future: Any) -> None:
        said[name] = executor.why(future)

    with ContextExecutor(max_workers=1) as executor:
        began, go = tmp_path / "began", tmp_path / "go"
        future = executor.submit(functions.announce_and_wait_for, str(began), str(go))
        wait_until(began.exists, "the call runs")
        waiting = executor.submit(task(priority=1)(functions.double), 1)
        future.add_done_callback(lambda future: ask("in a callback", waiting))
        thread = threading.Thread(target=ask, args=("in a thread", waiting))
        thread.start()
        thread.join(GENEROUS_S)
        assert said["in a thread"] == "no free slot: 1 of 1 are taken on 1 node"
        assert executor.why(future).startswith("runs since ")
        assert ", pid " in executor.why(future)
        go.touch()
        waiting.result(GENEROUS_S)
        assert executor.why(future) == "done"
        assert said["in a callback"]
        failed = executor.submit(functions.divide, 1, 0)
        failed.exception(GENEROUS_S)
        assert executor.why(failed) == "failed: ZeroDivisionError: division by zero"
    assert executor.why(waiting) == "done"
    with pytest.raises(TypeError, match="not str"):
        executor.why("future")  # type: ignore[arg-type]
