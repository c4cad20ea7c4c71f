"""`map`: in order, of any number of items, and nothing of what the standard library would have run is left out."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from envpack_executor import ContextExecutor
from envpack_executor.mapping import LEAST_PER_SLOT, MOST_CALLS
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, run_script, wait_until


class Counted:
    """Items that count how many were taken."""

    def __init__(self, count: int | None = None) -> None:
        self.taken = 0
        self._numbers = itertools.count() if count is None else range(count)

    def __iter__(self) -> Iterator[int]:
        for number in self._numbers:
            self.taken += 1
            yield number


def test_results_come_in_order_of_many_items_of_which_few_are_taken_ahead() -> None:
    items = Counted(12_000)
    most_ahead = 0
    with ContextExecutor(max_workers=2, history=None) as executor:
        for number, result in enumerate(executor.map(functions.double, items)):
            assert result == 2 * number
            most_ahead = max(most_ahead, items.taken - number)
    assert items.taken == 12_000
    assert most_ahead <= MOST_CALLS + 1


def test_several_iterables_are_taken_together_and_the_shortest_ends_the_map() -> None:
    with ContextExecutor(max_workers=1) as executor:
        assert list(executor.map(functions.add, [1, 2, 3], itertools.count(10))) == [11, 13, 15]
        assert list(executor.map(functions.add, [], [])) == []


def test_no_more_calls_are_submitted_than_asked_for() -> None:
    items = Counted()
    with ContextExecutor(max_workers=1) as executor:
        results = executor.map(functions.double, items, buffersize=3)
        assert items.taken == 3
        assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
        assert items.taken == 8
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        list(results)


def test_what_is_left_when_the_executor_shuts_down_is_run(tmp_path: Path) -> None:
    count = 10 * LEAST_PER_SLOT
    items = Counted(count)
    with ContextExecutor(max_workers=1) as executor:
        results = executor.map(functions.double, items)
        assert next(results) == 0
        assert items.taken < count
    assert list(results) == [2 * number for number in range(1, count)]


def test_what_is_left_is_dropped_when_the_executor_shuts_down_and_cancels() -> None:
    items = Counted()
    executor = ContextExecutor(max_workers=1)
    results = executor.map(functions.double, items)
    executor.shutdown(cancel_futures=True)
    with pytest.raises(CancelledError):
        list(results)


def test_a_map_whose_results_nobody_wants_runs_all_the_same(tmp_path: Path) -> None:
    journal, count = tmp_path / "journal", 5 * LEAST_PER_SLOT
    with ContextExecutor(max_workers=1) as executor:
        executor.map(functions.note, itertools.repeat(str(journal), count), itertools.count())
        wait_until(lambda: journal.exists() and len(journal.read_text().split()) == count, "all have run")
    assert journal.read_text().split() == [str(number) for number in range(count)]


def test_what_is_left_when_the_interpreter_ends_is_run(tmp_path: Path) -> None:
    script = """
        import sys
        from envpack_executor import ContextExecutor
        from tests.executor import functions
        executor = ContextExecutor(max_workers=1)
        results = executor.map(functions.note, [sys.argv[1]] * 300, range(300))
    """
    run_script(tmp_path, script, str(tmp_path / "journal"))
    assert len((tmp_path / "journal").read_text().split()) == 300


def test_closing_the_iterator_cancels_what_has_not_begun(tmp_path: Path) -> None:
    items = Counted()
    with ContextExecutor(max_workers=1) as executor:
        results = executor.map(functions.double, items)
        assert next(results) == 0
        results.close()  # type: ignore[attr-defined]  # it is a generator, as that of the standard library
        taken = items.taken
    assert items.taken == taken


def test_an_exception_comes_in_its_turn_and_ends_the_map() -> None:
    with ContextExecutor(max_workers=1) as executor:
        results = executor.map(functions.divide, [1, 1, 1], [1, 0, 1])
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert list(results) == []


def test_an_error_of_the_items_comes_after_the_results_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with ContextExecutor(max_workers=1) as executor:
        results = executor.map(functions.double, items())
        assert next(results) == 2
        with pytest.raises(LookupError, match="no more"):
            next(results)
        results = executor.map(functions.double, [1, threading.Lock()])
        assert next(results) == 2
        with pytest.raises(TypeError, match="pickle"):
            next(results)


def test_a_result_that_takes_too_long_is_a_timeout(tmp_path: Path) -> None:
    with ContextExecutor(max_workers=1) as executor:
        results = executor.map(functions.wait_for_some, ["", str(tmp_path / "go")], timeout=1)
        try:
            with pytest.raises(TimeoutError):
                list(results)
        finally:
            (tmp_path / "go").touch()


def test_results_that_were_taken_are_not_kept() -> None:
    with ContextExecutor(max_workers=1) as executor:
        for thing in executor.map(functions.make_thing, range(5)):
            reference = weakref.ref(thing)
            del thing
            gc.collect()
            assert reference() is None


def test_several_threads_may_map_at_once() -> None:
    found: dict[int, list[Any]] = {}

    def work(number: int) -> None:
        found[number] = list(executor.map(functions.add, range(500), itertools.repeat(number)))

    with ContextExecutor(max_workers=2, history=None) as executor:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(GENEROUS_S)
    assert found == {number: list(range(number, 500 + number)) for number in range(4)}


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"chunksize": 0}, ValueError), ({"buffersize": 0}, ValueError), ({"buffersize": 1.5}, TypeError)],
)
def test_sizes_that_cannot_be_are_refused(options: dict[str, Any], kind: type[Exception]) -> None:
    with ContextExecutor(max_workers=1) as executor, pytest.raises(kind, match="size must be"):
        executor.map(functions.double, [], **options)
