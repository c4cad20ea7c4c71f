"""Mode `thread`: calls run side by side in one warm process, with the same objects, and are told as they end."""

from __future__ import annotations

from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import pytest

from envpack_executor import ContextExecutor, task
from envpack_executor.errors import ProcessLostError, TaskError
from envpack_monitor import History, Limits, monitor
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, wait_until

append = task(context=functions.list_for_all, mode="thread")(functions.append)
wait = task(context=functions.list_for_all, mode="thread")(functions.announce_and_wait_for)


def test_calls_run_at_once_in_one_process_and_end_in_any_order(tmp_path: Path) -> None:
    paths = [(str(tmp_path / f"started{number}"), str(tmp_path / f"go{number}")) for number in range(4)]
    with ContextExecutor(max_workers=4) as executor:
        futures = [executor.submit(wait, *each) for each in paths]
        wait_until(lambda: all(Path(started).exists() for started, _ in paths), "all of them run")
        ended = []
        for (_, go), future in reversed(list(zip(paths, futures, strict=True))):
            Path(go).touch()
            ended.append(next(as_completed([future], GENEROUS_S)).result())
        assert ended == [go for _, go in reversed(paths)]
        assert executor.submit(append, word="x").result(GENEROUS_S) == ["x"]
        assert executor.stats().set_ups == 1


def test_no_more_run_at_once_than_there_are_slots_and_other_calls_share_these(tmp_path: Path) -> None:
    paths = [(str(tmp_path / f"started{number}"), str(tmp_path / f"go{number}")) for number in range(3)]
    with ContextExecutor(max_workers=2) as executor:
        futures = [executor.submit(wait, *each) for each in paths]
        wait_until(lambda: sum(Path(started).exists() for started, _ in paths) == 2, "two run")
        other = executor.submit(functions.double, 2)
        assert not Path(paths[2][0]).exists()
        assert not other.done()
        for _, go in paths:
            Path(go).touch()
        assert [future.result(GENEROUS_S) for future in futures] == [go for _, go in paths]
        assert other.result(GENEROUS_S) == 4


def test_many_calls_change_the_same_object_and_each_has_its_own_result() -> None:
    with ContextExecutor(max_workers=3) as executor:
        lengths = [len(found) for found in executor.map(append, [[]] * 200, [str(n) for n in range(200)])]
        assert lengths == [1] * 200
        futures = [executor.submit(append, word=str(number)) for number in range(200)]
        assert max(len(future.result(GENEROUS_S)) for future in futures) == 200


@pytest.mark.parametrize(
    ("function", "args", "error"),
    [
        (functions.divide, (1, 0), ZeroDivisionError),
        (functions.raise_system_exit, (3,), SystemExit),
        (functions.raise_keyboard_interrupt, (), KeyboardInterrupt),
    ],
)
def test_what_a_call_raises_comes_back_and_harms_nobody(function: Any, args: Any, error: Any) -> None:
    with ContextExecutor(max_workers=2) as executor:
        assert isinstance(executor.submit(task(mode="thread")(function), *args).exception(GENEROUS_S), error)
        assert executor.submit(task(mode="thread")(functions.double), 2).result(GENEROUS_S) == 4
        assert executor.stats().set_ups == 1


def test_a_process_that_is_lost_takes_all_its_calls_with_it_and_they_run_again(tmp_path: Path) -> None:
    started, go = str(tmp_path / "started"), str(tmp_path / "go")
    with ContextExecutor(max_workers=2, max_tries=2) as executor:
        beside = executor.submit(task(mode="thread")(functions.announce_and_wait_for), started, go)
        wait_until(lambda: Path(started).exists(), "the other call runs")
        marker = str(tmp_path / "marker")
        again = executor.submit(task(mode="thread")(functions.kill_self_once), marker)
        assert again.result(GENEROUS_S) == "survived"
        Path(go).touch()
        assert beside.result(GENEROUS_S) == go
        error = executor.submit(task(mode="thread")(functions.kill_self)).exception(GENEROUS_S)
        assert isinstance(error, ProcessLostError)
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4


def test_each_call_is_measured_as_far_as_can_be_said(tmp_path: Path) -> None:
    file = tmp_path / "history.sqlite"
    with ContextExecutor(1, history=file) as executor:
        executor.submit(task(mode="thread", category="doubling")(functions.double), 2).result(GENEROUS_S)
    [usage] = History(file).calls("doubling")
    assert usage.quality == "lower bound; wall_s: exact"
    assert usage.peak_memory_bytes is None


def test_limits_that_nobody_could_keep_are_refused_where_they_are_declared() -> None:
    with pytest.raises(TaskError, match=r"timeout_s with mode 'thread', but a thread cannot be ended"):
        task(mode="thread", timeout_s=3)(functions.double)
    with pytest.raises(TaskError, match="resources with mode 'thread'"):
        task(mode="thread", resources={"cores": 2})(functions.double)
    with pytest.raises(TaskError, match="limits with mode 'thread'"):
        task(mode="thread")(monitor(limits=Limits(wall_s=3))(functions.double))
