"""`envpack monitor`, `envpack history` and `envpack predict` as people and programs meet them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from envpack_monitor import History, Usage


def envpack(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "envpack", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def filled(history_file: Path) -> Path:
    rows = [
        Usage(category="train", wall_s=10.0, cpu_user_s=9.0, cpu_system_s=1.0, peak_memory_bytes=10**9 + n * 10**6)
        for n in range(30)
    ]
    History(history_file).add_many(rows)
    return history_file


def test_output_of_the_command_stays_clean_and_the_summary_goes_to_stderr(tmp_path: Path) -> None:
    result = envpack("monitor", "-o", str(tmp_path / "u.json"), "--category", "greet", "--", "echo", "hello")
    assert (result.returncode, result.stdout) == (0, "hello\n")
    assert "'greet' is done" in result.stderr
    assert "peak memory" in result.stderr
    usage = Usage.from_dict(json.loads((tmp_path / "u.json").read_text())["usage"])
    assert (usage.category, usage.exit_status) == ("greet", 0)
    assert len(History().calls("greet")) == 1


def test_json_is_the_last_line_on_stdout() -> None:
    result = envpack("monitor", "--json", "--", "echo", "hello")
    hello, line = result.stdout.splitlines()
    assert hello == "hello"
    assert json.loads(line)["exit_code"] == 0
    assert result.stderr == ""


def test_options_after_the_command_belong_to_the_command() -> None:
    assert envpack("monitor", "ls", "--json").returncode == 1
    assert envpack("monitor", "echo", "-o", "x").stdout == "-o x\n"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--", "sh", "-c", "exit 4"), 1, "'sh' failed: exit status 4"),
        (("--", "sh", "-c", "kill -9 $$"), 1, "'sh' was killed: SIGKILL"),
        (("--", "nonesuch"), 2, "envpack: error: command 'nonesuch': No such file"),
        (("--limits", "wall=0.2s", "--", "sleep", "60"), 3, "envpack: error: wall limit exceeded: 0.2 s allowed"),
        (("--limits", "memory=2XB", "--", "true"), 2, "'2XB' is not a size such as 2GB"),
        (("--limits", "disk=1MB", "--", "true"), 2, "disk needs a folder"),
    ],
)
def test_every_end_has_its_exit_code_and_is_said_in_one_line(words: tuple[str, ...], code: int, text: str) -> None:
    result = envpack("monitor", *words)
    assert result.returncode == code
    assert text in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.usefixtures("filled")
def test_history_lists_and_shows() -> None:
    listed = envpack("history", "ls")
    assert listed.returncode == 0
    words = " ".join(listed.stdout.splitlines()[1].split())
    assert words.startswith("train 30 30 5 min 0 s 5 min 0 s 1.03 GB ")
    assert json.loads(envpack("history", "ls", "--json").stdout)["categories"][0]["calls"] == 30
    shown = envpack("history", "show", "train", "--last", "3")
    assert len(shown.stdout.splitlines()) == 4
    calls = json.loads(envpack("history", "show", "train", "--json").stdout)["calls"]
    assert [Usage.from_dict(call).peak_memory_bytes for call in calls][-1] == 1_029_000_000


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("command", [("history", "show"), ("predict",)])
def test_unknown_category_is_wrong_usage_with_a_suggestion(command: tuple[str, ...]) -> None:
    result = envpack(*command, "trian")
    assert result.returncode == 2
    assert "did you mean 'train'?" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("filled")
def test_predict_prints_the_allocation_beside_the_guess_and_what_each_wasted() -> None:
    table = envpack("predict", "train", "--fixed", "memory=4GB", "--explain")
    assert table.returncode == 0
    assert "4 GB" in table.stdout
    assert "rule: " in table.stdout
    found = json.loads(envpack("predict", "train", "--fixed", "memory=4GB", "--json").stdout)
    assert 1.02e9 < found["allocation"]["memory_bytes"] < 1.3e9
    assert found["replay"]["awe"] > 0.6 > 0.3 > found["fixed_replay"]["awe"]
    assert found["calls"] == 30


def test_history_that_is_switched_off_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVPACK_HISTORY", "")
    result = envpack("history", "ls")
    assert result.returncode == 1
    assert "no history is kept: ENVPACK_HISTORY is empty" in result.stderr
