"""`monitor` on everything that can be called, in every place where it may be called from."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import math
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import cloudpickle
import pytest

from envpack_monitor import History, HistoryWriter, MonitorError, ProcessExited, Usage, monitor
from tests.monitor.helpers import MB, touch

Remembered = Callable[[], History]


@monitor(category="even")
def is_even(number: int) -> bool:
    return number == 0 or is_odd(number - 1)


@monitor(category="odd")
def is_odd(number: int) -> bool:
    return number != 0 and is_even(number - 1)


@monitor(category="fresh", isolate="spawn")
def pid_of_call() -> int:
    return os.getpid()


@monitor(category="in daemon")
def work_of_daemon(number: int) -> None:
    pass


def run_daemon() -> None:
    for number in range(5):
        work_of_daemon(number)


class Scale:
    """Scales."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, number: int) -> int:
        return self.factor * number


class Waiter:
    async def __call__(self) -> int:
        await asyncio.sleep(0)
        return 5


def test_lambda_keeps_its_result_and_has_a_category(remembered: Remembered) -> None:
    twice = monitor(lambda number: 2 * number)
    assert twice(4) == 8
    (category,) = remembered().categories()
    assert category.category.endswith("test_lambda_keeps_its_result_and_has_a_category.<locals>.<lambda>")


def test_partial_is_measured_under_the_name_of_what_it_calls(remembered: Remembered) -> None:
    shifted = monitor(functools.partial(math.pow, 2))
    assert shifted(5) == 32
    assert remembered().categories()[0].category == "math.pow"


def test_partial_of_a_coroutine_function_stays_one() -> None:
    async def add(first: int, second: int) -> int:
        await asyncio.sleep(0)
        return first + second

    added = monitor(functools.partial(add, 1))
    assert inspect.iscoroutinefunction(added)
    assert asyncio.run(added(2)) == 3


def test_object_that_can_be_called_is_measured_and_keeps_its_documentation(remembered: Remembered) -> None:
    scale = Scale(3)
    measured = monitor(scale)
    assert measured(4) == 12
    assert measured.__doc__ == "Scales."
    assert measured.__wrapped__ is scale
    assert not hasattr(measured, "factor")
    assert remembered().categories()[0].category.endswith("Scale")


def test_object_whose_call_is_a_coroutine_stays_awaitable() -> None:
    assert asyncio.run(monitor(Waiter())()) == 5


def test_function_of_c_is_measured(remembered: Remembered) -> None:
    assert monitor(category="sorted")(sorted)([3, 1, 2]) == [1, 2, 3]
    assert remembered().calls("sorted")[0].calls == 1


def test_calls_that_call_each_other_are_each_measured(remembered: Remembered) -> None:
    assert is_even(20)
    assert len(remembered().calls("even")) == 11
    assert len(remembered().calls("odd")) == 10
    assert {call.quality for call in remembered().calls("even")} == {"exact"}


def test_deep_recursion_keeps_the_peak_of_the_innermost_call() -> None:
    usages: list[Usage] = []

    @monitor(category="deep", callback=usages.append)
    def deep(number: int) -> None:
        if number:
            deep(number - 1)
        else:
            touch(40 * MB)

    deep(50)
    assert len(usages) == 51
    for usage in usages:
        assert abs((usage.memory_difference_bytes or 0) - 40 * MB) < MB


def test_one_monitor_decorates_several_functions_of_one_category(remembered: Remembered) -> None:
    together = monitor("both")
    first, second = together(abs), together(len)
    assert (first(-2), second([1])) == (2, 1)
    assert len(remembered().calls("both")) == 2


def test_call_in_a_fresh_interpreter_runs_elsewhere_and_is_remembered(remembered: Remembered) -> None:
    assert pid_of_call() != os.getpid()
    assert remembered().calls("fresh")[0].wall_s > 0


def test_isolated_call_keeps_exceptions_and_exits_apart(remembered: Remembered) -> None:
    @monitor(category="exits", isolate="fork")
    def leave(code: int) -> None:
        os._exit(code)

    with pytest.raises(ProcessExited) as caught:
        leave(5)
    assert caught.value.code == 5
    assert remembered().calls("exits")[0].exit_status == 5


def test_what_runs_in_steps_cannot_be_isolated() -> None:
    async def wait() -> None:
        pass

    with pytest.raises(MonitorError, match="cannot be isolated"):
        monitor(isolate="fork")(wait)


def test_unknown_isolation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="False, 'fork' or 'spawn', 'thread' met"):
        monitor("name", isolate="thread")  # type: ignore[call-overload]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_calls_in_a_daemon_process_are_remembered(method: str, remembered: Remembered) -> None:
    process = get_context(method).Process(target=run_daemon, daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert sum(call.calls for call in remembered().calls("in daemon")) == 5


def test_calls_in_a_forked_child_are_remembered_once(remembered: Remembered) -> None:
    run_daemon()
    pid = os.fork()
    if pid == 0:
        run_daemon()
        from envpack_monitor.history import recorder

        recorder.flush_default()
        os._exit(0)
    os.waitpid(pid, 0)
    assert sum(call.calls for call in remembered().calls("in daemon")) == 10


def test_isolated_call_works_from_a_thread_and_from_a_pool(remembered: Remembered) -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(pid_of_call()))
    thread.start()
    thread.join()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found.append(pool.submit(pid_of_call).result())
    assert len({os.getpid(), *found}) == 3


def test_output_of_a_measured_call_is_captured_as_if_bare(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @monitor
    def speak() -> str:
        print("hello")
        return os.environ["NAME_OF_TEST"]

    monkeypatch.setenv("NAME_OF_TEST", "kept")
    assert speak() == "kept"
    assert capsys.readouterr().out == "hello\n"


def test_method_that_is_patched_in_is_measured(monkeypatch: pytest.MonkeyPatch, remembered: Remembered) -> None:
    monkeypatch.setattr(Scale, "__call__", monitor("patched")(Scale.__call__))
    assert Scale(2)(3) == 6
    assert len(remembered().calls("patched")) == 1


def test_copies_and_pickles_of_decorated_functions_still_measure(remembered: Remembered) -> None:
    assert copy.copy(is_even) is copy.deepcopy(is_even) is pickle.loads(pickle.dumps(is_even)) is is_even
    local = cloudpickle.loads(cloudpickle.dumps(monitor("by value")(lambda: os.getpid())))
    for _ in range(1_000):
        local()
    travelled = cloudpickle.loads(cloudpickle.dumps(local))
    assert travelled() == os.getpid()
    assert sum(call.calls for call in remembered().calls("by value")) == 1_001


def test_signature_name_module_and_annotations_are_kept() -> None:
    def work(first: int, /, second: str = "x", *, third: float) -> list[Any]:
        """Work."""
        return [first, second, third]

    measured = monitor(work)
    assert inspect.signature(measured) == inspect.signature(work)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(measured, name) == getattr(work, name)
    assert measured(1, third=0.5) == [1, "x", 0.5]


def test_writer_of_ones_own_takes_the_calls(tmp_path: Any) -> None:
    history = History(tmp_path / "own.sqlite")
    with HistoryWriter(history) as writer:
        monitor("own", history=writer)(len)([1])
        with monitor("block", history=writer):
            pass
    assert {each.category for each in history.categories()} == {"own", "block"}
