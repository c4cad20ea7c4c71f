"""Processes that are ready before a call needs them, and those that nobody has needed for long."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from envpack_executor import ContextExecutor, task
from envpack_executor.errors import ContextSetupError, PreparationError, ShutdownError
from envpack_executor.manager.events import (
    CloseRequested,
    ContextFailed,
    ContextPrepared,
    NodeJoined,
    PreparationDone,
    PreparationRequested,
    ProcessReady,
    SendCalls,
    StartContext,
)
from envpack_executor.manager.state import ContextRecord, Preparation
from envpack_executor.messages import MemoryKept, ProcessGone, ProcessId
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, wait_until
from tests.executor.test_manager_reactor import HERE, INHERIT, Manager, kinds, make_context
from tests.executor.test_setups import Clock


def prepare(world: Manager, context: ContextRecord, count: int) -> tuple[Preparation, list[Any]]:
    preparation = Preparation(context, count)
    return preparation, world.handle(PreparationRequested(preparation))


# --- asked for


def test_a_preparation_is_done_when_so_many_processes_are_ready_and_they_take_no_slot() -> None:
    world, context = Manager(slots=2), make_context()
    preparation, instructions = prepare(world, context, 2)
    assert kinds(instructions) == ["StartContext"] * 2
    assert world.state.nodes[HERE].busy == 0
    assert world.handle(ProcessReady(ProcessId(1))) == []
    assert world.handle(ProcessReady(ProcessId(2))) == [PreparationDone(preparation, None)]
    assert kinds(world.queue(context, 2)[1]) == ["SendCalls"] * 2


def test_more_processes_than_slots_start_one_after_another() -> None:
    world, context = Manager(slots=1), make_context()
    preparation, instructions = prepare(world, context, 3)
    for number in (1, 2):
        assert kinds(instructions) == ["StartContext"]
        instructions = world.handle(ProcessReady(ProcessId(number)))
    assert world.handle(ProcessReady(ProcessId(3))) == [PreparationDone(preparation, None)]


def test_processes_that_are_there_count() -> None:
    world, context = Manager(slots=2), make_context()
    world.warm(context)
    preparation, instructions = prepare(world, context, 1)
    assert instructions == [PreparationDone(preparation, None)]


def test_calls_go_before_preparations() -> None:
    world, context, other = Manager(slots=1), make_context(1), make_context(2)
    _, [start] = world.queue(context)
    _, instructions = prepare(world, other, 1)
    assert instructions == []
    world.handle(ProcessReady(start.process))
    assert kinds(world.results(start.process, 1)) == ["CallsDone", "StartContext"]


def test_a_preparation_waits_for_its_environment_and_for_a_node() -> None:
    world, context = Manager(slots=0), make_context(environment=None)
    _, instructions = prepare(world, context, 1)
    assert instructions == []
    assert world.handle(ContextPrepared(1, INHERIT, b"")) == []
    assert kinds(world.handle(NodeJoined(HERE, "here", 1, 8))) == ["StartContext"]


def test_a_preparation_is_told_why_its_context_cannot_be_had() -> None:
    world, context, error = Manager(), make_context(), ValueError("no model")
    preparation, _ = prepare(world, context, 1)
    assert world.handle(ContextFailed(1, error))[0] == PreparationDone(preparation, error)


def test_a_preparation_tries_again_a_process_that_died() -> None:
    world, context = Manager(), make_context()
    _preparation, _ = prepare(world, context, 1)
    for number in (1, 2):
        assert kinds(world.handle(ProcessGone(ProcessId(number), -9, -1))) == ["StartContext"]
    [done] = world.handle(ProcessGone(ProcessId(3), -9, -1))
    assert isinstance(done, PreparationDone)
    assert "after 3 tries" in str(done.error)


def test_more_than_there_is_room_for_is_an_error_and_none_of_its_own_leave_for_it() -> None:
    world, context = Manager(slots=0), make_context()
    world.handle(NodeJoined(HERE, "here", 4, 100, context_bytes=10))
    prepare(world, context, 1)
    world.handle(ProcessReady(ProcessId(1)))
    world.handle(MemoryKept(ProcessId(1), 4))
    _, instructions = prepare(world, context, 3)
    assert kinds(instructions) == ["StartContext"]
    [done] = world.handle(ProcessReady(ProcessId(2)))
    assert isinstance(done, PreparationDone)
    assert isinstance(done.error, PreparationError)
    assert str(done.error).startswith("3 processes of context 'context-1' asked for, 2 are ready")


def test_nobody_waits_for_processes_of_an_executor_that_closes() -> None:
    world, context = Manager(slots=1), make_context()
    preparation, _ = prepare(world, context, 1)
    done, end = world.handle(CloseRequested(False))
    assert isinstance(done, PreparationDone)
    assert isinstance(done.error, ShutdownError)
    assert done.preparation is preparation
    assert kinds([end]) == ["EndProcess"]


# --- before the queue needs them


def busy_world(slots: int = 1) -> tuple[Manager, ContextRecord, list[ProcessId]]:
    """Return a manager all of whose slots have long calls."""
    world, context = Manager(slots=slots), make_context(1)
    _, starts = world.queue(context, slots)
    processes = [ProcessId(start.process) for start in starts]
    for process in processes:
        world.handle(ProcessReady(process))
    return world, context, processes


def test_a_context_whose_turn_will_come_is_set_up_while_others_work() -> None:
    world, _first, [process] = busy_world()
    second = make_context(2)
    _, [start] = world.queue(second)
    assert world.state.nodes[HERE].busy == 1, "those who work keep their slots"
    assert world.handle(ProcessReady(start.process)) == []
    _done, sent = world.results(process, 1)
    assert isinstance(sent, SendCalls)
    assert sent.process == start.process


def test_only_one_process_of_a_node_is_ahead_of_its_calls() -> None:
    world, _, [process] = busy_world()
    second, third = make_context(2), make_context(3)
    _, [start] = world.queue(second, 5)
    assert world.queue(third, 5)[1] == []
    assert world.handle(ProcessReady(start.process)) == [], "it is ready and has not been used"
    _done, _sent, next_start = world.results(process, 1)
    assert isinstance(next_start, StartContext)
    assert world.state.processes[next_start.process].context is third


def test_nothing_starts_ahead_beside_what_starts_for_a_call() -> None:
    world = Manager(slots=1)
    world.queue(make_context(1))
    assert world.queue(make_context(2))[1] == [], "the first result is not to be slowed"
    _sent, start = world.handle(ProcessReady(ProcessId(1)))
    assert isinstance(start, StartContext)


def test_nobody_leaves_for_a_process_that_starts_ahead() -> None:
    world, _, [process] = busy_world()
    world.handle(MemoryKept(process, 8))
    world.state.nodes[HERE].context_bytes = 10
    other = make_context(2)
    other.kept_bytes = 4
    assert world.queue(other)[1] == []


def test_more_processes_of_a_context_wait_for_slots() -> None:
    world, context, _ = busy_world(slots=2)
    assert world.queue(context, 100)[1] == []


# --- needed no more


def test_a_process_that_was_idle_for_long_leaves_and_one_that_works_stays() -> None:
    world, context = Clock(), make_context()
    world.state.idle_timeout_s = 60.0
    process = world.warm(context)
    world.passes(50.0)
    world.queue(context)
    assert world.passes(1000.0) == [], "it works"
    world.results(process, 1)
    assert world.passes(59.0) == []
    assert kinds(world.passes(61.0)) == ["EndProcess"]
    assert world.reactor.alarms.next_s is None


# --- real processes


def test_prepare_makes_processes_ready_before_the_first_call(tmp_path: Path) -> None:
    log = tmp_path / "log"
    logged = task(context=(functions.log_set_up, str(log)))(functions.pid)
    with ContextExecutor(max_workers=2) as executor:
        assert executor.prepare(logged, n=2).result(GENEROUS_S) is None
        pids = {int(line) for line in log.read_text().split()}
        assert executor.submit(logged).result(GENEROUS_S) in pids
        assert executor.stats().set_ups == len(pids) == 2


def test_prepare_ends_with_the_error_of_the_set_up() -> None:
    failing = task(context=(functions.fail_to_set_up, "/no/such/model"))(functions.double)
    with ContextExecutor(max_workers=1) as executor, pytest.raises(ContextSetupError, match="no/such/model"):
        executor.prepare(failing).result(GENEROUS_S)


def test_prepare_beside_allocations() -> None:
    with ContextExecutor(max_workers=2, allocations="auto", memory="1GB") as executor:
        executor.prepare(functions.double, n=2).result(GENEROUS_S)
        assert executor.submit(functions.double, 1).result(GENEROUS_S) == 2
        assert executor.stats().set_ups == 2


def test_prepare_ends_when_the_executor_does(tmp_path: Path) -> None:
    stuck = task(context=(functions.wait_for, str(tmp_path / "never")))(functions.double)
    executor = ContextExecutor(max_workers=1)
    ready = executor.prepare(stuck)
    executor.shutdown()
    with pytest.raises(ShutdownError):
        ready.result(GENEROUS_S)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.prepare(stuck)


def test_prepare_of_no_process_is_refused() -> None:
    with ContextExecutor(max_workers=1) as executor, pytest.raises(ValueError, match="n must be greater than 0"):
        executor.prepare(functions.double, n=0)


def test_fresh_calls_have_each_a_process_of_its_own_that_may_start_before_them() -> None:
    with ContextExecutor(max_workers=1) as executor:
        futures = [executor.submit(functions.fresh_pid) for _ in range(4)]
        pids = [future.result(GENEROUS_S) for future in futures]
    assert len({*pids, os.getpid()}) == 5


def test_an_idle_process_leaves_after_the_time_that_was_set() -> None:
    with ContextExecutor(max_workers=1, idle_timeout_s=0.2) as executor:
        assert executor.submit(functions.double, 1).result(GENEROUS_S) == 2
        wait_until(lambda: executor.stats().processes == 0, "it has left")
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4


def test_a_time_to_leave_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="idle_timeout_s must be greater than 0"):
        ContextExecutor(max_workers=1, idle_timeout_s=-1)
