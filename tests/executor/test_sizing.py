"""Calls that are promised memory, with real processes on nodes that are told to be small."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envpack_executor import ContextExecutor, RemoteNodes, settings, task
from envpack_executor.worker.watch import tree_bytes
from envpack_monitor import Allocation, History, LimitExceeded, Usage, monitor
from envpack_monitor.predict import Explanation
from tests.executor import functions
from tests.executor.helpers import MB, environ, wait_until

BASE = 40 * MB
"""More than an interpreter has in memory that has done nothing."""


class Table:
    """A predictor that knows by heart what each category gets, and writes down what it is told."""

    def __init__(self, **sizes: int) -> None:
        self.sizes = sizes
        self.asked: list[tuple[str, dict[str, float]]] = []
        self.observed: list[Usage] = []
        self.failed: list[Allocation] = []

    def predict(self, category: str, features: Mapping[str, float]) -> Allocation:
        self.asked.append((category, dict(features)))
        return Allocation(memory_bytes=self.sizes[category], cores=0.1)

    def observe(self, category: str, features: Mapping[str, float], usage: Usage) -> None:
        self.observed.append(usage)

    def retry(self, category: str, features: Mapping[str, float], failed: Allocation) -> Allocation:
        self.failed.append(failed)
        return replace(failed, memory_bytes=5 * (failed.memory_bytes or 0) // 4, attempt=failed.attempt + 1)

    def explain(self, category: str, features: Mapping[str, float]) -> Explanation:
        return Explanation(rule="by heart", calls=0, allocation=Allocation())


def category(name: str, function: Any = functions.touch) -> Any:
    return task(category=name)(function)


def lines(journal: Path) -> Iterator[tuple[str, str, int]]:
    """Yield (begin or end, name, resident memory) in order of time."""
    words = sorted((line.split() for line in journal.read_text().splitlines()), key=lambda each: int(each[0]))
    return ((kind, name, int(size)) for _, kind, name, size, _ in words)


def most_promised(executor: ContextExecutor) -> int:
    return max((each.allocation.memory_bytes or 0 for each in executor.stats().promises), default=0)


def most_at_once(journal: Path) -> int:
    """Return the largest sum of the memory of calls that ran at the same time."""
    running: dict[str, int] = {}
    most = 0
    for kind, name, size in lines(journal):
        if kind == "end":
            running.pop(name, None)
        else:
            running[name] = size
        most = max(most, sum(running.values()))
    return most


def test_no_more_runs_at_once_than_the_node_has_memory_for(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    table = Table(large=BASE + 200 * MB, small=BASE + 50 * MB)
    with ContextExecutor(8, allocations=table, memory=600 * MB, cores=8, history=None) as executor:
        futures = [
            executor.submit(category(kind), size, 0.1, str(journal), f"{kind}{number}")
            for number in range(6)
            for kind, size in (("large", 200 * MB), ("small", 50 * MB))
        ]
        names = [future.result() for future in futures]
    assert sorted(names) == sorted(f"{kind}{number}" for number in range(6) for kind in ("large", "small"))
    assert 250 * MB < most_at_once(journal) <= 600 * MB
    assert not table.failed


def test_default_predictor_learns_how_many_fit(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with ContextExecutor(8, allocations="auto", memory="600MB", cores=8) as executor:
        work = category("work")
        futures = [executor.submit(work, 100 * MB, 0.1, str(journal), f"call{number}") for number in range(12)]
        assert len({future.result() for future in futures}) == 12
    assert most_at_once(journal) <= 600 * MB
    running = [kind for kind, _, _ in lines(journal)]
    assert "begin begin" in " ".join(running), "none ran beside another"
    remembered = History(os.environ["ENVPACK_HISTORY"]).calls("work")
    assert {call.features["size"] for call in remembered} == {100 * MB}


def test_scout_of_each_category_goes_ahead(tmp_path: Path) -> None:
    journal, gate = tmp_path / "journal", tmp_path / "gate"
    table = Table(busy=100 * MB, first=100 * MB, second=100 * MB)
    with ContextExecutor(2, allocations=table, memory="1GB", cores=2, history=None) as executor:
        # Both processes are busy until all calls wait: otherwise the second of a category may find an idle one.
        busy = [executor.submit(category("busy", functions.wait_for), str(gate)) for _ in range(2)]
        wait_until(lambda: len(executor.stats().promises) == 2, "both processes are busy")
        futures = [
            executor.submit(category(kind), MB, 0.2, str(journal), f"{kind}{number}")
            for kind in ("first", "second")
            for number in range(3)
        ]
        wait_until(lambda: sum(wait.calls for wait in executor.stats().waits) == 6, "all six wait")
        gate.write_text("open")
        for future in [*busy, *futures]:
            future.result()
    began = [name for kind, name, _ in lines(journal) if kind == "begin"]
    assert set(began[:2]) == {"first0", "second0"}


def test_allocation_is_asked_when_a_call_is_sent_and_not_when_it_is_submitted(tmp_path: Path) -> None:
    table = Table(work=100 * MB)
    with ContextExecutor(1, allocations=table, memory="1GB", cores=1, history=None) as executor:
        work = category("work", functions.wait_for)
        gate = tmp_path / "gate"
        first = executor.submit(work, str(gate))
        wait_until(lambda: len(table.asked) >= 1, "the first call is asked for")
        others = [executor.submit(work, str(gate)) for _ in range(3)]
        wait_until(lambda: executor.stats().open_calls == 4, "all are submitted")
        asked = len(table.asked)
        gate.touch()
        for future in [first, *others]:
            future.result()
    assert asked <= 2, "calls were asked for before their turn"
    assert all("path.len" in features for _, features in table.asked)


@monitor(category="measured", features=lambda left, right: {"sum": left + right})
def add(left: int, right: int) -> int:
    return left + right


def test_features_are_those_that_monitor_was_told(tmp_path: Path) -> None:
    table = Table(measured=100 * MB)
    with ContextExecutor(1, allocations=table, memory="1GB", history=tmp_path / "history") as executor:
        assert executor.submit(add, 2, 3).result() == 5
    assert table.asked == [("measured", {"left": 2, "right": 3, "sum": 5})]
    [remembered] = History(tmp_path / "history").calls("measured")
    assert remembered.features == {"left": 2, "right": 3, "sum": 5}


def test_call_alone_grows_and_is_not_ended(tmp_path: Path) -> None:
    started, gate = tmp_path / "started", tmp_path / "gate"
    table = Table(work=50 * MB)
    with ContextExecutor(2, allocations=table, memory="800MB", cores=2, history=None) as executor:
        future = executor.submit(category("work", functions.touch_and_wait), 300 * MB, str(started), str(gate))
        wait_until(lambda: most_promised(executor) > 300 * MB, "it is promised what it has")
        gate.touch()
        pid = future.result()
        assert pid in executor.stats().pids
        assert executor.stats().set_ups == 1
    assert all(usage.signal is None for usage in table.observed)


def test_call_above_its_promise_gives_way_to_one_that_needs_its_own(tmp_path: Path) -> None:
    large_started, small_started, gate = (tmp_path / name for name in ("large", "small", "gate"))
    table = Table(greedy=60 * MB, honest=440 * MB)
    with ContextExecutor(2, allocations=table, memory="500MB", cores=2, history=None) as executor:
        touching = functions.touch_and_wait
        greedy = executor.submit(category("greedy", touching), 200 * MB, str(large_started), str(gate))
        wait_until(large_started.exists, "the first has its memory")
        # It was given what is free; now less is left than the other is promised, so that one waits until it has ended.
        honest = executor.submit(category("honest", touching), 350 * MB, str(small_started), str(gate))
        wait_until(lambda: bool(executor.stats().waits), "the other waits")
        [wait] = executor.stats().waits
        assert "no room: 440 MB wanted" in wait.reason
        gate.touch()
        assert {greedy.result(), honest.result()} <= set(executor.stats().pids)


def test_call_that_has_taken_what_others_were_promised_is_ended_alone_and_run_again(tmp_path: Path) -> None:
    go, gate, started = tmp_path / "go", tmp_path / "gate", tmp_path / "started"
    table = Table(greedy=60 * MB, honest=440 * MB)
    with ContextExecutor(2, allocations=table, memory="500MB", cores=2, history=None) as executor:
        honest = executor.submit(category("honest", functions.touch_when), 350 * MB, str(started), str(go), str(gate))
        wait_until(started.exists, "the honest one has begun and has nothing yet")
        greedy = executor.submit(
            category("greedy", functions.touch_and_wait), 200 * MB, str(tmp_path / "large"), str(gate)
        )
        wait_until((tmp_path / "large").exists, "the other has taken more than it may")
        before = executor.stats().pids
        go.touch()
        wait_until(lambda: set(before) > set(executor.stats().pids), "one of them is ended")
        gate.touch()
        [ended] = set(before) - {honest.result()}
        assert greedy.result() != ended


def test_context_of_an_ended_call_is_set_up_again(tmp_path: Path) -> None:
    go, gate = tmp_path / "go", tmp_path / "gate"
    started = {name: tmp_path / name for name in ("greedy", "honest")}
    table = Table(greedy=60 * MB, honest=440 * MB)
    greedy_task = task(category="greedy", context=(functions.load_number, 7))(functions.touch_with_number)
    with ContextExecutor(2, allocations=table, memory="500MB", cores=2, history=None) as executor:
        honest = executor.submit(
            category("honest", functions.touch_when), 350 * MB, str(started["honest"]), str(go), str(gate)
        )
        wait_until(started["honest"].exists, "the honest one has begun and has nothing yet")
        greedy = executor.submit(greedy_task, 200 * MB, str(started["greedy"]), str(gate))
        behind = [executor.submit(greedy_task, MB, str(tmp_path / "behind"), str(gate)) for _ in range(3)]
        wait_until(started["greedy"].exists, "the other has taken more than it may")
        go.touch()
        wait_until(lambda: len(executor.stats().pids) == 1, "the other is ended")
        gate.touch()
        assert [future.result() for future in (greedy, *behind)] == [7] * 4
        assert honest.result()
        assert executor.stats().set_ups >= 3


def test_worker_elsewhere_watches_its_calls_and_ends_one_that_is_too_large(tmp_path: Path) -> None:
    nodes = RemoteNodes()
    with ContextExecutor(nodes=nodes, allocations=Table(work=60 * MB), history=None) as executor:
        command = [sys.executable, "-m", "envpack", "worker", "--connect", nodes.address, "--key", str(nodes.key_file)]
        with subprocess.Popen([*command, "--cores", "2", "--memory", "400MB"], env=environ()) as worker:
            started, gate = tmp_path / "started", tmp_path / "gate"
            touching = category("work", functions.touch_and_wait)
            fitting = executor.submit(touching, 150 * MB, str(started), str(gate))
            wait_until(lambda: most_promised(executor) > 150 * MB, "it is promised what it has")
            gate.touch()
            assert isinstance(fitting.result(), int)
            with pytest.raises(LimitExceeded, match="400 MB allowed"):
                executor.submit(touching, 500 * MB, str(started), str(tmp_path / "never")).result(timeout=60)
            executor.shutdown()
            assert worker.wait(30) == 0


def test_worker_says_what_its_memory_must_be(tmp_path: Path) -> None:
    for wrong in ("much", "0"):
        words = ["worker", "--connect", "tcp://127.0.0.1:1", "--key", str(tmp_path), "--memory", wrong]
        answer = subprocess.run(
            [sys.executable, "-m", "envpack", *words], env=environ(), capture_output=True, text=True
        )
        assert answer.returncode == 2
        assert "--memory" in answer.stderr


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"allocations": "auto", "memory": 0}, ValueError),
        ({"allocations": "auto", "cores": -1}, ValueError),
        ({"allocations": "much"}, TypeError),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"allocations|memory|cores"):
        ContextExecutor(1, history=None, **options)


def test_usable_memory_is_within_what_the_machine_has() -> None:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < settings.usable_memory() <= 9 * physical // 10


def test_memory_of_a_tree_counts_children_and_nothing_of_what_is_gone() -> None:
    source = "import subprocess as s, sys; print(s.Popen([sys.executable, '-c', 'input()']).pid, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_until(lambda: tree_bytes(child) > MB, "the child runs")
        assert tree_bytes(parent.pid) > tree_bytes(child) > MB
        parent.communicate(b"\n\n")
    wait_until(lambda: tree_bytes(parent.pid) == 0, "it is gone")


def test_random_calls_that_were_promised_too_little_all_end(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    table = Table(work=BASE)
    rng = random.Random(5)
    with ContextExecutor(4, allocations=table, memory="500MB", cores=4, history=None) as executor:
        work = category("work")
        futures = [
            executor.submit(work, rng.randrange(1, 380) * MB, 0.1, str(journal), f"call{number}")
            for number in range(10)
        ]
        assert [future.result(timeout=100) for future in futures] == [f"call{number}" for number in range(10)]
    ends = [name for kind, name, _ in lines(journal) if kind == "end"]
    assert sorted(ends) == sorted({f"call{number}" for number in range(10)}), "each came to its end once"


def test_call_larger_than_the_node_ends_with_what_was_allowed_and_measured(tmp_path: Path) -> None:
    with ContextExecutor(2, allocations="auto", memory="300MB", cores=2) as executor:
        future: Future[Any] = executor.submit(
            category("work", functions.touch_and_wait), 600 * MB, str(tmp_path / "started"), str(tmp_path / "never")
        )
        with pytest.raises(LimitExceeded, match=r"memory limit exceeded: 300 MB allowed, \d+ MB used by 'work'") as met:
            future.result(timeout=60)
        assert met.value.measured > 300 * MB
        assert executor.submit(category("other", functions.add), 1, 2).result() == 3
