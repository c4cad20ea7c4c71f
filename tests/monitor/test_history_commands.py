"""`envpack history`: what it lists, shows, exports, prunes, merges and draws."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from envpack.commands.main import main
from envpack_monitor import History, Usage
from envpack_monitor.errors import FormatError
from envpack_monitor.history.export import TRACE_COLUMNS
from envpack_monitor.plots.charts import bins_of, format_value, line_of_calls, lines_of_series
from envpack_monitor.plots.textplot import bars, dots
from envpack_monitor.usage import FIELDS

MB = 10**6


def envpack(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "envpack", "history", *words]
    env = {**os.environ, "COLUMNS": "80", **environ}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env)


def train(number: int, **more: Any) -> Usage:
    return Usage(
        category="train",
        started_at=1000.0 + number,
        wall_s=10.0,
        cpu_user_s=19.0,
        cpu_system_s=1.0,
        memory_before_bytes=50 * MB,
        peak_memory_bytes=(100 + 10 * number) * MB,
        **more,
    )


@pytest.fixture
def filled(history_file: Path) -> Path:
    rows = [train(number, features={"input_bytes": 5e6 + number}) for number in range(30)]
    History(history_file).add_many([*rows, Usage(category="other, name", started_at=5000.0, wall_s=1.0)])
    return history_file


SERIES = (
    "time_s,memory_bytes,cpu_s,cores,processes,threads,bytes_read,bytes_written,disk_bytes\n"
    "0.0,1000000,0.0,0.0,1,1,0,0,\n0.1,50000000,0.1,1.0,2,3,4096,0,\n0.2,20000000,0.15,0.5,1,1,8192,0,\n"
)


@pytest.mark.usefixtures("filled")
def test_ls_sorts_by_what_is_asked_and_shows_the_last_use() -> None:
    lines = envpack("ls", "--sort", "last").stdout.splitlines()
    assert lines[0].split()[-3:] == ["last", "call", "began"]
    assert lines[1].startswith("other, name")
    assert time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1029)) in lines[2]
    assert envpack("ls", "--sort", "calls").stdout.splitlines()[1].startswith("train")


def test_show_has_a_column_for_each_figure_that_was_measured(history_file: Path) -> None:
    quality = "exact; shared_out_bytes: sampled(0.1)"
    more = {"shared_out_bytes": 90 * MB, "gpu_memory_bytes": 2 * MB, "processes_max": 2, "processes_total": 7}
    call = train(0, **more, threads_max=9, disk_bytes=MB, quality=quality, peak_times={"peak_memory_bytes": 2.5})
    History(history_file).add_many([call, train(1)])
    shown = envpack("show", "train")
    for text in ("90.0 MB (sampled(0.1))", "2 MB", "2 of 7", "2.5 s", "20.0 s", "50.0 MB"):
        assert text in shown.stdout
    assert "2 calls, one row each" in shown.stderr
    first = json.loads(envpack("show", "train", "--json").stdout)["calls"][0]
    assert Usage.from_dict(first) == call
    assert "gpu" not in envpack("show", "train", "--last", "1").stdout


def test_show_says_when_rows_are_sums_of_many_calls(history_file: Path) -> None:
    History(history_file).add_many([train(0), train(1, calls=500)])
    shown = envpack("show", "train")
    assert "501 calls in 2 rows: a sample, and rows that are exact sums" in shown.stderr
    assert "500" in shown.stdout


@pytest.mark.usefixtures("filled")
def test_export_as_csv_has_every_field_of_every_call() -> None:
    rows = list(csv.DictReader(io.StringIO(envpack("export").stdout)))
    assert (len(rows), tuple(rows[0])) == (31, FIELDS)
    assert (rows[3]["peak_memory_bytes"], rows[3]["features"]) == (str(130 * MB), '{"input_bytes": 5000003.0}')
    assert rows[30]["category"] == "other, name"
    assert rows[30]["cpu_user_s"] == ""


def test_export_as_json_can_be_read_back(filled: Path) -> None:
    found = json.loads(envpack("export", "train", "--format", "json").stdout)
    assert [Usage.from_dict(call) for call in found["calls"]] == History(filled).calls("train")


READ_PARQUET = """
import json, sys
from pyarrow import parquet
print(json.dumps(parquet.read_table(sys.argv[1]).to_pylist()))
"""


def test_export_as_parquet_keeps_types(filled: Path, tmp_path: Path) -> None:
    done = envpack("export", "train", "-o", str(tmp_path / "t.parquet"))
    assert (done.returncode, done.stdout) == (0, "")
    assert "30 rows written" in done.stderr
    read = [sys.executable, "-c", READ_PARQUET, str(tmp_path / "t.parquet")]
    rows = json.loads(subprocess.run(read, capture_output=True, text=True, check=True).stdout)
    calls = History(filled).calls("train")
    assert [{**row, "features": dict(row["features"]), "peak_times": {}} for row in rows] == [
        {name: getattr(call, name) for name in FIELDS} for call in calls
    ]
    assert [file.name for file in tmp_path.iterdir() if "part" in file.name] == []


def test_empty_history_exports_a_head_and_nothing_else(history_file: Path) -> None:
    History(history_file).add_many([])
    assert envpack("export").stdout == ",".join(FIELDS) + "\n"
    assert json.loads(envpack("export", "--format", "json").stdout) == {"schema": 1, "calls": []}


def test_trace_has_the_calls_that_tell_what_they_needed_in_the_order_in_which_they_began(history_file: Path) -> None:
    rows = [train(3), train(0, features={"a_bytes": 1e6, "b_bytes": 2e6, "rows": 5.0}), train(1, exception="KeyError")]
    unknown = Usage(category="train", started_at=1001.0, wall_s=1.0)
    History(history_file).add_many([*rows, unknown, train(2, calls=9), train(4, limit_exceeded="memory")])
    lines = envpack("export", "train", "--trace").stdout.splitlines()
    assert lines == [",".join(TRACE_COLUMNS), "0,train,100,10,3000000,,2,0.0,0.0", "1,train,130,10,,,2,3.0,3.0"]


@pytest.mark.usefixtures("filled")
def test_exported_trace_is_what_replay_reads(tmp_path: Path) -> None:
    assert envpack("export", "--trace", "-o", str(tmp_path / "t.csv")).returncode == 0
    done = envpack("replay", str(tmp_path / "t.csv"), "--policy", "default", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trace"].endswith("t.csv")


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("export", "trian"), "did you mean 'train'?"),
        (("export", "--format", "parquet"), "parquet is not written to stdout (-o calls.parquet)"),
        (("export", "--trace", "--format", "json"), "a trace is a CSV file, json was asked for"),
        (("export", "-o", "no/such/folder/x.csv"), "cannot write no/such/folder/x.csv: No such file or directory"),
        (("prune",), "nothing says which calls may go (--older-than 30d"),
        (("prune", "--older-than", "soon"), "'soon' is not a time such as"),
        (("prune", "trian", "--keep", "1"), "did you mean 'train'?"),
        (("plot", "none.csv"), "cannot read none.csv: No such file or directory"),
        (("plot", "train", "--figure", "beauty"), "figure 'beauty': one of started_at"),
        (("plot", "train", "--figure", "gpu_memory_bytes"), "no call with a known gpu_memory_bytes"),
        (("plot", "train", "-o", "x.gif"), "a name that ends in .png, .svg, .pdf expected"),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_helps(
    words: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["history", *words])
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert text in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "library"),
    [
        (("export", "-o", "x.parquet"), "Parquet needs pyarrow, which is not installed (pip install pyarrow"),
        (
            ("plot", "train", "-o", "x.png"),
            "a picture needs matplotlib, which is not installed (pip install matplotlib",
        ),
    ],
)
@pytest.mark.usefixtures("filled")
def test_missing_library_is_named_and_no_file_begun(words: tuple[str, ...], library: str, tmp_path: Path) -> None:
    for name in ("pyarrow", "matplotlib"):
        (tmp_path / "shadow" / name).mkdir(parents=True)
        (tmp_path / "shadow" / name / "__init__.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join([str(tmp_path / "shadow"), *filter(None, sys.path)])
    done = envpack(*words[:-1], str(tmp_path / words[-1]), PYTHONPATH=path)
    assert done.returncode == 2
    assert library in done.stderr
    assert not list(tmp_path.glob("*x.p*"))


@pytest.mark.usefixtures("filled")
def test_prune_says_what_goes_and_ls_says_the_same_as_before() -> None:
    before = json.loads(envpack("ls", "--json").stdout)["categories"]
    assert "29" in envpack("prune", "train", "--keep", "1", "--dry-run").stdout
    assert json.loads(envpack("ls", "--json").stdout)["categories"] == before
    done = json.loads(envpack("prune", "--keep", "10", "--older-than", "1d", "--json").stdout)
    assert {each["category"]: each["removed"] for each in done["categories"]} == {"train": 20, "other, name": 0}
    after = json.loads(envpack("ls", "--json").stdout)["categories"]
    assert [{**each, "rows": 0} for each in after] == [{**each, "rows": 0} for each in before]
    assert "nothing to prune" in envpack("prune", "--keep", "10").stderr
    assert envpack("prune", "train", "--forget").returncode == 0
    assert "train" not in envpack("ls").stdout


def test_merge_adds_files_once_and_fails_where_one_is_damaged(filled: Path, tmp_path: Path) -> None:
    other = History(tmp_path / "node.sqlite")
    other.add_many(train(number) for number in range(3000))
    other.close()
    assert envpack("merge", str(other.path)).stdout.split()[-2:] == ["3000", "0"]
    assert envpack("merge", str(other.path)).stdout.split()[-2:] == ["0", "3000"]
    with other.path.open("r+b") as file:
        file.seek(40 * 4096)
        file.write(os.urandom(4096))
    done = envpack("merge", str(other.path), "--into", str(tmp_path / "new.sqlite"), "--json")
    assert done.returncode == 1
    assert "is damaged: up to" in done.stderr
    assert json.loads(done.stdout)["files"][0]["added"] > 2500


@pytest.mark.usefixtures("filled")
def test_plot_in_a_pipe_is_plain_text_of_the_asked_width() -> None:
    drawn = envpack("plot", "train", "--figure", "peak_memory_bytes", "--figure", "cores", PYTHONUTF8="1").stdout
    assert "peak_memory_bytes of 30 calls" in drawn
    assert "100 MB" in drawn
    assert "390 MB" in drawn
    assert "cores over time" in drawn
    assert "\x1b" not in drawn
    assert max(map(len, drawn.splitlines())) <= 80


@pytest.mark.usefixtures("filled")
def test_plot_does_without_braille_where_the_output_cannot_show_it() -> None:
    drawn = envpack("plot", "train", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert drawn.returncode == 0
    assert drawn.stdout.isascii()
    assert "#" in drawn.stdout


def test_plot_of_a_series_shows_each_figure_that_was_measured(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(SERIES)
    drawn = envpack("plot", str(tmp_path / "s.csv"), PYTHONUTF8="1").stdout
    heads = [line.split()[0] for line in drawn.splitlines() if line.endswith("over time")]
    assert heads == ["memory_bytes", "cores", "processes", "threads", "bytes_read"]
    assert "50.0 MB" in drawn
    assert "200 ms" in drawn
    chosen = envpack("plot", str(tmp_path / "s.csv"), "--figure", "cpu_s").stdout
    assert chosen.startswith("cpu_s over time")


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
@pytest.mark.parametrize("source", ["train", "s.csv"])
@pytest.mark.usefixtures("filled")
def test_pictures_are_of_their_kind_and_the_same_each_time(kind: str, source: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "s.csv").write_text(SERIES)
    name = str(tmp_path / source) if source.endswith("csv") else source
    files = [tmp_path / f"{number}.{kind}" for number in range(2)]
    for file in files:
        assert main(["history", "plot", name, "-o", str(file)]) == 0
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind]
    assert all(file.read_bytes().startswith(begins) for file in files)
    assert len({file.read_bytes() for file in files}) == 1


def test_series_may_be_lines_of_json_whose_last_is_cut_off() -> None:
    texts = ['{"time_s": 0.0, "memory_bytes": 5}\n', '{"time_s": 1.0, "memory_bytes": null}\n', '{"time_s": 2.0, "mem']
    (line,) = lines_of_series(texts, "s.jsonl")
    assert (line.times_s, line.values) == ((0.0,), (5.0,))


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        (["a,b\n", "1,2\n"], "column time_s expected, a, b met"),
        ([], "nothing met"),
        (['{"time_s": 1}\n', "{oops\n", "{}\n"], "line 2: an object expected, '{oops' met"),
    ],
)
def test_what_is_no_series_is_refused(texts: list[str], text: str) -> None:
    with pytest.raises(FormatError, match=text.replace("{", r"\{")):
        lines_of_series(texts, "s.csv")


def test_bins_hold_every_value_once_and_spread_by_factors_where_values_do() -> None:
    even, wide = bins_of([1.0, 2.0, 3.0, 12.0, 12.0]), bins_of([1.0, 10.0, 1e6])
    assert (sum(even.counts), even.counts[0], even.counts[-1], even.is_log) == (5, 1, 2, False)
    assert (sum(wide.counts), wide.is_log) == (3, True)
    assert bins_of([7.0, 7.0]).counts == (2,)
    assert bins_of([-5.0, 0.0, 1e9]).is_log is False


def test_bars_are_as_long_as_their_counts_and_small_ones_are_seen() -> None:
    drawn = bars("wall_s", bins_of([1.0] * 1000 + [2.0] * 500 + [3.0], 3), 60)
    lengths = [line.count("█") for line in drawn]
    assert lengths[0] == 2 * lengths[1] or abs(lengths[0] - 2 * lengths[1]) <= 1
    assert drawn[2].endswith("│▏ 1")
    assert all("#" in line for line in bars("wall_s", bins_of([1.0, 2.0, 3.0], 3), 60, is_ascii=True))


def test_line_is_highest_where_the_value_is() -> None:
    line = line_of_calls([train(number) for number in range(20)], "peak_memory_bytes")
    drawn = dots(line, 60, 6)
    assert len(drawn) == 7
    assert drawn[0].startswith("290 MB │")
    assert drawn[0].rstrip()[-1] != "│"
    assert drawn[5].split("│")[1].strip() == ""
    assert drawn[6].split() == ["0", "s", "19.0", "s"]


def test_one_point_and_equal_values_can_be_drawn() -> None:
    for calls in ([train(0)], [train(0), train(0)]):
        assert len(dots(line_of_calls(calls, "wall_s"), 40, 4)) == 5


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("bytes_read", 2e6, "2 MB"),
        ("wall_s", 90.0, "1 min 30 s"),
        ("cores", 1.2345, "1.23"),
        ("threads", 4e6, "4000000"),
    ],
)
def test_values_are_shown_in_the_unit_of_their_figure(name: str, value: float, text: str) -> None:
    assert format_value(name, value) == text
