"""What was learned stays between runs: saved with the history, once per call, and never trusted blindly."""

from __future__ import annotations

import logging
import math
import os
import pickle
import random
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest

from envpack_monitor import Allocation, History, Usage
from envpack_monitor.learning import learn, open_predictor
from envpack_monitor.predict import BestLadder, default_predictor, killed_at_end
from tests.monitor.traces import GB, NODE, call


def test_new_run_learns_from_the_history_without_the_calls_that_failed(history_file: str) -> None:
    history = History(history_file)
    good = [call(GB) for _ in range(5)]
    history.add_many([*good, Usage(category="work", wall_s=1.0, peak_memory_bytes=90 * GB, exception="KeyError")])
    predictor = default_predictor(NODE)
    assert learn(predictor, history) == 5
    assert (predictor.predict("work", {}).memory_bytes or math.inf) < 3 * GB


def some_calls(seed: int, count: int = 40) -> list[Usage]:
    rng = random.Random(seed)
    return [call(GB * rng.uniform(1, 3), rng.uniform(1, 9), f"work {n % 3}", rows=n) for n in range(count)]


def answers(predictor: BestLadder) -> list[Allocation]:
    return [predictor.predict(f"work {n}", {"rows": 7.0}) for n in range(4)]


def test_second_run_goes_on_where_the_first_one_stopped(history_file: str) -> None:
    history = History(history_file)
    expected = BestLadder(NODE, failed=killed_at_end)
    for seed in range(3):
        history.add_many(some_calls(seed))
        for each in some_calls(seed):
            expected.observe(each.category, each.features, each)
        assert answers(open_predictor(History(history_file), NODE, killed_at_end)) == answers(expected)
    # Nothing new has come: nothing counts twice.
    assert answers(open_predictor(History(history_file), NODE, killed_at_end)) == answers(expected)


def test_what_was_learned_stays_when_the_calls_are_many(history_file: str) -> None:
    history = History(history_file)
    history.add_many(some_calls(1))
    open_predictor(history, NODE)
    history.add_many([call(GB, 1.0, "other") for _ in range(60)])
    predictor = open_predictor(history, NODE, last=50)
    assert predictor.explain("work 1", {}).calls == 13
    assert predictor.explain("other", {}).calls == 50


def test_saved_predictor_goes_on_for_another_node(history_file: str) -> None:
    history = History(history_file)
    history.add_many(some_calls(2))
    open_predictor(history, NODE)
    small = open_predictor(history, Allocation(memory_bytes=GB // 2))
    assert (small.predict("work 1", {}).memory_bytes or 0) <= GB // 2
    assert (open_predictor(history, NODE).predict("work 1", {}).memory_bytes or 0) > GB // 2


def test_sum_of_many_calls_counts_as_one_of_them(history_file: str) -> None:
    history = History(history_file)
    one = Usage(category="work", wall_s=2.0, cpu_user_s=1.0, cpu_system_s=1.0, peak_memory_bytes=GB)
    many = Usage(
        category="work", wall_s=2000.0, cpu_user_s=1000.0, cpu_system_s=1000.0, peak_memory_bytes=GB, calls=1000
    )
    history.add_many([one, many, one])
    allocation = open_predictor(history, NODE).predict("work", {})
    assert allocation.wall_s == 7.0
    assert allocation.cores == pytest.approx(1.0, abs=0.11)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("exit 1",)


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps(Hostile()), pickle.dumps({1: 2})[:-3]])
def test_state_that_is_no_predictor_is_said_and_learned_again(
    history_file: str, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    history = History(history_file)
    history.add_many(some_calls(3))
    expected = answers(open_predictor(history, NODE))
    connection = sqlite3.connect(history_file)
    connection.execute("UPDATE state SET data = ?", (data,))
    connection.commit()
    connection.close()
    with caplog.at_level(logging.WARNING):
        assert answers(open_predictor(History(history_file), NODE)) == expected
    assert "it is learned again" in caplog.text


def test_state_of_another_form_is_learned_again(history_file: str) -> None:
    history = History(history_file)
    history.add_many(some_calls(4))
    expected = answers(open_predictor(history, NODE))
    connection = sqlite3.connect(history_file)
    connection.execute("UPDATE state SET version = 99, data = 'x'")
    connection.commit()
    connection.close()
    assert answers(open_predictor(History(history_file), NODE)) == expected


def test_sum_of_many_calls_is_learned_as_one_of_their_mean_length(tmp_path: Path) -> None:
    class Memory:
        def __init__(self) -> None:
            self.seen: list[Usage] = []

        def observe(self, category: str, features: Mapping[str, float], usage: Usage) -> None:
            self.seen.append(usage)

    history = History(tmp_path / "sums.sqlite")
    history.add_many([Usage(category="fast", wall_s=50.0, cpu_user_s=25.0, peak_memory_bytes=7, calls=100)])
    memory = Memory()
    assert learn(memory, history) == 1  # type: ignore[arg-type]  # it only learns
    assert (memory.seen[0].wall_s, memory.seen[0].cpu_user_s, memory.seen[0].peak_memory_bytes) == (0.5, 0.25, 7)
