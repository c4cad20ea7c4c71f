"""Calls that are tried again, cancelled while they run, ended by their time limit, taken back, or sent first."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path
from typing import Any, Literal

import pytest

from envpack_executor import ContextExecutor, task
from envpack_executor.errors import (
    CallCancelledError,
    CallTimeoutError,
    ContextSetupError,
    ProcessExitedError,
    TaskError,
)
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, are_gone, wait_until
from tests.tblib_installed import exceptions_by_tblib


def running(executor: ContextExecutor, mode: Literal["direct", "fork"], folder: Path) -> Future[str]:
    """Submit a call, and return when it runs."""
    started = folder / "started"
    call = task(mode=mode)(functions.announce_and_wait_for)
    future = executor.submit(call, str(started), str(folder / "never"))
    wait_until(started.exists, "the call runs")
    return future


# --- cancelling


@pytest.mark.parametrize(("mode", "set_ups"), [("direct", 2), ("fork", 1)])
def test_a_running_call_is_cancelled_and_its_context_lives_on_where_it_can(
    mode: Literal["direct", "fork"], set_ups: int, tmp_path: Path
) -> None:
    with ContextExecutor(max_workers=1) as executor:
        future = running(executor, mode, tmp_path)
        behind = executor.submit(functions.double, 4)
        assert not future.cancel(), "the standard library does not cancel what runs"
        assert executor.cancel(future)
        with pytest.raises(CallCancelledError, match="call of 'announce_and_wait_for' was cancelled after it had run"):
            future.result(GENEROUS_S)
        assert behind.result(GENEROUS_S) == 8
        assert not executor.cancel(future)
        assert executor.stats().set_ups == set_ups


def test_a_waiting_call_is_cancelled_and_never_runs(tmp_path: Path) -> None:
    with ContextExecutor(max_workers=1) as executor:
        first = running(executor, "direct", tmp_path)
        waiting = [executor.submit(functions.announce_and_wait_for, str(tmp_path / "no"), "never") for _ in range(3)]
        assert all(executor.cancel(future) for future in waiting)
        assert all(future.cancelled() for future in waiting)
        for future in waiting:
            with pytest.raises(CancelledError, match="was cancelled before it began"):
                future.result()
            with pytest.raises(CallCancelledError):
                future.exception()
        executor.cancel(first)
    assert not (tmp_path / "no").exists()


def test_only_futures_of_an_executor_can_be_cancelled() -> None:
    with ContextExecutor(max_workers=1) as executor, pytest.raises(TypeError, match="not Future"):
        executor.cancel(Future())


def test_what_a_cancelled_call_has_started_ends_with_it(tmp_path: Path) -> None:
    with ContextExecutor(max_workers=1) as executor:
        pids = tmp_path / "pids"
        future = executor.submit(functions.hang_with_a_child, str(pids))
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, "call and child run")
        executor.cancel(future)
        wait([future], GENEROUS_S)
        started = [int(pid) for pid in pids.read_text().split()]
        wait_until(lambda: are_gone(started), "call and child have ended")


# --- time limits


def test_a_call_over_its_time_in_a_child_is_ended_and_the_context_lives_on(tmp_path: Path) -> None:
    limited = task(mode="fork", timeout_s=0.1)(functions.wait_for)
    with ContextExecutor(max_workers=1) as executor:
        with pytest.raises(TimeoutError, match=r"0\.1 s allowed, [\d.]+ s used by 'wait_for'") as caught:
            executor.submit(limited, str(tmp_path / "never")).result(GENEROUS_S)
        assert isinstance(caught.value, CallTimeoutError)
        assert caught.value.ran_s >= caught.value.limit_s == 0.1
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4
        assert executor.stats().set_ups == 1


# --- further tries


def test_a_call_that_raises_is_tried_again_and_returns(tmp_path: Path) -> None:
    with ContextExecutor(max_workers=1) as executor:
        call = task(retries=2)(functions.fail_at_first)
        assert executor.submit(call, str(tmp_path / "tries"), 2).result(GENEROUS_S) == 3


def test_the_exception_of_the_last_try_tells_of_the_others(tmp_path: Path) -> None:
    with ContextExecutor(max_workers=1) as executor:
        call = task(retries=2)(functions.fail_at_first)
        error = executor.submit(call, str(tmp_path / "tries"), 9).exception(GENEROUS_S)
        assert isinstance(error, ValueError)
        assert error.args == ("try 3",)
        [note] = error.__notes__
        first, second, third = note.splitlines()
        assert first == "earlier tries: 2"
        assert second.startswith("  ValueError: try 1 (on this machine, pid ")
        assert third.startswith("  ValueError: try 2 (on this machine, pid ")


def _set_up_once(path: str) -> None:
    Path(path).touch(exist_ok=False)


def test_an_error_that_many_calls_share_tells_each_its_own_story(tmp_path: Path) -> None:
    context = task(context=(_set_up_once, str(tmp_path / "set-up")), retries=1)
    with exceptions_by_tblib(), ContextExecutor(max_workers=1) as executor:
        lost, behind = executor.submit(context(functions.leave), 3), executor.submit(context(functions.double), 3)
        told, spared = lost.exception(GENEROUS_S), behind.exception(GENEROUS_S)
        for error in (told, spared):
            assert isinstance(error, ContextSetupError)
            assert isinstance(error.__cause__, FileExistsError)
        assert any("earlier tries: 1" in note for note in told.__notes__)
        assert not any("earlier tries" in note for note in getattr(spared, "__notes__", []))


def test_a_call_that_ends_its_process_is_tried_again_only_if_told() -> None:
    with ContextExecutor(max_workers=1) as executor:
        error = executor.submit(task(retries=1)(functions.leave), 3).exception(GENEROUS_S)
        assert isinstance(error, ProcessExitedError)
        assert "earlier tries: 1" in error.__notes__[0]
        assert executor.stats().set_ups == 2


# --- the order


def test_waiting_calls_of_larger_priority_go_first(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with ContextExecutor(max_workers=1) as executor:
        blocker = executor.submit(functions.announce_and_wait_for, str(tmp_path / "began"), str(tmp_path / "go"))
        wait_until((tmp_path / "began").exists, "the only process is busy")
        for priority in (0, 2, -1, 1.5, 1.25, 2):
            executor.submit(task(priority=priority)(functions.note), str(journal), priority)
        (tmp_path / "go").touch()
        assert blocker.result(GENEROUS_S)
    assert journal.read_text().split() == ["2", "2", "1.5", "1.25", "0", "-1"]


def test_calls_behind_one_that_takes_long_are_run_by_another_process(tmp_path: Path) -> None:
    with ContextExecutor(max_workers=2) as executor:
        call: Callable[..., Any] = functions.wait_for_some
        for _ in range(4):  # so that calls are known to be short and travel in batches
            wait([executor.submit(call, "") for _ in range(100)])
        go = str(tmp_path / "go")
        futures = [executor.submit(call, go), *(executor.submit(call, "") for _ in range(100))]
        assert not wait(futures[1:], GENEROUS_S).not_done, "nobody waits for the first"
        assert not futures[0].done()
        Path(go).touch()
        assert futures[0].result(GENEROUS_S) == go


# --- what cannot be


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retries": -1}, "retries is -1, expected 0 or more"),
        ({"retries": 1.5}, "retries is 1.5, expected an integer"),
        ({"priority": "high"}, "priority is 'high', expected a number"),
        ({"priority": float("nan")}, "priority is nan, expected a number"),
        ({"timeout_s": 0}, "timeout_s is 0, expected more than 0"),
        ({"timeout_s": True}, "timeout_s is True, expected more than 0"),
        ({"timeout_s": "1 min"}, "timeout_s is '1 min', expected more than 0"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(TaskError, match=words):
        task(**options)
