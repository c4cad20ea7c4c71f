"""Mode `fork`: whatever a call does ends with its child, and the context lives on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from envpack_executor import ContextExecutor, task
from envpack_executor.errors import CallTimeoutError, ForkUnsafeError, ProcessExitedError, ProcessLostError
from envpack_executor.tasks import Task, TaskOptions
from envpack_monitor import History, LimitExceeded, Limits, monitor
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, are_gone, is_alive, start_script, wait_until

LIMIT = 150_000_000


def forked(function: Any, **options: Any) -> Any:
    return Task(function, TaskOptions(mode="fork", **options))


def test_each_call_has_what_the_set_up_made_and_what_it_does_to_it_is_its_own() -> None:
    call = task(context=functions.list_for_all, mode="fork")(functions.append)
    direct = task(context=functions.list_for_all)(functions.append)
    with ContextExecutor(max_workers=1) as executor:
        for word in ("one", "two"):
            assert executor.submit(call, word=word).result(GENEROUS_S) == [word]
        assert executor.submit(direct, word="three").result(GENEROUS_S) == ["three"], "they share the warm process"
        assert executor.submit(call, word="four").result(GENEROUS_S) == ["three", "four"]
        assert executor.stats().set_ups == 1


def test_results_of_many_calls_come_in_order_each_from_a_process_of_its_own() -> None:
    with ContextExecutor(max_workers=2) as executor:
        pids = [executor.submit(forked(functions.pid)) for _ in range(100)]
        assert list(executor.map(forked(functions.double), range(100))) == [2 * number for number in range(100)]
        assert not {each.result(GENEROUS_S) for each in pids} & set(executor.stats().pids)


def test_whatever_ends_a_child_ends_nothing_else() -> None:
    with ContextExecutor(max_workers=1, max_tries=2) as executor:
        process = executor.submit(functions.pid).result(GENEROUS_S)
        exited = executor.submit(forked(functions.leave), 3).exception(GENEROUS_S)
        killed = executor.submit(forked(functions.kill_self)).exception(GENEROUS_S)
        crashed = executor.submit(forked(functions.read_nowhere)).exception(GENEROUS_S)
        assert executor.submit(functions.pid).result(GENEROUS_S) == process
        assert executor.stats().set_ups == 1
    assert isinstance(exited, ProcessExitedError)
    assert exited.exit_status == 3
    for error, number in ((killed, signal.SIGKILL), (crashed, signal.SIGSEGV)):
        assert isinstance(error, ProcessLostError)
        assert [loss.startswith(f"killed by signal {number.value}") for loss in error.losses] == [True, True]


def test_exceptions_exits_and_what_cannot_be_pickled_come_back_as_what_they_are() -> None:
    with ContextExecutor(max_workers=1) as executor:
        found = [
            executor.submit(forked(function), *args).exception(GENEROUS_S)
            for function, *args in (
                (functions.divide, 1, 0),
                (functions.raise_system_exit, 4),
                (functions.raise_keyboard_interrupt,),
                (functions.raise_unbuildable,),
                (functions.return_lock,),
                (functions.return_explosive,),
            )
        ]
        assert executor.stats().set_ups == 1
    assert [type(each).__name__ for each in found] == [
        *("ZeroDivisionError", "SystemExit", "KeyboardInterrupt", "RemoteError", "ResultError", "ResultError")
    ]


@pytest.mark.parametrize("size", [0, 65_000, 70_000, 30_000_000])
def test_results_of_any_size_pass(size: int) -> None:
    with ContextExecutor(max_workers=1) as executor:
        assert executor.submit(forked(functions.double), b"x" * size).result(GENEROUS_S) == b"x" * 2 * size


@pytest.mark.parametrize("mode", ["direct", "fork"])
def test_a_call_that_forks_and_comes_back_twice_has_one_result(mode: str) -> None:
    with ContextExecutor(max_workers=1) as executor:
        call = Task(functions.fork_and_return, TaskOptions(mode=mode))
        results = [executor.submit(call).result(GENEROUS_S) for _ in range(3)]
        assert -1 not in results


def test_what_a_call_has_started_ends_with_it() -> None:
    with ContextExecutor(max_workers=1) as executor:
        pid, grandchild = executor.submit(forked(functions.leave_a_grandchild)).result(GENEROUS_S)
        wait_until(lambda: are_gone([pid, grandchild]), "the call and what it has started have ended")


def test_a_context_with_threads_refuses_to_fork_at_once_and_names_them() -> None:
    call = task(context=functions.start_thread, mode="fork")(functions.pid)
    direct = task(context=functions.start_thread)(functions.pid)
    with ContextExecutor(max_workers=1) as executor:
        with pytest.raises(ForkUnsafeError, match=r"has 1: 'pump' \(end them in the set-up, or declare mode='direct'"):
            executor.submit(call).result(GENEROUS_S)
        executor.submit(direct).result(GENEROUS_S)
        assert executor.stats().set_ups == 1


def test_a_call_over_its_time_is_ended_with_all_that_it_started_and_its_context_lives_on(tmp_path: Path) -> None:
    started = tmp_path / "started"
    with ContextExecutor(max_workers=1) as executor:
        with pytest.raises(CallTimeoutError, match=r"0\.3 s allowed") as met:
            executor.submit(forked(functions.sleep_with_child, timeout_s=0.3), str(started), 100.0).result(GENEROUS_S)
        assert 0.3 <= met.value.ran_s < GENEROUS_S
        pids = [int(path.read_text()) for path in (started, Path(f"{started}.child"))]
        wait_until(lambda: are_gone(pids), "the call and its child are gone")
        executor.submit(functions.pid).result(GENEROUS_S)
        assert executor.stats().set_ups == 1


@monitor(category="filling", limits=Limits(memory_bytes=LIMIT, wall_s=60))
def fill(size: int) -> None:
    functions.spike(size, 50 if size > LIMIT else 0)


@monitor(category="sleeping", limits=Limits(wall_s=0.2))
def sleep(path: str) -> None:
    functions.wait_for(path)


@pytest.mark.parametrize("mode", ["fork", "direct"])
def test_a_call_is_ended_while_it_runs_when_it_exceeds_a_limit(tmp_path: Path, mode: Any) -> None:
    file = tmp_path / "history.sqlite"
    with ContextExecutor(1, history=file) as executor:
        assert executor.submit(task(mode=mode)(fill), 1_000_000).exception(GENEROUS_S) is None
        memory = executor.submit(task(mode=mode)(fill), 2 * LIMIT).exception(GENEROUS_S)
        wall = executor.submit(task(mode=mode)(sleep), str(tmp_path / "never")).exception(GENEROUS_S)
        executor.submit(functions.pid).result(GENEROUS_S)
        assert executor.stats().set_ups == (1 if mode == "fork" else 3)
    assert isinstance(memory, LimitExceeded)
    assert (memory.resource, memory.allowed, memory.category) == ("memory", LIMIT, "filling")
    assert memory.measured > LIMIT
    assert isinstance(wall, LimitExceeded)
    assert (wall.resource, wall.allowed, wall.category) == ("wall", 0.2, "sleeping")
    assert wall.measured > 0.2
    history = History(file)
    assert [call.limit_exceeded for call in history.calls("filling")] == [None, "memory"]
    assert [call.limit_exceeded for call in history.calls("sleeping")] == ["wall"]


def test_a_direct_call_over_its_time_ends_its_process_and_nothing_else(tmp_path: Path) -> None:
    with ContextExecutor(max_workers=1) as executor:
        call = Task(functions.sleep_in, TaskOptions(timeout_s=0.3))
        slow = executor.submit(call, str(tmp_path / "started"), 100)
        behind = executor.submit(functions.double, 2)
        assert isinstance(slow.exception(GENEROUS_S), CallTimeoutError)
        assert behind.result(GENEROUS_S) == 4
        assert executor.submit(call, str(tmp_path / "again"), 0).result(GENEROUS_S) is None


def test_usage_of_each_call_is_measured_in_its_child(tmp_path: Path) -> None:
    file = tmp_path / "history.sqlite"
    with ContextExecutor(1, history=file) as executor:
        executor.submit(forked(functions.spike, category="large"), 100_000_000, 0.0).result(GENEROUS_S)
        executor.submit(forked(functions.double, category="small"), 1).result(GENEROUS_S)
    [large], [small] = History(file).calls("large"), History(file).calls("small")
    assert large.quality == small.quality == "exact"
    assert large.peak_memory_bytes is not None
    assert small.peak_memory_bytes is not None
    assert 95_000_000 < large.peak_memory_bytes - small.peak_memory_bytes < 130_000_000


CLIENT = """
    import sys
    from envpack_executor import ContextExecutor, task
    from tests.executor import functions
    with ContextExecutor(max_workers=1) as executor:
        executor.submit(task(mode="fork")(functions.sleep_with_child), sys.argv[1], 100.0).result()
"""


def test_a_child_and_what_it_has_started_do_not_outlive_a_client_and_a_context_process_that_are_killed(
    tmp_path: Path,
) -> None:
    started = tmp_path / "started"
    with start_script(tmp_path, CLIENT, str(started)) as client:
        wait_until(lambda: Path(f"{started}.child").exists(), "the call runs")
        child, grandchild = int(started.read_text()), int(Path(f"{started}.child").read_text())
        zygote = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
        assert is_alive(grandchild)
        os.kill(zygote, signal.SIGSTOP)  # so that it can do nothing about it
        client.kill()
    os.kill(zygote, signal.SIGKILL)
    wait_until(lambda: are_gone([zygote, child, grandchild]), "nothing is left")
