"""The decorator of another monitor, by its own signature and units."""

from __future__ import annotations

import os
import threading
import time

import pytest

from envpack_monitor import LimitExceeded, monitored
from envpack_monitor.errors import FormatError
from tests.monitor.helpers import touch

MIB = 1 << 20


@monitored()
def total(numbers: list[int]) -> int:
    """Add up."""
    return sum(numbers)


def test_call_returns_its_result_and_resources_in_the_units_of_the_other_monitor() -> None:
    result, resources = total([1, 2, 3])
    assert result == 6
    assert {"wall_time", "cpu_time", "memory", "bytes_read", "bytes_written"} <= resources.keys()
    assert isinstance(resources["memory"], int)
    assert 1 < resources["memory"] < 2_000
    assert total.__doc__ == "Add up."


def test_memory_is_counted_in_units_of_two_to_the_twentieth_bytes() -> None:
    @monitored(return_resources=True)
    def grow(size: int) -> None:
        touch(size)

    _, small = grow(1)
    _, large = grow(100 * MIB)
    assert abs(large["memory"] - small["memory"] - 100) <= 2


def test_result_comes_alone_where_no_resources_are_wanted() -> None:
    assert monitored(return_resources=False)(os.path.basename)("a/b") == "b"


def test_call_above_its_memory_limit_is_ended() -> None:
    @monitored(limits={"memory": 50, "wall_time": 60})
    def greedy() -> None:
        kept = [touch(MIB) for _ in range(10_000)]
        time.sleep(60)
        del kept

    with pytest.raises(LimitExceeded) as caught:
        greedy()
    assert (caught.value.resource, caught.value.allowed) == ("memory", 50 * MIB)


def test_limit_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(FormatError, match=r"one of wall_time, .* expected, swap_memory met"):
        monitored(limits={"memory": 1, "swap_memory": 5})


def test_callback_sees_steps_while_the_call_runs_and_the_whole_at_the_end() -> None:
    seen: list[tuple[str, str, int, dict[str, float]]] = []
    three = threading.Event()

    def callback(number: str, name: str, step: int, resources: dict[str, float]) -> None:
        seen.append((number, name, step, resources))
        if step == 3:
            os.write(go_on, b"x")
            three.set()

    @monitored(callback=callback, interval=0.01)
    def wait() -> bytes:
        return os.read(gate, 1)

    gate, go_on = os.pipe()
    result, resources = wait()
    os.close(gate)
    os.close(go_on)
    assert result == b"x"
    assert three.is_set()
    assert len({(number, name) for number, name, _, _ in seen}) == 1
    assert seen[0][1] == "wait"
    steps = [step for _, _, step, _ in seen]
    assert steps == [*range(1, len(steps)), -1]
    assert seen[-1][3] == resources
    assert all(each["memory"] > 0 for *_, each in seen)


def test_exception_of_the_call_reaches_the_caller_and_the_callback_its_end() -> None:
    steps: list[int] = []

    @monitored(callback=lambda number, name, step, resources: steps.append(step))
    def fail() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        fail()
    assert steps[-1] == -1
