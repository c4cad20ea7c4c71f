"""What becomes a row: one per call, and above a rate a sample and exact aggregates."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpack_monitor import History, HistoryWriter, Usage
from envpack_monitor.errors import FormatError
from envpack_monitor.history.rows import LARGEST, SUMMED, aggregate, to_row
from envpack_monitor.history.thinning import BURST_S, Thinner
from envpack_monitor.settings import history_rows_per_s

FIGURES = st.fixed_dictionaries(
    {"category": st.sampled_from("abc"), "wall_s": st.integers(0, 1000).map(float)},
    optional={
        "started_at": st.integers(0, 10**6).map(float),
        "peak_memory_bytes": st.integers(0, 10**12),
        "bytes_read": st.integers(0, 10**12),
        "cpu_user_s": st.integers(0, 100).map(float),
        "exception": st.sampled_from(["KeyError", "OSError"]),
        "quality": st.sampled_from(["exact", "upper bound"]),
        "features": st.just({"rows": 1.0}),
    },
)


def calls(count: int, category: str = "work") -> list[dict[str, Any]]:
    return [to_row({"category": category, "wall_s": 1.0, "peak_memory_bytes": number}) for number in range(count)]


def totals(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], Any]:
    found: dict[tuple[Any, ...], Any] = {}
    for row in rows:
        end = row["category"], row.get("exception"), row["quality"]
        for name in SUMMED:
            found[(*end, name)] = found.get((*end, name), 0) + row.get(name, 0)
        for name in LARGEST:
            found[(*end, name)] = max(found.get((*end, name), 0), row.get(name, 0))
    return found


@given(st.lists(FIGURES, max_size=60), st.integers(0, 40), st.integers(0, 9))
def test_whatever_the_rate_sums_and_peaks_over_the_rows_are_those_of_all_calls(
    figures: list[dict[str, Any]], room: int, seed: int
) -> None:
    rows = [to_row(each) for each in figures]
    written = Thinner(room / BURST_S, seed).thin(rows, 0.0)
    assert totals(written) == totals(rows)
    assert len(written) <= len(rows)


@given(st.lists(FIGURES, min_size=1, max_size=20))
def test_aggregate_of_aggregates_is_the_aggregate_of_all(figures: list[dict[str, Any]]) -> None:
    rows = [to_row({**each, "category": "a", "quality": "exact", "exception": "E"}) for each in figures]
    middle = random.Random(len(rows)).randint(1, len(rows))
    parts = [aggregate(part) for part in (rows[:middle], rows[middle:]) if part]
    assert aggregate(parts) == aggregate(rows)


def test_below_the_rate_every_call_has_a_row_of_its_own() -> None:
    thinner = Thinner(100, 0)
    for second in range(200):
        rows = calls(100)
        assert thinner.thin(rows, float(second)) is rows


def test_a_burst_is_written_whole_and_what_lasts_is_thinned_to_the_rate() -> None:
    thinner = Thinner(100, 0)
    assert len(thinner.thin(calls(2000), 0.0)) == 2000
    for second in range(1, 50):
        assert len(thinner.thin(calls(5000), float(second))) <= 100


def test_many_calls_of_one_category_leave_the_few_of_another_their_rows() -> None:
    written = Thinner(100 / BURST_S, 0).thin([*calls(5000, "fast"), *calls(10, "slow")], 0.0)
    assert len(written) <= 100
    assert Counter(row["category"] for row in written if row["calls"] == 1)["slow"] == 10


def test_sample_holds_the_call_with_the_largest_peak() -> None:
    written = Thinner(10 / BURST_S, 0).thin(calls(5000), 0.0)
    assert max(row["peak_memory_bytes"] for row in written if row["calls"] == 1) == 4999


def test_samples_do_not_touch_the_generator_of_the_user() -> None:
    random.seed(7)
    expected = random.random()
    random.seed(7)
    Thinner(1).thin(calls(1000), 0.0)
    assert random.random() == expected


def test_writer_thins_what_comes_too_fast_and_the_summary_stays_exact(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    with HistoryWriter(history, rows_per_s=1) as writer:
        for number in range(2000):
            writer.put({"category": "fast", "started_at": float(number), "wall_s": 0.5, "peak_memory_bytes": number})
    (summary,) = history.categories()
    assert (summary.calls, summary.wall_s, summary.peak_memory_bytes) == (2000, 1000.0, 1999)
    assert summary.rows < 200


def test_writer_can_be_told_to_write_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVPACK_HISTORY_ROWS", "0")
    history = History(tmp_path / "h.sqlite")
    with HistoryWriter(history) as writer:
        for _ in range(30_000):
            writer.put({"category": "fast", "wall_s": 0.5})
    assert history.categories()[0].rows == 30_000


@pytest.mark.parametrize("text", ["many", "-1", "nan"])
def test_rate_that_is_no_number_is_wrong_usage(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVPACK_HISTORY_ROWS", text)
    with pytest.raises(FormatError, match="number of rows a second expected"):
        history_rows_per_s()


def test_calls_with_different_fields_keep_their_order(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    written = [
        Usage(category="mixed", wall_s=float(number), signal=9 if number % 3 == 0 else None) for number in range(500)
    ]
    history.add_many(written)
    assert history.calls("mixed") == written
