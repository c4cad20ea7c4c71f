"""`monitor` on everything that can be called."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import cloudpickle
import pytest

from envpack_monitor import History, LimitExceeded, Limits, MonitorError, Usage, monitor
from tests.monitor.helpers import MB, touch

Remembered = Callable[[], History]


@monitor
def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


@monitor(category="fails")
def fail() -> None:
    raise KeyError("gone")


class Shelf:
    def __init__(self, size: int) -> None:
        self.size = size

    @monitor
    def method(self, factor: int) -> int:
        return self.size * factor

    @classmethod
    @monitor
    def inner_class(cls) -> str:
        return cls.__name__

    @monitor
    @classmethod
    def outer_class(cls) -> str:
        return cls.__name__

    @monitor
    @staticmethod
    def static(number: int) -> int:
        return number


def test_function_keeps_its_face_and_its_calls_are_remembered(remembered: Remembered) -> None:
    assert [double(n) for n in range(3)] == [0, 2, 4]
    assert double.__doc__ == "Return twice the number."
    assert double.__name__ == "double"
    assert str(inspect.signature(double)) == "(number: 'int') -> 'int'"
    calls = remembered().calls(double.__envpack_monitor__.category)  # type: ignore[attr-defined]
    assert len(calls) == 3
    assert all(call.peak_memory_bytes and call.quality == "exact" for call in calls)


def test_bare_function_category_and_limits_can_be_taken_from_a_decorated_one() -> None:
    limits = Limits(wall_s=10)

    @monitor(category="mine", limits=limits)
    def work() -> int:
        return 1

    assert work.__wrapped__() == 1
    assert (work.__envpack_monitor__.category, work.__envpack_monitor__.limits) == ("mine", limits)


def test_methods_class_methods_and_static_methods_work(remembered: Remembered) -> None:
    assert Shelf(3).method(2) == 6
    assert Shelf.inner_class() == Shelf.outer_class() == "Shelf"
    assert Shelf.static(4) == Shelf(1).static(4) == 4
    assert sum(each.calls for each in remembered().categories()) == 5


def test_exception_passes_unchanged_and_is_remembered(remembered: Remembered) -> None:
    with pytest.raises(KeyError, match="gone"):
        fail()
    assert remembered().calls("fails")[0].exception == "KeyError"


def test_recursive_calls_are_each_measured(remembered: Remembered) -> None:
    @monitor(category="depth")
    def depth(n: int) -> int:
        return 0 if n == 0 else 1 + depth(n - 1)

    assert depth(10) == 10
    assert len(remembered().calls("depth")) == 11


def test_decorated_function_pickles_by_name_and_a_lambda_by_value() -> None:
    assert pickle.loads(pickle.dumps(double)) is double
    anonymous = monitor(lambda: 5)
    assert cloudpickle.loads(cloudpickle.dumps(anonymous))() == 5


def test_return_usage_gives_a_pair() -> None:
    @monitor(return_usage=True)
    def work() -> str:
        touch(30 * MB)
        return "done"

    result, usage = work()
    assert result == "done"
    assert abs(usage.memory_difference_bytes - 30 * MB) < MB


def test_features_and_callback_see_the_call(remembered: Remembered) -> None:
    seen: list[Usage] = []

    @monitor(category="sized", features=lambda rows, **_: {"rows": rows}, callback=seen.append)
    def work(rows: int) -> None:
        pass

    work(7)
    assert seen[0].features == {"rows": 7.0}
    assert remembered().calls("sized")[0].features == {"rows": 7.0}


def test_generator_is_measured_only_while_it_runs() -> None:
    usages: list[Usage] = []

    @monitor(callback=usages.append)
    def numbers() -> Iterator[int]:
        received = yield 1
        yield received
        return

    assert inspect.isgeneratorfunction(numbers)
    stream = numbers()
    assert next(stream) == 1
    touch(80 * MB)
    assert stream.send(5) == 5
    assert list(stream) == []
    assert usages[0].memory_difference_bytes is not None
    assert usages[0].memory_difference_bytes < 10 * MB


def test_generator_that_is_closed_or_thrown_into_behaves_as_if_bare() -> None:
    usages: list[Usage] = []
    ended: list[str] = []

    @monitor(callback=usages.append)
    def numbers() -> Iterator[int]:
        try:
            yield 1
        except ValueError:
            yield 2
        finally:
            ended.append("cleaned")

    stream = numbers()
    next(stream)
    assert stream.throw(ValueError()) == 2
    stream.close()
    assert ended == ["cleaned"]
    assert [usage.exception for usage in usages] == [None]


def test_coroutines_that_take_turns_get_each_their_own_figures() -> None:
    usages: dict[str, Usage] = {}

    @monitor(return_usage=True)
    async def work(name: str, size: int) -> str:
        await asyncio.sleep(0)
        touch(size)
        await asyncio.sleep(0.01)
        return name

    async def both() -> None:
        for name, usage in await asyncio.gather(work("large", 90 * MB), work("small", 1 * MB)):
            usages[name] = usage

    assert inspect.iscoroutinefunction(work)
    asyncio.run(both())
    assert usages["large"].memory_difference_bytes > 89 * MB
    assert usages["small"].memory_difference_bytes < 10 * MB
    assert usages["small"].quality == usages["large"].quality == "exact"
    assert usages["small"].wall_s >= 0.01


def test_cancelled_coroutine_is_remembered_as_cancelled() -> None:
    usages: list[Usage] = []

    @monitor(callback=usages.append)
    async def wait() -> None:
        await asyncio.Event().wait()

    async def cancel() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert [usage.exception for usage in usages] == ["CancelledError"]


def test_asynchronous_generator_is_measured_and_can_be_left_early() -> None:
    usages: list[Usage] = []
    ended: list[str] = []

    @monitor(callback=usages.append)
    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(5):
                await asyncio.sleep(0)
                yield number
        finally:
            ended.append("cleaned")

    async def read() -> list[int]:
        found = [number async for number in numbers()]
        early = numbers()
        await anext(early)
        await early.aclose()  # type: ignore[attr-defined]
        return found

    assert inspect.isasyncgenfunction(numbers)
    assert asyncio.run(read()) == [0, 1, 2, 3, 4]
    assert ended == ["cleaned", "cleaned"]
    assert len(usages) == 2


def test_block_has_usage_and_its_inner_calls_have_theirs() -> None:
    with monitor("outer") as outer:
        touch(60 * MB)
        with monitor("inner") as inner:
            touch(20 * MB)
    assert outer.usage is not None
    assert inner.usage is not None
    assert abs((outer.usage.memory_difference_bytes or 0) - 60 * MB) < MB
    assert abs((inner.usage.memory_difference_bytes or 0) - 20 * MB) < MB


def test_one_block_cannot_be_entered_twice_at_once() -> None:
    block = monitor("once")
    with block, pytest.raises(MonitorError, match="'once' is being measured already"):
        block.__enter__()


def test_limit_in_process_is_raised_when_the_call_has_ended(remembered: Remembered) -> None:
    @monitor(category="heavy", limits=Limits(memory_bytes=1 * MB))
    def heavy() -> None:
        touch(10 * MB)

    with pytest.raises(LimitExceeded) as caught:
        heavy()
    assert (caught.value.resource, caught.value.allowed, caught.value.category) == ("memory", 1 * MB, "heavy")
    assert remembered().calls("heavy")[0].limit_exceeded == "memory"


def test_calls_from_many_threads_are_all_remembered(remembered: Remembered) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(double, range(400))) == 2 * sum(range(400))
    category = double.__envpack_monitor__.category  # type: ignore[attr-defined]
    assert sum(call.calls for call in remembered().calls(category)) == 400


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_calls_in_pool_processes_are_all_remembered(method: str, remembered: Remembered) -> None:
    double(1)
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
        assert list(pool.map(double, range(20))) == [2 * n for n in range(20)]
    category = double.__envpack_monitor__.category  # type: ignore[attr-defined]
    assert len(remembered().calls(category)) == 21


def test_thread_that_ends_while_measured_leaves_no_bracket_running() -> None:
    thread = threading.Thread(target=double, args=(1,))
    thread.start()
    thread.join()
    with monitor("after") as after:
        pass
    assert after.usage is not None
    assert after.usage.quality == "exact"


@pytest.mark.parametrize("thing", [3, None, int])
def test_what_cannot_be_monitored_is_refused_with_its_value(thing: object) -> None:
    with pytest.raises(TypeError, match="monitor: a function"):
        monitor("name")(thing)  # type: ignore[operator]
