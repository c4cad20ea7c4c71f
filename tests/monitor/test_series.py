"""Time series: the columns that are promised, written as it goes, whole when it is interrupted."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from envpack_monitor import run_command
from envpack_monitor.errors import FormatError
from envpack_monitor.trees.series import COLUMNS
from tests.monitor.helpers import MB, wait_until

GROW = f"import mmap, time; m = mmap.mmap(-1, {40 * MB})\nfor i in range(0, {40 * MB}, 4096): m[i] = 1\ntime.sleep(0.3)"


@pytest.mark.parametrize("mechanism", ["auto", "proc"])
def test_series_shows_what_the_command_did(tmp_path: Path, mechanism: str) -> None:
    path = tmp_path / "series.csv"
    command = [sys.executable, "-c", GROW]
    usage = run_command(command, mechanism=mechanism, series=path, interval_s=0.02, folder=tmp_path).usage  # type: ignore[arg-type]
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    times = [float(row["time_s"]) for row in rows]
    assert times == sorted(times)
    assert len(rows) >= 5
    assert 40 * MB < max(int(row["memory_bytes"]) for row in rows) < 70 * MB
    assert {row["processes"] for row in rows} >= {"1", "0"}
    assert float(rows[-1]["cpu_s"]) == pytest.approx(usage.cpu_s, abs=1e-5)
    assert int(rows[-1]["bytes_read"]) == usage.bytes_read
    assert int(rows[-1]["disk_bytes"]) == usage.disk_bytes


def test_lines_of_json_have_the_same_columns_and_say_null_for_what_nobody_measured(tmp_path: Path) -> None:
    run_command(["sleep", "0.1"], series=tmp_path / "s.jsonl", interval_s=0.02)
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert all(tuple(row) == COLUMNS for row in rows)
    assert rows[0]["disk_bytes"] is None


def test_series_is_whole_when_the_command_line_is_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    command = [sys.executable, "-m", "envpack", "monitor", "--series", str(path), "--interval", "20ms", "sleep", "60"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: path.exists() and path.read_text().count("\n") > 3, "rows are written while it runs")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    assert path.read_text().endswith("\n")
    assert {line.count(",") for line in path.read_text().splitlines()} == {len(COLUMNS) - 1}


def test_name_or_interval_that_cannot_be_used_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"ends in \.csv or \.jsonl expected, 's\.txt' met"):
        run_command(["touch", str(tmp_path / "ran")], series=tmp_path / "s.txt")
    with pytest.raises(FormatError, match=r"at least 0\.005 s expected, 0 met"):
        run_command(["touch", str(tmp_path / "ran")], series=tmp_path / "s.csv", interval_s=0)
    with pytest.raises(FormatError, match="cannot write"):
        run_command(["touch", str(tmp_path / "ran")], series=tmp_path / "none" / "s.csv")
    assert not (tmp_path / "ran").exists()
