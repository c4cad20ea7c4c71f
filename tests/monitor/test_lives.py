"""Births and ends: every process is counted, and what a tree can have had at once is never less than it had."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpack_monitor.trees.births import Births, Event, why_not
from envpack_monitor.trees.lives import TOUCH_BYTES_PER_S, Lives
from tests.monitor.helpers import MB

needs_births = pytest.mark.skipif(bool(why_not()), reason="this machine does not tell of births")
SPAN = st.tuples(st.floats(0, 10), st.floats(0.001, 10), st.integers(1, 100))


def told(events: list[Event]) -> Lives:
    lives = Lives()
    lives.add(sorted(events))
    return lives


def process(pid: int, born_s: float, end_s: float) -> list[Event]:
    return [Event(born_s, True, pid, 1, pid), Event(end_s, False, pid, 1, pid)]


def test_processes_and_threads_are_counted_at_once_and_in_total() -> None:
    thread = [Event(1.5, True, 7, 7, 71), Event(1.7, False, 7, 7, 71)]
    lives = told([*process(7, 1.0, 2.0), *thread, *process(8, 1.6, 3.0), *process(9, 4.0, 5.0)])
    assert (lives.processes_total, lives.processes_max, lives.threads_max) == (3, 2, 3)
    assert (lives.processes_max_s, lives.threads_max_s) == (1.6, 1.6)


def test_process_whose_first_thread_ends_early_is_alive_until_its_last_one_ends() -> None:
    lives = told([Event(1, True, 7, 1, 7), Event(2, True, 7, 7, 8), Event(3, False, 7, 7, 7), *process(9, 4, 5)])
    assert lives.processes_max == 2


@given(st.lists(SPAN, min_size=1, max_size=30))
def test_bound_is_never_below_what_was_used_at_once(spans: list[tuple[float, float, int]]) -> None:
    events = [event for pid, (born, length, _) in enumerate(spans, 10) for event in process(pid, born, born + length)]
    largest = max(size for _, _, size in spans) * MB
    moments = [born for born, _, _ in spans]
    used = max(sum(size * MB for born, length, size in spans if born <= at < born + length) for at in moments)
    bound = told(events).at_once_bytes(largest)
    assert used <= bound or any(length * TOUCH_BYTES_PER_S < size * MB for _, length, size in spans)
    assert bound <= largest * len(spans)


def test_what_was_seen_bounds_a_process_better_than_the_largest() -> None:
    lives = Lives()
    lives.add([Event(0.0, True, 7, 1, 7), Event(0.0, True, 8, 1, 8)])
    lives.see({7: 10_000 * MB, 8: 30 * MB}, 1.0)
    lives.add([Event(1.001, False, 8, 1, 8), Event(9.0, False, 7, 1, 7)])
    assert lives.at_once_bytes(10_000 * MB) == pytest.approx((10_000 + 30 + 16) * MB)


def test_dead_process_that_nobody_has_waited_for_says_nothing_of_what_it_had() -> None:
    lives = told([Event(0.0, True, 7, 1, 7)])
    lives.see({7: 30 * MB}, 1.0)
    lives.see({7: 0}, 2.0)
    lives.add([Event(1.5, False, 7, 1, 7)])
    assert lives.at_once_bytes(20 * MB) == 30 * MB


@needs_births
def test_every_short_process_and_thread_below_this_one_is_told() -> None:
    with Births() as births:
        before = [child.wait() for child in (subprocess.Popen(["true"]) for _ in range(20))]
        early = births.take()
        program = "import threading as t; a = [t.Thread(target=t.Event().wait, args=(0.2,)) for _ in range(5)]\n"
        program += "[each.start() for each in a]; [each.join() for each in a]"
        subprocess.run([sys.executable, "-c", program], check=True)
        late = births.take(is_last=True)
        assert births.is_complete
    lives = Lives()
    lives.add(early)
    lives.add(late)
    assert before == [0] * 20
    assert lives.processes_total == 21
    assert lives.threads_max == 6
    assert {event.parent for event in early + late if event.is_birth and event.pid == event.tid} == {os.getpid()}


@needs_births
def test_births_leave_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Births() as births:
        thread = threading.Thread(target=births.take)
        thread.start()
        thread.join()
    assert len(os.listdir("/proc/self/fd")) == before
