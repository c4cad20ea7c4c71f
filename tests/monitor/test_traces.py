"""Traces, their replay, and the two commands: what is read, what is refused, and what is printed for a program."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from envpack_monitor import History
from envpack_monitor.commands.history import history
from envpack_monitor.errors import FormatError, MonitorError
from envpack_monitor.predict import (
    HINT,
    default_predictor,
    kill_mode,
    killed_after,
    killed_at_end,
    killed_on_crossing,
    policy_names,
    read_trace,
    replay,
)
from tests.monitor.traces import GB, NODE, call, read

HEAD = "seq,category,peak_mb,wall_s,input_bytes,preset_mb,cores,submit_s,start_s"

WFINSTANCES = Path(__file__).parent / "data" / "wfinstances.csv"
Invoke = Callable[..., Result]


@pytest.fixture
def invoke() -> Invoke:
    def run(*words: object) -> Result:
        result = CliRunner().invoke(history, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    rng = random.Random(4)
    rows = [
        f"{n},{'ab'[n % 2]},{rng.uniform(500, 3000):.1f},{rng.uniform(5, 90):.1f},{n}e6,4000,2,," for n in range(60)
    ]
    path = tmp_path / "trace.csv"
    path.write_text("\n".join([HEAD, *rows]) + "\n")
    return path


# Reading.


def test_row_becomes_a_call_with_features_and_a_hint() -> None:
    (row,) = read_trace([HEAD, "0,align,38374.5,1069.5,6.1e10,64424.5,12,0.2,7.9"], "x.csv").calls
    assert row.cores == 12
    assert (row.usage.category, row.usage.wall_s, row.usage.peak_memory_bytes) == ("align", 1069.5, 38_374_500_000)
    assert row.usage.features == {"input_bytes": 6.1e10, HINT: 64_424_500_000.0}


def test_empty_is_unknown_and_unknown_needs_are_left_out() -> None:
    found = read_trace([HEAD, "0,a,5,1,,,,,", "1,a,,1,,,,,", "2,a,5,,,,,,", "3,a,0,1,,,,,"], "x.csv")
    assert (len(found.calls), found.left_out) == (1, 3)
    assert (found.calls[0].usage.features, found.calls[0].cores) == ({}, 1.0)


def test_columns_may_stand_in_any_order_and_others_are_left_alone() -> None:
    (row,) = read_trace(["wall_s,host,category,peak_mb", "2,n1,a,7"], "x.csv").calls
    assert (row.usage.wall_s, row.usage.peak_memory_bytes) == (2.0, 7_000_000)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0,a,much,1,,,,,", "t.csv:2: column peak_mb: a number from 0 on expected, 'much' met"),
        ("0,a,5,-1,,,,,", "t.csv:2: column wall_s: a number from 0 on expected, '-1' met"),
        ("0,a,5,1,nan,,,,", "t.csv:2: column input_bytes: a number from 0 on expected, 'nan' met"),
        ("0,a,5,1,,inf,,,", "t.csv:2: column preset_mb: a number from 0 on expected, 'inf' met"),
        ("0,,5,1,,,,,", "t.csv:2: column category: a name expected, nothing met"),
        ("0,a,5", "t.csv:2: as many values as columns expected, fewer met"),
        ("0,a,5,1,,,,,,,", "t.csv:2: as many values as columns expected, more met"),
    ],
)
def test_bad_value_is_named_with_file_line_column_and_value(row: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        read_trace([HEAD, row], "t.csv")
    assert message in str(caught.value)


def test_all_problems_are_named_at_once_but_not_thousands() -> None:
    with pytest.raises(FormatError) as caught:
        read_trace([HEAD, *["0,a,x,y,,,,,"] * 50], "t.csv")
    assert "t.csv:2: column wall_s" in str(caught.value)
    assert str(caught.value).endswith("and 80 more")


def test_file_that_is_no_text_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(bytes(range(128, 256)) * 10)
    with pytest.raises(FormatError, match="not a line of CSV"):
        invoke("replay", tmp_path / "binary.csv")


def test_missing_column_is_named() -> None:
    with pytest.raises(FormatError, match="column missing: peak_mb, wall_s"):
        read_trace(["seq,category"], "t.csv")
    with pytest.raises(FormatError, match="column missing: category"):
        read_trace([], "t.csv")


def test_trace_knows_the_largest_call_and_can_forget_features() -> None:
    found = read_trace([HEAD, "0,a,5,1,7,9,,,", "1,a,6,1,7,,,,"], "t.csv")
    assert (found.largest_bytes, found.largest_peak_bytes) == (9_000_000, 6_000_000)
    assert [each.features for each in found.without_features().usages] == [{}, {}]
    assert found.without_features().largest_bytes == 6_000_000


def test_trace_of_the_tests_is_a_real_one() -> None:
    found = read(WFINSTANCES)
    assert len(found.calls) > 700
    assert len({each.category for each in found.usages}) > 200


# Replaying.


def test_kill_modes_are_end_curve_or_a_share() -> None:
    assert kill_mode("end") is killed_at_end
    assert kill_mode("curve") is killed_on_crossing
    assert kill_mode("0.25") == killed_after(0.25)
    assert kill_mode("0.25")(1.0, 2.0) == 0.25
    for text in ("never", "1.5", "-1", "nan"):
        with pytest.raises(FormatError, match="end, curve or a fraction"):
            kill_mode(text)


def test_earlier_kills_cost_less() -> None:
    calls = [call((1 + n % 5) * GB) for n in range(60)]
    awe = [replay(default_predictor(NODE), calls, kill_mode(text)).awe for text in ("end", "curve", "0.1", "0")]
    assert awe == sorted(awe)


def test_replay_measures_what_the_policy_itself_costs() -> None:
    ticks = iter(range(1000))
    result = replay(default_predictor(NODE), [call(GB)] * 10, clock=lambda: float(next(ticks)))
    assert (result.predict_s, result.observe_s) == (1.0, 1.0)
    assert replay(default_predictor(NODE), [call(GB)] * 10).predict_s == 0.0


# The commands.


def test_replay_prints_the_same_object_for_every_trace(invoke: Invoke, trace: Path) -> None:
    printed = json.loads(invoke("replay", trace, "--policy", "default", "--policy", "max-seen", "--json").stdout)
    assert list(printed) == ["trace", "policies"]
    assert printed["trace"] == str(trace)
    assert {each["policy"] for each in printed["policies"]} == {"default", "max-seen"}
    for each in printed["policies"]:
        assert list(each) == ["policy", "awe", "wastage_gbh", "failures", "predict_us", "observe_us"]
        assert 0 < each["awe"] <= 1
        assert each["wastage_gbh"] > 0
        assert isinstance(each["failures"], int)
        assert min(each["predict_us"], each["observe_us"]) > 0
    assert printed["policies"][0]["awe"] >= printed["policies"][1]["awe"]


def test_replay_tries_all_policies_by_default_and_sorts_them(invoke: Invoke, trace: Path) -> None:
    result = invoke("replay", trace)
    rows = [line.split() for line in result.stdout.splitlines()[1:]]
    assert {row[0] for row in rows} <= set(policy_names())
    assert {"default", "greedy-bucketing", "whole-node", "presets"} <= {row[0] for row in rows}
    assert [float(row[1]) for row in rows] == sorted((float(row[1]) for row in rows), reverse=True)


def test_policy_that_cannot_run_is_left_out_with_a_word(
    invoke: Invoke, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.tree", None)
    result = invoke("replay", trace)
    assert "left out: the policy regression-tree needs scikit-learn" in result.stderr
    with pytest.raises(MonitorError, match="scikit-learn"):
        invoke("replay", trace, "--policy", "regression-tree")


def test_without_features_presets_are_not_known(invoke: Invoke, trace: Path) -> None:
    def awe(*words: str) -> float:
        printed = json.loads(invoke("replay", trace, "--policy", "presets", "--json", *words).stdout)
        return float(printed["policies"][0]["awe"])

    assert awe() > awe("--no-features")
    assert awe("--no-features") == awe("--no-features", "--kill", "curve")


def test_node_is_as_large_as_the_largest_call(invoke: Invoke, trace: Path) -> None:
    words = ("replay", trace, "--policy", "whole-node", "--json")
    small = json.loads(invoke(*words, "--node-memory", "1MB").stdout)["policies"][0]
    assert small["failures"] == 0
    assert "the node gets 4 GB" in invoke("replay", trace, "--policy", "whole-node", "--node-memory", "1MB").stderr
    large = json.loads(invoke(*words).stdout)["policies"][0]
    assert large["awe"] == pytest.approx(small["awe"] * 4 / 128, rel=0.01)


def test_category_of_the_history_is_replayed(invoke: Invoke, history_file: Path) -> None:
    calls = [call((1 + n % 3) * GB, category="sort", rows=float(n)) for n in range(30)]
    History(history_file).add_many([*calls, call(90 * GB, category="other")])
    printed = json.loads(invoke("replay", "sort", "--policy", "max-seen", "--json").stdout)
    assert printed["trace"] == "sort"
    assert printed["policies"][0]["failures"] == replay_failures(calls)
    with pytest.raises(MonitorError, match="did you mean 'sort'"):
        invoke("replay", "srot")


def replay_failures(calls: list[object]) -> int:
    from envpack_monitor.predict import MaxSeen

    return replay(MaxSeen(NODE), calls).failures  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("replay", "no/such/file"), "cannot read no/such/file"),
        (("replay", "missing.csv"), "cannot read missing.csv"),
        (("replay", WFINSTANCES, "--kill", "late"), "end, curve or a fraction"),
        (("replay", WFINSTANCES, "--policy", "greedy"), "did you mean greedy-bucketing"),
        (("replay", WFINSTANCES, "--node-memory", "much"), "memory of the node: 'much' is not a size"),
        (("pack", WFINSTANCES, "--memory", "much"), "memory of the node"),
        (("pack", WFINSTANCES, "--policy", "magic"), "no policy 'magic'"),
    ],
)
def test_wrong_words_are_named(invoke: Invoke, words: tuple[object, ...], message: str) -> None:
    with pytest.raises(MonitorError) as caught:
        invoke(*words)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_trace_without_any_known_call_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text(f"{HEAD}\n0,a,,1,,,,,\n")
    with pytest.raises(FormatError, match="no call with a peak and a wall time"):
        invoke("replay", tmp_path / "empty.csv")


def test_pack_prints_makespan_and_oracle(invoke: Invoke, trace: Path) -> None:
    printed = json.loads(invoke("pack", trace, "--cores", 8, "--memory", "16GB", "--json").stdout)
    assert list(printed) == ["makespan_s", "oracle_s"]
    assert 0 < printed["oracle_s"] <= 1.01 * printed["makespan_s"] < 1.4 * printed["oracle_s"]
    table = invoke("pack", trace, "--cores", 8, "--memory", "16GB", "--ask", "submit", "--kill", "end").stdout
    assert "oracle" in table
    assert "bound" in table


def test_pack_with_presets_takes_longer_where_memory_is_short(invoke: Invoke, trace: Path) -> None:
    words = ("pack", trace, "--cores", 32, "--memory", "12GB", "--json")
    ours, presets = (json.loads(invoke(*words, "--policy", name).stdout) for name in ("default", "presets"))
    assert ours["makespan_s"] < presets["makespan_s"]
