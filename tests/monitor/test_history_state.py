"""What is learned from the history is kept beside it, and goes on where it stopped."""

from __future__ import annotations

import sqlite3
from multiprocessing import get_context
from pathlib import Path

from envpack_monitor import History, Usage
from envpack_monitor.history.remembered import SavedState


def calls(first: int, count: int, category: str = "work") -> list[Usage]:
    return [Usage(category=category, started_at=float(number), wall_s=0.5) for number in range(first, first + count)]


def test_nothing_is_loaded_before_anything_was_saved(tmp_path: Path) -> None:
    assert History(tmp_path / "h.sqlite").load_state("predictor") is None


def test_saved_state_comes_back_in_another_history_object(tmp_path: Path) -> None:
    History(tmp_path / "h.sqlite").save_state("predictor", b"\0\xff learned", 17, version=3)
    assert History(tmp_path / "h.sqlite").load_state("predictor") == SavedState(3, b"\0\xff learned", 17)


def test_last_saver_wins_and_names_do_not_meet(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    history.save_state("a", b"old", 9)
    history.save_state("b", b"other", 2)
    history.save_state("a", b"new", 5)
    assert history.load_state("a") == SavedState(1, b"new", 5)
    assert history.load_state("b") == SavedState(1, b"other", 2)


def save_often(path: Path, letter: str) -> None:
    history = History(path)
    for number in range(50):
        history.save_state("predictor", letter.encode() * 20_000, number)


def test_processes_that_save_at_once_leave_one_whole_state(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    processes = [get_context("fork").Process(target=save_often, args=(path, letter)) for letter in "xyz"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    state = History(path).load_state("predictor")
    assert state is not None
    assert (len(state.data), len(set(state.data)), state.seen_id) == (20_000, 1, 49)


def test_since_returns_each_call_once(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    assert history.since(0, 10) == ([], 0)
    history.add_many(calls(0, 5))
    first, seen_id = history.since(0, 10)
    assert first == calls(0, 5)
    history.add_many(calls(5, 3, "other"))
    second, seen_id = history.since(seen_id, 10)
    assert second == calls(5, 3, "other")
    assert history.since(seen_id, 10) == ([], seen_id)


def test_since_leaves_out_the_oldest_of_too_many(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    history.add_many(calls(0, 100))
    found, seen_id = history.since(20, 10)
    assert found == calls(90, 10)
    assert history.since(seen_id, 10) == ([], seen_id)


def test_since_begins_anew_with_a_file_that_has_begun_anew(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    history.add_many(calls(0, 3))
    assert history.since(1000, 10) == (calls(0, 3), 3)


def test_file_of_an_older_schema_gets_room_for_state(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    history = History(path)
    history.add_many(calls(0, 1))
    history.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE state")
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    history.save_state("a", b"kept", 1)
    assert history.load_state("a") == SavedState(1, b"kept", 1)
    assert history.calls("work") == calls(0, 1)
