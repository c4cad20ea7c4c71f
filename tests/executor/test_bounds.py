"""When a node looks at calls that must not take too much: until each has begun and is over, and no longer."""

from __future__ import annotations

import time
from typing import Any

from envpack_executor.messages import ProcessId
from envpack_executor.worker.bounds import Bounds
from envpack_executor.worker.context_process import NO_CALL, Words

ONE = ProcessId(1)
IDLE = Words(NO_CALL, 0, 0, 0, 0, 0)


class Process:
    """What is watched: it says what the test wants it to say."""

    process = ONE

    def __init__(self) -> None:
        self.now = IDLE

    def words(self) -> Words:
        return self.now

    def run(self, number: int, deadline_ns: int) -> None:
        self.now = Words(number, 1, 0, deadline_ns, 0, 0)

    def rest(self) -> None:
        self.now = self.now._replace(started_ns=0, deadline_ns=0)


def watching(until: int) -> tuple[Bounds, Any, list[tuple[Any, ...]]]:
    killed: list[tuple[Any, ...]] = []
    bounds, process = Bounds(lambda process, words, *how: killed.append((words.number, *how))), Process()
    bounds.expect(process, 1.0, until)  # type: ignore[arg-type]
    return bounds, process, killed


def later(bounds: Bounds) -> None:
    assert bounds.next_s is not None
    bounds.tick(bounds.next_s)


def test_calls_are_looked_for_until_all_have_begun_and_are_over() -> None:
    bounds, process, killed = watching(until=2)
    for _ in range(5):
        later(bounds)  # it has not even read them
    process.run(0, deadline_ns=time.monotonic_ns() + 10**12)
    later(bounds)
    process.rest()
    later(bounds)
    assert bounds.next_s is not None, "the second has not begun"
    process.run(1, deadline_ns=0)
    later(bounds)
    process.rest()
    later(bounds)
    assert (bounds.next_s, killed) == (None, [])


def test_a_call_is_killed_at_its_deadline_and_looked_at_no_earlier_than_needed() -> None:
    bounds, process, killed = watching(until=1)
    process.run(0, deadline_ns=time.monotonic_ns() + 3 * 10**8)
    later(bounds)
    assert not killed
    assert bounds.next_s is not None
    process.run(0, deadline_ns=time.monotonic_ns())
    later(bounds)
    assert killed == [(0, "timeout", 0)]


def test_calls_that_were_given_back_are_not_waited_for() -> None:
    bounds, process, _ = watching(until=9)
    process.run(0, deadline_ns=0)
    bounds.returned(ONE, 1)
    process.rest()
    later(bounds)
    assert bounds.next_s is None


def test_a_process_that_has_ended_is_forgotten() -> None:
    bounds, _, _ = watching(until=9)
    bounds.forget(ONE)
    assert bounds.next_s is None
