"""When a host looks at what an idle context process keeps in memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from envpack_executor.messages import ProcessId
from envpack_executor.worker import events
from envpack_executor.worker.looks import LOOK_EVERY_S, SETTLES_WITHIN_S, Looks
from tests.executor.helpers import MB, wait_until


@dataclass
class Process:
    """A process that the host may look at: this one, which is between calls while `running_call` is negative."""

    running_call: int
    process: ProcessId = field(default_factory=lambda: ProcessId(7))
    popen: Any = field(default_factory=lambda: SimpleNamespace(pid=os.getpid()))


@pytest.fixture
def seen() -> list[events.Event]:
    return []


@pytest.fixture
def looks(seen: list[events.Event]) -> Iterator[Looks]:
    def call_soon(job: Callable[[], None]) -> None:
        job()

    made = Looks(call_soon, seen.append)
    yield made
    made.close()


def looked(looks: Looks, seconds: float) -> int:
    """Let so much time pass, and return how often there was something to do."""
    now_s, count = time.monotonic(), 0
    end_s = now_s + seconds
    while looks.next_s is not None and looks.next_s <= end_s:
        now_s = looks.next_s
        looks.tick(now_s)
        count += 1
    return count


def test_a_process_that_is_between_calls_is_looked_at_once(looks: Looks, seen: list[Any]) -> None:
    looks.note(Process(-1))  # type: ignore[arg-type]
    assert looked(looks, 60) == 1
    wait_until(lambda: len(seen) == 1, "it was looked at")
    assert seen[0].process == 7
    assert seen[0].kept_bytes > MB


def test_one_that_says_late_that_its_call_has_ended_is_looked_at_all_the_same(looks: Looks, seen: list[Any]) -> None:
    process = Process(0)
    looks.note(process)  # type: ignore[arg-type]
    assert looked(looks, 10 * SETTLES_WITHIN_S) > 0
    process.running_call = -1
    looked(looks, 60)
    wait_until(lambda: len(seen) == 1, "it was looked at")


def test_one_that_runs_a_long_call_is_not_asked_for_ever(looks: Looks, seen: list[Any]) -> None:
    looks.note(Process(3))  # type: ignore[arg-type]
    assert 1 < looked(looks, 60) < 10
    assert looks.next_s is None
    assert seen == []


def test_a_process_is_looked_at_no_more_often_than_once_a_second(looks: Looks, seen: list[Any]) -> None:
    process = Process(-1)
    looks.note(process)  # type: ignore[arg-type]
    looked(looks, 1)
    begun_s = time.monotonic()
    looks.note(process)  # type: ignore[arg-type]
    assert looks.next_s is not None
    assert looks.next_s - begun_s > LOOK_EVERY_S / 2


def test_one_that_is_forgotten_is_not_looked_at(looks: Looks) -> None:
    looks.note(Process(-1))  # type: ignore[arg-type]
    looks.forget(ProcessId(7))
    assert looks.next_s is None
    assert looked(looks, 60) == 0
