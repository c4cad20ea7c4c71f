"""Many calls one after the other, of all kinds of ends: none hangs, nothing is left.

`SOAK_CALLS` says how many; `make soak-monitor` makes a hundred thousand.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from envpack_monitor import History, Limits, monitor
from envpack_monitor.isolated.isolate import run_isolated

CALLS = int(os.environ.get("SOAK_CALLS", "120"))


def give(value: Any) -> Any:
    return value


def fail() -> None:
    raise ValueError("expected")


def leave_a_child() -> None:
    if os.fork() == 0:
        signal.pause()
    os._exit(4)


KINDS: list[tuple[Callable[[], Any], str]] = [
    (lambda: give(None), "NoneType"),
    (lambda: give(bytes(300_000)), "NoneType"),
    (fail, "ValueError"),
    (lambda: os._exit(3), "ProcessExited"),
    (lambda: os.kill(os.getpid(), signal.SIGKILL), "ProcessKilled"),
    (lambda: give(threading.Lock()), "ResultNotPicklable"),
    (leave_a_child, "ProcessExited"),
]


@pytest.mark.slow
@pytest.mark.timeout(max(120, CALLS // 10))
def test_isolated_calls_of_all_kinds_end_as_what_they_are_and_leave_nothing() -> None:
    run_isolated(fail)
    descriptors = len(os.listdir("/proc/self/fd"))
    ends: Counter[str] = Counter()
    for number in range(CALLS):
        work, expected = KINDS[number % len(KINDS)]
        limits = Limits(memory_bytes=10**12, wall_s=600) if number % 3 == 0 else None
        ends[type(run_isolated(work, limits=limits).error).__name__] += 1
        assert ends[expected] > 0
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert sum(ends.values()) == CALLS
    assert set(ends) == {expected for _, expected in KINDS}


@pytest.mark.timeout(max(120, CALLS // 100))
def test_calls_in_process_are_all_remembered(remembered: Callable[[], History]) -> None:
    work = monitor(category="soak")(give)
    for number in range(CALLS):
        assert work(number) == number
    (summary,) = remembered().categories()
    assert (summary.category, summary.calls) == ("soak", CALLS)
