"""The history: many writers, damage, forks, summaries."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from envpack_monitor import History, HistoryWriter, Usage
from envpack_monitor.errors import HistoryError, UnknownCategoryError
from envpack_monitor.usage import FIELDS
from tests.monitor.helpers import wait_until


def usage(number: int = 0, category: str = "work") -> Usage:
    return Usage(category=category, started_at=float(number), wall_s=0.5, cpu_user_s=0.25, cpu_system_s=0.25)


def test_every_field_comes_back_as_it_was_written(tmp_path: Path) -> None:
    values = dict.fromkeys(FIELDS, 7) | {"wall_s": 1.5, "quality": "exact; wall_s: unknown", "category": "all"}
    values |= {"exception": "KeyError", "limit_exceeded": "memory", "features": {"rows": 3.0}, "cpu_user_s": 0.5}
    values |= {"peak_times": {"threads_max": 0.5}}
    written = Usage(**values)  # type: ignore[arg-type]
    history = History(tmp_path / "h.sqlite")
    history.add_many([written])
    assert history.calls("all") == [written]
    assert Usage.from_dict(json.loads(json.dumps(written.to_dict()))) == written


def test_summary_adds_up_calls_and_keeps_the_largest_peak(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    rows = [Usage(category="a", wall_s=1.0, peak_memory_bytes=peak, calls=n) for peak, n in ((5, 1), (9, 10), (7, 1))]
    history.add_many([*rows, usage(3, "b")])
    first, second = history.categories()
    assert (first.category, first.calls, first.wall_s, first.peak_memory_bytes) == ("a", 12, 3.0, 9)
    assert (second.calls, second.cpu_s, second.peak_memory_bytes) == (1, 0.5, None)


@pytest.mark.parametrize("content", [b"", b"this is no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_damaged_file_is_set_aside_and_a_new_one_begins(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "h.sqlite"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        History(path).add_many([usage()])
    assert len(History(path).calls("work")) == 1
    if content:
        assert (tmp_path / "h.sqlite.damaged-1").read_bytes() == content
        assert "was set aside" in caplog.text


def test_damage_in_the_middle_of_a_file_is_noticed_and_loses_no_new_call(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    history = History(path)
    history.add_many(usage(number) for number in range(2000))
    history.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xee" * 40_000)
    history.add_many([usage(1, "new")])
    assert len(History(path).calls("new")) == 1
    assert (tmp_path / "h.sqlite.damaged-1").exists()


def test_two_damaged_files_get_two_names(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    for _ in range(2):
        path.write_bytes(b"garbage " * 1000)
        history = History(path)
        history.add_many([usage()])
        history.close()
    assert sorted(file.name for file in tmp_path.glob("*damaged-?")) == ["h.sqlite.damaged-1", "h.sqlite.damaged-2"]


def test_file_of_an_older_schema_is_completed_and_keeps_its_calls(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    new = {"peak_times", "shared_out_bytes", "gpu_memory_bytes", "processes_total", "threads_max"}
    old = [name for name in FIELDS if name not in new]
    connection = sqlite3.connect(path)
    connection.execute(f"CREATE TABLE calls (id INTEGER PRIMARY KEY, {', '.join(old)})")
    connection.execute("INSERT INTO calls (category, wall_s, quality, calls) VALUES ('work', 0.5, 'exact', 1)")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    history = History(path)
    history.add_many([Usage(category="work", wall_s=1.0, threads_max=3, peak_times={"peak_memory_bytes": 0.5})])
    first, second = history.calls("work")
    assert (first.wall_s, first.threads_max, first.peak_times) == (0.5, None, {})
    assert (second.threads_max, second.peak_times) == (3, {"peak_memory_bytes": 0.5})


def test_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(HistoryError, match="schema 5 expected, 99 met"):
        History(path).add_many([usage()])
    assert list(tmp_path.glob("*damaged*")) == []


def test_file_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HistoryError, match=r"file/h\.sqlite"):
        History(tmp_path / "file" / "h.sqlite").add_many([usage()])


def test_unknown_category_names_the_similar_ones(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    history.add_many([usage(0, "training"), usage(0, "module.predict")])
    with pytest.raises(UnknownCategoryError, match="did you mean 'training'"):
        history.calls("trainnig")
    with pytest.raises(UnknownCategoryError, match=r"did you mean 'module\.predict'"):
        history.calls("predict")


def test_killed_process_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    program = (
        "import os, sys; from envpack_monitor import History, HistoryWriter, Usage\n"
        f"w = HistoryWriter(History({str(path)!r}))\n"
        "call = Usage(category='k', wall_s=1.0)\n"
        "[w.put(call) for _ in range(100)]; w.flush(); w.put(call)\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, check=False
    )
    assert len(History(path).calls("k")) in (100, 101)


def test_end_of_the_interpreter_writes_what_was_put(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    program = "from envpack_monitor import monitor\nf = monitor('e')(lambda: 1)\nfor _ in range(50): f()"
    env = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ENVPACK_HISTORY": str(path)}
    subprocess.run([sys.executable, "-c", program], env=env, check=True)
    assert len(History(path).calls("e")) == 50


def test_full_queue_makes_put_wait_and_loses_nothing(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    with HistoryWriter(history, bound=10) as writer:
        for number in range(500):
            writer.put(usage(number))
    assert len(history.calls("work")) == 500


def test_calls_put_after_close_are_written_at_once(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    writer = HistoryWriter(history)
    writer.put(usage(1))
    writer.close()
    writer.put(usage(2))
    assert [call.started_at for call in history.calls("work")] == [1.0, 2.0]


def test_failure_to_write_is_raised_by_flush_with_the_number_lost(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    writer = HistoryWriter(History(tmp_path / "file" / "h.sqlite"))
    writer.put(usage())
    with pytest.raises(HistoryError):
        writer.flush()
    assert writer.lost == 1
    writer.close()


def test_forked_child_writes_through_a_thread_of_its_own(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    with HistoryWriter(history) as writer:
        writer.put(usage(1))
        pid = os.fork()
        if pid == 0:
            writer.put(usage(2))
            writer.close()
            os._exit(0)
        os.waitpid(pid, 0)
        writer.put(usage(3))
    wait_until(lambda: len(history.calls("work")) == 3, "three calls are written")
