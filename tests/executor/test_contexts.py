"""Contexts: set up once per process, injected by name, never stale, and what becomes of one that cannot be set up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envpack_executor import ContextExecutor, task
from envpack_executor.errors import ContextSetupError, EnvironmentPreparationError, ExecutorError, TaskError
from envpack_monitor import History, monitor
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, MB


def test_the_set_up_runs_once_in_each_process_however_many_calls_follow(tmp_path: Path) -> None:
    log = tmp_path / "log"
    logged = task(context=(functions.log_set_up, str(log)))(functions.keywords)
    with ContextExecutor(max_workers=2) as executor:
        for future in [executor.submit(logged, number=number) for number in range(500)]:
            future.result(GENEROUS_S)
        set_ups = executor.stats().set_ups
    pids = log.read_text().splitlines()
    assert len(pids) == len(set(pids)) == set_ups <= 2


def test_what_the_set_up_returns_is_injected_by_the_name_of_a_parameter() -> None:
    with ContextExecutor(max_workers=1) as executor:
        assert executor.submit(functions.infer, 1).result(GENEROUS_S) == (1, ["resnet"])
        assert executor.submit(functions.infer_by_keyword, 2, scale=3).result(GENEROUS_S) == (6, ["resnet"])
        process = executor.submit(functions.which_process).result(GENEROUS_S)
        assert process in executor.stats().pids


def test_what_the_caller_gives_wins_over_what_the_set_up_returned() -> None:
    with ContextExecutor(max_workers=1) as executor:
        assert executor.submit(functions.infer, 1, ["mine"]).result(GENEROUS_S) == (1, ["mine"])
        assert executor.submit(functions.infer, 1, model=["mine"]).result(GENEROUS_S) == (1, ["mine"])
        assert executor.submit(functions.infer_by_keyword, 1, model=["mine"]).result(GENEROUS_S) == (1, ["mine"])
        assert executor.submit(functions.infer, 1).result(GENEROUS_S) == (1, ["resnet"])


def test_a_set_up_that_returns_none_provides_nothing() -> None:
    quiet = task(context=functions.no_set_up_result)(functions.double)
    with ContextExecutor(max_workers=1) as executor:
        assert executor.submit(quiet, 2).result(GENEROUS_S) == 4


def test_equal_contexts_are_one_and_others_do_not_meet() -> None:
    ours, same, other = (task(context=(functions.set_up, name))(functions.double) for name in ("a", "a", "b"))
    with ContextExecutor(max_workers=1) as executor:
        for each in (ours, same, ours, same):
            executor.submit(each, 1).result(GENEROUS_S)
        assert executor.stats().set_ups == 1
        executor.submit(other, 1).result(GENEROUS_S)
        assert executor.stats().set_ups == 2


def test_contexts_called_in_turn_stay_warm() -> None:
    first = task(context=(functions.set_up, "first"))(functions.double)
    second = task(context=(functions.set_up, "second"))(functions.double)
    with ContextExecutor(max_workers=1) as executor:
        for number in range(20):
            assert executor.submit(first, number).result(GENEROUS_S) == 2 * number
            assert executor.submit(functions.double, number).result(GENEROUS_S) == 2 * number
            assert executor.submit(second, number).result(GENEROUS_S) == 2 * number
        assert executor.stats().set_ups == 3


def test_calls_waiting_in_turn_for_two_contexts_pay_each_set_up_once_per_process() -> None:
    tasks = [task(context=(functions.set_up, name))(functions.double) for name in ("first", "second")]
    with ContextExecutor(max_workers=2) as executor:
        futures = [executor.submit(tasks[number % 2], number) for number in range(40)]
        assert [future.result(GENEROUS_S) for future in futures] == [2 * number for number in range(40)]
        assert executor.stats().set_ups <= 4


# --- nothing stale


def test_a_changed_closure_value_is_never_stale_in_a_warm_process() -> None:
    def make() -> tuple[Callable[[], int], Callable[[int], None]]:
        factor = 1

        def change(value: int) -> None:
            nonlocal factor
            factor = value

        return lambda: factor, change

    read, change = make()
    with ContextExecutor(max_workers=1) as executor:
        for value in (1, 2, 3, 1):
            change(value)
            assert executor.submit(read).result(GENEROUS_S) == value
        assert executor.stats().set_ups == 1, "the process stays, the function is sent anew"


def test_a_changed_global_or_argument_of_a_set_up_is_another_context() -> None:
    script: dict[str, Any] = {"__name__": "__main__"}
    exec("size = 1\ndef load(extra): return {'model': size + extra[0]}\ndef infer(model): return model", script)
    extra = [10]
    infer = task(context=(script["load"], extra))(script["infer"])
    with ContextExecutor(max_workers=1) as executor:
        assert executor.submit(infer).result(GENEROUS_S) == 11
        script["size"] = 2
        assert executor.submit(infer).result(GENEROUS_S) == 12
        extra[0] = 20
        assert executor.submit(infer).result(GENEROUS_S) == 22


def test_arguments_are_taken_as_they_are_at_submit() -> None:
    values = [1]
    with ContextExecutor(max_workers=1) as executor:
        first = executor.submit(functions.double, values)
        values.append(2)
        assert first.result(GENEROUS_S) == [1, 1]


# --- set-ups that fail


def test_a_failed_set_up_reaches_every_waiting_call_with_its_traceback_and_a_later_one_may_succeed(
    tmp_path: Path,
) -> None:
    weights = tmp_path / "weights"

    def load() -> dict[str, str]:
        return {"model": weights.read_text()}

    infer = task(context=load)(functions.infer.function)
    with ContextExecutor(max_workers=1) as executor:
        futures = [executor.submit(infer, number) for number in range(5)]
        for future in futures:
            with pytest.raises(
                ContextSetupError, match=r"set-up of context .*load' failed: FileNotFoundError: .*weights"
            ):
                future.result(GENEROUS_S)
        error = futures[0].exception()
        assert error is not None
        assert isinstance(error.__cause__, FileNotFoundError)
        assert "return {" in str(error.__cause__.__cause__)
        weights.write_text("good")
        assert executor.submit(infer, 1).result(GENEROUS_S) == (1, "good")


def test_a_set_up_that_returns_no_mapping_is_told_what_was_expected() -> None:
    useless = task(context=functions.set_up_nothing_useful)(functions.double)
    with ContextExecutor(max_workers=1) as executor:
        with pytest.raises(ContextSetupError, match="'set_up_nothing_useful' returned int, expected a mapping"):
            executor.submit(useless, 1).result(GENEROUS_S)
        assert executor.submit(functions.double, 1).result(GENEROUS_S) == 2, "other contexts are not disturbed"


# --- modes


def test_a_fresh_call_has_a_process_of_its_own() -> None:
    with ContextExecutor(max_workers=2) as executor:
        futures = [executor.submit(functions.fresh_pid) for _ in range(4)]
        pids = [future.result(GENEROUS_S) for future in futures]
    assert len(set(pids)) == 4
    assert os.getpid() not in pids


# --- tasks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 3}, "context is 3, expected a set-up function"),
        ({"context": ()}, "context is .* expected a set-up function"),
        ({"context": ("model.pt", functions.set_up)}, "write @task"),
        ({"mode": "forked"}, "mode 'forked' is not one of direct, fork, thread, fresh"),
    ],
)
def test_a_task_that_cannot_work_is_refused_where_it_is_declared(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        task(**options)(functions.double)


def test_a_task_is_still_its_function_here_and_now() -> None:
    assert functions.infer(1, ["here"]) == (1, ["here"])
    assert functions.infer.__name__ == "infer"


def test_a_task_may_be_a_method(tmp_path: Path) -> None:
    with ContextExecutor(max_workers=1) as executor:
        model = functions.Model(3)
        assert executor.submit(model.scaled, 2).result(GENEROUS_S) == 6
        assert model.scaled(2) == 6


@pytest.mark.parametrize("environment", [3, ["numpy"], "/no/such/prefix"])
def test_an_environment_that_is_none_is_refused_at_submit(environment: Any) -> None:
    with (
        ContextExecutor(max_workers=1, environment=environment) as executor,
        pytest.raises(EnvironmentPreparationError),
    ):
        executor.submit(functions.double, 1)


# --- usage


def test_the_peak_of_a_short_spike_is_exact_in_the_history(own_folders: Path) -> None:
    with ContextExecutor(max_workers=1) as executor:
        executor.submit(functions.double, 1).result(GENEROUS_S)
        executor.submit(functions.spike, 200 * MB, 0.02).result(GENEROUS_S)
        executor.submit(functions.spike, 4096, 0.02).result(GENEROUS_S)
    spike, small = History(own_folders / "history.sqlite").calls("tests.executor.functions.spike")
    assert spike.peak_memory_bytes is not None
    assert spike.memory_before_bytes is not None
    # The kernel counts pages per processor and adds them up late: about 1 MB.
    assert abs(spike.peak_memory_bytes - spike.memory_before_bytes - 200 * MB) < 3 * MB
    assert spike.wall_s >= 0.02
    assert spike.quality == "exact"
    assert small.peak_memory_bytes is not None
    assert small.peak_memory_bytes < 150 * MB, "the peak of the call before it is not its own"


def test_every_call_is_counted_in_the_history_however_short(own_folders: Path) -> None:
    with ContextExecutor(max_workers=2) as executor:
        for future in [executor.submit(functions.double, number) for number in range(3000)]:
            future.result(GENEROUS_S)
    [summary] = History(own_folders / "history.sqlite").categories()
    assert (summary.category, summary.calls) == ("tests.executor.functions.double", 3000)
    assert 0 < summary.wall_s < 60


def test_a_task_or_a_monitored_function_keeps_its_category(own_folders: Path) -> None:
    monitored = monitor(category="watched")(functions.double)
    named = task(category="named")(functions.double)
    both = task(category="both")(monitored)
    with ContextExecutor(max_workers=1) as executor:
        futures = [executor.submit(each, 2) for each in (monitored, named, both)]
        assert [future.result(GENEROUS_S) for future in futures] == [4, 4, 4]
    summaries = History(own_folders / "history.sqlite").categories()
    assert {summary.category: summary.calls for summary in summaries} == {
        "watched": 1,
        "named": 1,
        "both": 1,
    }


def test_no_history_is_kept_where_none_is_wanted(own_folders: Path) -> None:
    with ContextExecutor(max_workers=1, history=None) as executor:
        executor.submit(functions.double, 1).result(GENEROUS_S)
    assert not (own_folders / "history.sqlite").exists()


def test_a_history_that_cannot_be_written_costs_no_call(caplog: pytest.LogCaptureFixture) -> None:
    with ContextExecutor(max_workers=1, history="/proc/no/such/history.sqlite") as executor:
        futures = [executor.submit(functions.double, number) for number in range(10)]
        assert [future.result(GENEROUS_S) for future in futures] == [2 * number for number in range(10)]
    assert "/proc/no/such/history.sqlite" in caplog.text, "and is not silent"


def test_stats_sum_up_what_was_done() -> None:
    with ContextExecutor(max_workers=1) as executor:
        before = executor.stats()
        executor.submit(functions.spike, 1 * MB, 0.05).result(GENEROUS_S)
        after = executor.stats()
    assert (before.set_ups, before.processes, before.pids, before.nodes) == (0, 0, (), 1)
    assert (after.set_ups, after.processes, len(after.pids), after.open_calls) == (1, 1, 1, 0)
    usage = after.categories["tests.executor.functions.spike"]
    assert usage.calls == 1
    assert usage.wall_s >= 0.05


def test_every_error_of_the_package_has_an_exit_code() -> None:
    assert {type(error).exit_code for error in (ExecutorError("x"), TaskError("x"), ContextSetupError("x"))} == {1, 2}


def test_a_context_process_imports_nothing_that_makes_its_start_or_its_forks_dear() -> None:
    command = [sys.executable, "-P", "-c", "import sys; print(*sys.modules)"]
    bare = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    with ContextExecutor(1, history=None) as executor:
        own = set(executor.submit(eval, "list(__import__('sys').modules)").result(GENEROUS_S)) - set(bare)
    assert "mmap" in own, "these are the modules of a context process"
    assert not own & {"typing", "re", "enum", "threading", "signal", "pickle", "cloudpickle", "subprocess", "inspect"}
