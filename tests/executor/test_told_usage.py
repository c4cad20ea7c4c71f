"""Who asks is told what each call has used, before its future is done."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any

import pytest

from envpack_executor import ContextExecutor
from envpack_monitor import LimitExceeded, Limits, Usage, monitor
from tests.executor.helpers import GENEROUS_S

LIMIT = 100_000_000


def work(seconds: float) -> float:
    until_s = time.process_time() + seconds
    while time.process_time() < until_s:
        pass
    return seconds


@monitor(category="filling", limits=Limits(memory_bytes=LIMIT))
def fill(size: int) -> None:
    block = bytearray(b"1") * size
    work(GENEROUS_S)
    del block


def test_usage_comes_with_the_future_of_its_call_and_before_its_end() -> None:
    told: list[tuple[Usage, Future[Any] | None, bool]] = []
    with ContextExecutor(2, on_usage=lambda usage, call: told.append((usage, call, call.done()))) as executor:
        futures = [executor.submit(work, 0.01 * number) for number in (1, 2, 3)]
        results = [future.result(GENEROUS_S) for future in futures]
    assert {call for _, call, _ in told} == set(futures)
    assert all(usage.cpu_s is not None and call is not None and usage.cpu_s >= call.result() for usage, call, _ in told)
    assert results == [0.01, 0.02, 0.03]
    assert not any(is_done for _, _, is_done in told)
    assert {usage.category for usage, _, _ in told} == {f"{work.__module__}.work"}


def test_usages_of_short_calls_are_told_as_sums_that_miss_none() -> None:
    told: list[Usage] = []
    with ContextExecutor(1, on_usage=lambda usage, call: told.append(usage)) as executor:
        list(executor.map(abs, range(500)))
    assert sum(usage.calls for usage in told) == 500
    assert len(told) < 500


def test_usage_of_a_call_that_was_killed_is_told() -> None:
    told: list[tuple[Usage, Future[Any] | None]] = []
    with ContextExecutor(1, on_usage=lambda usage, call: told.append((usage, call))) as executor:
        future = executor.submit(fill, 3 * LIMIT)
        with pytest.raises(LimitExceeded):
            future.result(GENEROUS_S)
    assert [(usage.category, call) for usage, call in told] == [("filling", future)]


def test_one_that_fails_when_it_is_told_harms_no_call(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(usage: Usage, call: Future[Any] | None) -> None:
        raise ValueError("no room")

    with ContextExecutor(1, on_usage=refuse) as executor:
        assert executor.submit(work, 0.001).result(GENEROUS_S) == 0.001
    assert "while a usage of" in caplog.text
