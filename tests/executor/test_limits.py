"""What `@monitor` was told about a function holds when it is submitted: its category and its limits."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from envpack_executor import ContextExecutor
from envpack_monitor import History, LimitExceeded, Limits, monitor

LIMIT = 100_000_000


@monitor(category="filling", limits=Limits(memory_bytes=LIMIT))
def fill(size: int) -> int:
    return len(bytearray(b"1") * size)


@monitor(category="failing", limits=Limits(cpu_s=0.01))
def work_and_fail() -> None:
    until_s = time.process_time() + 0.05
    while time.process_time() < until_s:
        pass
    raise ValueError("too late")


def test_call_above_its_limit_ends_with_the_figures(tmp_path: Path) -> None:
    file = tmp_path / "history.sqlite"
    with ContextExecutor(1, history=file) as executor:
        assert executor.submit(fill, 1000).result() == 1000
        with pytest.raises(LimitExceeded, match=r"memory limit exceeded: 100 MB allowed.*'filling'") as met:
            executor.submit(fill, 2 * LIMIT).result()
        assert executor.submit(fill, 10).result() == 10
    assert met.value.allowed == LIMIT
    assert met.value.measured > LIMIT
    assert [call.limit_exceeded for call in History(file).calls("filling")] == [None, "memory", None]


def test_error_of_a_call_above_its_limit_is_the_cause() -> None:
    with ContextExecutor(1) as executor, pytest.raises(LimitExceeded) as met:
        executor.submit(work_and_fail).result()
    assert isinstance(met.value.__cause__, ValueError)
