"""Set-ups that hang or die: everybody who waits is told in time, and nothing is left of them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from envpack_executor import ContextExecutor, task
from envpack_executor.errors import (
    ContextSetupTimeoutError,
    ExecutorError,
    InitializerTimeoutError,
    ProcessStartError,
    TaskError,
)
from envpack_executor.manager.events import CallsFailed, EndProcess, ProcessReady, TimePassed
from envpack_executor.messages import ProcessGone, ProcessId, ProcessStarted
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, are_gone, wait_until
from tests.executor.test_manager_reactor import HERE, Manager, kinds, make_context


class Clock(Manager):
    """A manager for whom time can pass."""

    def passes(self, seconds: float) -> list[Any]:
        self.state.now_s += seconds
        alarm_s = self.reactor.alarms.next_s
        return self.handle(TimePassed()) if alarm_s is not None and alarm_s <= self.state.now_s else []


# --- decisions


def test_a_set_up_is_timed_from_when_its_process_runs() -> None:
    world, context = Clock(slots=2), make_context(setup_timeout_s=10.0, stage="set-up")
    calls, _ = world.queue(context, 3)
    assert world.passes(1000.0) == [], "layers are fetched and unpacked"
    for number in (1, 2):
        world.handle(ProcessStarted(ProcessId(number), 4000 + number))
        assert world.passes(1.0) == []
    failed, *ends = world.passes(8.0)
    assert isinstance(failed, CallsFailed)
    assert failed.calls == calls
    assert str(failed.error).startswith("set-up of context 'context-1' on here was not done within 10 s")
    assert ends == [EndProcess(HERE, ProcessId(number), True) for number in (1, 2)]
    assert world.passes(1000.0) == []


def test_a_set_up_that_is_done_in_time_is_not_ended() -> None:
    world, context = Clock(), make_context(setup_timeout_s=10.0)
    _, [start] = world.queue(context)
    world.handle(ProcessStarted(start.process, 4000))
    world.passes(9.0)
    world.handle(ProcessReady(start.process))
    assert world.passes(1000.0) == []


@pytest.mark.parametrize(("own_s", "limit_s"), [(0.0, 900.0), (5.0, 5.0), (1000.0, 1000.0)])
def test_a_context_that_says_no_time_has_that_of_the_executor(own_s: float, limit_s: float) -> None:
    world, context = Clock(), make_context(setup_timeout_s=own_s)
    _, [start] = world.queue(context)
    world.handle(ProcessStarted(start.process, 4000))
    assert world.passes(limit_s - 1) == []
    assert kinds(world.passes(1)) == ["CallsFailed", "EndProcess"]


def test_three_set_ups_that_die_are_told_with_how_each_of_them_ended() -> None:
    world, context = Clock(), make_context()
    world.queue(context, 2)
    world.handle(ProcessGone(ProcessId(1), 1, -1))
    world.handle(ProcessGone(ProcessId(2), -9, -1))
    [failed] = world.handle(ProcessGone(ProcessId(3), -11, -1))
    assert isinstance(failed, CallsFailed)
    assert str(failed.error) == (
        "no process for context 'context-1' could be started after 3 tries: exited with status 1 before it was ready "
        "on here; killed by signal 9 before it was ready on here; killed by signal 11 before it was ready on here"
    )


# --- real processes


def test_a_set_up_that_hangs_ends_every_waiting_call_and_leaves_nothing(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    stuck = task(context=(functions.hang_with_a_child, str(pids)), setup_timeout_s=1)(functions.double)
    with ContextExecutor(max_workers=1) as executor:
        futures = [executor.submit(stuck, number) for number in range(5)]
        for future in futures:
            with pytest.raises(ContextSetupTimeoutError, match=r"'hang_with_a_child' on this machine .* within 1 s"):
                future.result(GENEROUS_S)
        assert executor.submit(functions.double, 1).result(GENEROUS_S) == 2, "others are not disturbed"
        # A machine with much else to do may not have come as far as to the child.
        left = [int(pid) for pid in pids.read_text().split()] if pids.exists() else []
        wait_until(lambda: are_gone(left), "the set-up is gone with its child")


def test_an_initializer_that_hangs_breaks_the_executor(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with ContextExecutor(
        max_workers=1, initializer=functions.hang_with_a_child, initargs=(str(pids),), setup_timeout_s=1
    ) as executor:
        with pytest.raises(InitializerTimeoutError, match=r"'double' on this machine was not done within 1 s"):
            executor.submit(functions.double, 1).result(GENEROUS_S)
        with pytest.raises(InitializerTimeoutError):
            executor.submit(functions.double, 1)


def test_a_set_up_that_kills_its_process_is_tried_three_times(tmp_path: Path) -> None:
    log = tmp_path / "log"
    deadly = task(context=(functions.log_and_die, str(log)))(functions.double)
    with ContextExecutor(max_workers=1) as executor, pytest.raises(ProcessStartError, match="after 3 tries: killed by"):
        executor.submit(deadly, 1).result(GENEROUS_S)
    assert len(log.read_text().splitlines()) == 3


@pytest.mark.parametrize("seconds", [0, -1.0, "5"])
def test_a_time_that_is_none_is_refused_where_it_is_declared(seconds: Any) -> None:
    with pytest.raises(TaskError, match=r"setup_timeout_s is .*, expected more than 0"):
        task(setup_timeout_s=seconds)


def test_an_executor_refuses_a_time_that_is_none() -> None:
    with pytest.raises(ValueError, match="setup_timeout_s must be greater than 0"):
        ContextExecutor(max_workers=1, setup_timeout_s=0)


@pytest.mark.parametrize("kind", [ContextSetupTimeoutError, InitializerTimeoutError])
def test_errors_of_time_keep_their_fields_when_they_are_pickled(kind: Any) -> None:
    error: ExecutorError = pickle.loads(pickle.dumps(kind("load", "here", 5.0)))
    assert str(error) == str(kind("load", "here", 5.0))
    assert vars(error)["limit_s"] == 5.0
