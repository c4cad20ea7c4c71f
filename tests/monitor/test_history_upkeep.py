"""Pruning and merging: sums stay, nothing comes twice, and others may write meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from envpack_monitor import History, Usage
from envpack_monitor.errors import FormatError, HistoryError, UnknownCategoryError
from envpack_monitor.history.merge import Merged
from envpack_monitor.usage import FIELDS

DAY_S = 86_400.0


def calls(first: int, count: int, category: str = "work", started_at: float | None = None) -> list[Usage]:
    return [
        Usage(
            category=category,
            started_at=float(number) if started_at is None else started_at,
            wall_s=0.5,
            peak_memory_bytes=number,
        )
        for number in range(first, first + count)
    ]


def filled(path: Path, first: int, count: int, category: str = "work") -> History:
    history = History(path)
    history.add_many(calls(first, count, category))
    return history


def numbers(history: History) -> list[float]:
    return sorted(call.started_at for call in history.iterate())


def test_pruning_keeps_the_newest_and_the_sums_of_the_rest(tmp_path: Path) -> None:
    history = filled(tmp_path / "h.sqlite", 0, 100)
    before = history.categories()[0]
    (pruned,) = history.prune(keep=10)
    assert (pruned.removed, pruned.calls, pruned.summaries) == (90, 90, 1)
    after = history.categories()[0]
    assert (after.calls, after.wall_s, after.peak_memory_bytes) == (100, before.wall_s, 99)
    summary, *rest = history.calls("work")
    assert rest == calls(90, 10)
    assert (summary.calls, summary.wall_s, summary.peak_memory_bytes, summary.started_at) == (90, 45.0, 89, 89.0)


def test_pruning_again_removes_nothing_more(tmp_path: Path) -> None:
    history = filled(tmp_path / "h.sqlite", 0, 100)
    history.prune(keep=10)
    assert history.prune(keep=10)[0].removed == 0
    history.add_many(calls(100, 5))
    assert history.prune(keep=10)[0].calls == 95
    assert [call.calls for call in history.calls("work")] == [95, *[1] * 10]


def test_pruning_by_age_spares_young_calls_and_those_to_keep(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    history.add_many(calls(0, 20, "old", time.time() - 40 * DAY_S))
    history.add_many(calls(0, 20, "young", time.time()))
    found = {each.category: each.removed for each in history.prune(older_than_s=30 * DAY_S, keep=5)}
    assert found == {"old": 15, "young": 0}


def test_failures_and_doubts_are_summed_apart(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    history.add_many([Usage(category="a", wall_s=1.0, exception="KeyError" if n % 4 == 0 else None) for n in range(40)])
    assert history.prune()[0].summaries == 2
    assert sorted((call.exception or "", call.calls) for call in history.calls("a")) == [("", 30), ("KeyError", 10)]


def test_trial_says_what_would_go_and_changes_nothing(tmp_path: Path) -> None:
    history = filled(tmp_path / "h.sqlite", 0, 100)
    assert history.prune(keep=10, is_trial=True)[0].removed == 90
    assert history.calls("work") == calls(0, 100)


def test_pruning_without_summary_forgets_the_category_and_what_was_learned(tmp_path: Path) -> None:
    history = filled(tmp_path / "h.sqlite", 0, 10, "wrong")
    history.add_many(calls(0, 10, "right"))
    history.save_state("predictor", b"x", 20)
    history.prune("wrong", has_summary=False)
    assert history.names() == ["right"]
    assert history.load_state("predictor") is None
    with pytest.raises(UnknownCategoryError):
        history.prune("wrong")


def test_who_reads_on_takes_no_summary_for_a_new_call(tmp_path: Path) -> None:
    history = filled(tmp_path / "h.sqlite", 0, 100)
    _, seen_id = history.since(0, 1000)
    history.prune()
    assert history.since(seen_id, 1000) == ([], seen_id)
    history.add_many(calls(100, 1))
    assert history.since(seen_id, 1000)[0] == calls(100, 1)


def test_file_shrinks_when_much_is_pruned_and_stays_sound(tmp_path: Path) -> None:
    history = filled(tmp_path / "h.sqlite", 0, 50_000)
    history.close()
    before = history.path.stat().st_size
    history.prune(keep=100)
    history.close()
    assert history.path.stat().st_size < before / 10
    with sqlite3.connect(history.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def add_slowly(path: Path, first: int) -> None:
    history = History(path)
    for number in range(first, first + 200):
        history.add_many(calls(number, 1))


def test_pruning_and_merging_while_others_write_lose_nothing(tmp_path: Path) -> None:
    path, other = tmp_path / "h.sqlite", filled(tmp_path / "other.sqlite", 100_000, 500)
    context = get_context("fork")
    processes = [context.Process(target=add_slowly, args=(path, first)) for first in (0, 200, 400)]
    processes.append(context.Process(target=add_slowly, args=(other.path, 200_000)))
    for process in processes:
        process.start()
    history = History(path)
    while any(process.is_alive() for process in processes):
        history.prune(keep=20)
        history.merge(other.path)
    for process in processes:
        process.join(60)
    history.merge(other.path)
    (summary,) = history.categories()
    assert (summary.calls, summary.wall_s) == (1300, 650.0)


def test_merging_brings_each_call_once_however_often_it_is_done(tmp_path: Path) -> None:
    history, other = filled(tmp_path / "a.sqlite", 0, 10), filled(tmp_path / "b.sqlite", 100, 20)
    assert history.merge(other.path) == Merged(str(other.path), 20, 0, 0)
    assert history.merge(other.path) == Merged(str(other.path), 0, 20, 0)
    other.add_many(calls(200, 5))
    assert history.merge(other.path) == Merged(str(other.path), 5, 20, 0)
    assert numbers(history) == numbers(filled(tmp_path / "c.sqlite", 0, 10)) + numbers(other)


def test_files_that_are_merged_in_circles_end_up_alike(tmp_path: Path) -> None:
    files = [filled(tmp_path / f"{name}.sqlite", number * 100, 10, name) for number, name in enumerate("abc")]
    for _ in range(2):
        for one, two in ((0, 1), (1, 2), (2, 0), (1, 0), (0, 2), (2, 1)):
            files[one].merge(files[two].path)
    assert [len(numbers(history)) for history in files] == [30, 30, 30]


def test_history_merged_into_itself_stays_as_it_is(tmp_path: Path) -> None:
    history = filled(tmp_path / "a.sqlite", 0, 10)
    assert history.merge(history.path).added == 0


@pytest.mark.parametrize("pruned", ["source", "target"])
def test_merging_again_after_pruning_doubles_nothing(pruned: str, tmp_path: Path) -> None:
    history, other = History(tmp_path / "a.sqlite"), filled(tmp_path / "b.sqlite", 0, 50)
    history.merge(other.path)
    (other if pruned == "source" else history).prune(keep=5)
    assert history.merge(other.path).added == 0
    assert history.categories()[0].calls == 50


def test_what_was_pruned_before_it_was_merged_keeps_its_sums_and_its_origin(tmp_path: Path) -> None:
    middle, source, target = (History(tmp_path / f"{name}.sqlite") for name in "mst")
    source.add_many(calls(0, 50))
    target.merge(source.path)
    middle.merge(source.path)
    middle.prune()
    assert target.merge(middle.path).added == 0
    assert target.categories()[0].calls == 50


def test_calls_written_after_others_were_forgotten_are_merged_too(tmp_path: Path) -> None:
    history, other = History(tmp_path / "a.sqlite"), filled(tmp_path / "b.sqlite", 0, 10, "right")
    other.add_many(calls(10, 10, "wrong"))
    history.merge(other.path)
    other.prune("wrong", has_summary=False)
    other.add_many(calls(20, 15, "new"))
    assert history.merge(other.path).added == 15
    assert history.merge(other.path).added == 0
    assert numbers(history) == [float(number) for number in range(35)]


def test_merged_calls_keep_every_field(tmp_path: Path) -> None:
    call = Usage(category="a", wall_s=1.0, features={"rows": 2.0}, peak_times={"wall_s": 0.5}, signal=9)
    other = History(tmp_path / "b.sqlite")
    other.add_many([call])
    history = History(tmp_path / "a.sqlite")
    history.merge(other.path)
    assert history.calls("a") == [call]


def test_file_of_an_older_schema_is_merged_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(f"CREATE TABLE calls (id INTEGER PRIMARY KEY, {', '.join(FIELDS[:4])}, quality, calls)")
    connection.execute("INSERT INTO calls (category, started_at, wall_s, calls) VALUES ('old', 1.0, 0.5, 1)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    history = History(tmp_path / "h.sqlite")
    assert (history.merge(path).added, history.merge(path).added) == (1, 0)
    assert path.read_bytes() == before
    assert history.calls("old")[0].wall_s == 0.5


def test_damaged_file_gives_what_can_be_read_of_it(tmp_path: Path) -> None:
    other = filled(tmp_path / "b.sqlite", 0, 5000)
    other.close()
    with other.path.open("r+b") as file:
        file.seek(other.path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xee" * 4096)
    history = History(tmp_path / "a.sqlite")
    merged = history.merge(other.path)
    assert merged.unreadable > 0
    assert merged.added > 4500
    assert merged.added + merged.unreadable >= 5000
    assert set(numbers(history)) <= {float(number) for number in range(5000)}


def test_what_is_no_history_is_refused(tmp_path: Path) -> None:
    history = filled(tmp_path / "a.sqlite", 0, 1)
    with pytest.raises(HistoryError, match="no such file"):
        history.merge(tmp_path / "none.sqlite")
    with pytest.raises(HistoryError, match="a folder met"):
        history.merge(tmp_path)
    (tmp_path / "text").write_text("no database " * 1000)
    with pytest.raises(HistoryError, match="not a database"):
        history.merge(tmp_path / "text")
    connection = sqlite3.connect(tmp_path / "other.sqlite")
    connection.execute("CREATE TABLE flowers (name)")
    connection.close()
    with pytest.raises(FormatError, match="database without calls"):
        history.merge(tmp_path / "other.sqlite")
    assert len(history.calls("work")) == 1


def test_file_that_may_only_be_read_is_merged(tmp_path: Path) -> None:
    other = filled(tmp_path / "folder" / "b.sqlite", 0, 10) if (tmp_path / "folder").mkdir() is None else None
    assert other is not None
    other.close()
    other.path.parent.chmod(0o500)
    try:
        assert History(tmp_path / "a.sqlite").merge(other.path).added == 10
    finally:
        other.path.parent.chmod(0o700)


def test_names_lists_categories_without_reading_their_calls(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    assert history.names() == []
    for name in ("b", "a", "", "ä", "c"):
        history.add_many(calls(0, 3, name))
    assert history.names() == ["", "a", "b", "c", "ä"]


def test_iterate_gives_every_call_in_order_also_over_many_pages(tmp_path: Path) -> None:
    history = filled(tmp_path / "h.sqlite", 0, 5000)
    history.add_many(calls(5000, 1, "other"))
    assert list(history.iterate("work")) == calls(0, 5000)
    assert len(list(history.iterate())) == 5001


def test_copy_that_went_its_own_way_brings_only_what_the_original_lacks(tmp_path: Path) -> None:
    history = filled(tmp_path / "a.sqlite", 0, 10)
    history.close()
    shutil.copy(history.path, tmp_path / "copy.sqlite")
    history.add_many(calls(10, 5))
    copy = filled(tmp_path / "copy.sqlite", 20, 3)
    assert history.merge(copy.path) == Merged(str(copy.path), 3, 10, 0)
    assert history.merge(copy.path).added == 0
    assert copy.merge(history.path) == Merged(str(history.path), 5, 13, 0)
    assert copy.merge(history.path).added == 0
    third = History(tmp_path / "third.sqlite")
    third.merge(copy.path)
    third.merge(history.path)
    expected = [*map(float, range(15)), 20.0, 21.0, 22.0]
    assert [numbers(each) for each in (history, copy, third)] == [expected] * 3
