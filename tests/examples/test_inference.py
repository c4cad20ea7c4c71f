"""The example runs from beginning to end, with few calls, and says what it promises to say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "examples" / "inference" / "run.py"


@pytest.fixture(scope="module")
def output() -> str:
    command = [sys.executable, str(PROGRAM), "--calls", "4", "--cold-calls", "2"]
    environ = {**os.environ, "COLUMNS": "118"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _part(output: str, number: int) -> str:
    return output.partition(f"\n{number}. ")[2].partition(f"\n{number + 1}. ")[0]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_each_function_needs_something_else_and_says_where(output: str) -> None:
    needed = _part(output, 1)
    classify, spectrum, report = re.split(r"^(?:classify|spectrum|report)\n", needed, flags=re.M)[1:]
    assert re.search(r"scikit-learn .*functions\.py:\d+", classify)
    assert "scikit-learn" not in spectrum
    assert re.search(r"scipy .*functions\.py:\d+", spectrum)
    assert "spelling.py" in report
    assert "numpy" not in report


@pytest.mark.slow
def test_layers_are_shared_and_packed_once(output: str) -> None:
    packed = _part(output, 2)
    assert re.search(r"^numpy .*classify, spectrum *$", packed, re.M)
    assert "Packed again: 0 layers built" in packed


@pytest.mark.slow
def test_three_levels_pay_fewer_set_ups(output: str) -> None:
    rows = re.findall(r"^L\d .*?  +(\d+)  +([\d.]+)  +(\d+)  +[\d.]+%", _part(output, 3), re.M)
    calls, _, set_ups = zip(*rows, strict=True)
    assert calls == ("2", "4", "4")
    assert set_ups[:2] == ("2", "4")
    assert set_ups[2] in ("1", "2")  # four calls may be done before the second worker is ready


@pytest.mark.slow
def test_usage_stands_beside_prediction_and_guess(output: str) -> None:
    rows = re.findall(r"^(classify|report|spectrum) +(\d+) .*MB", _part(output, 4), re.M)
    assert sorted(rows) == [("classify", "4"), ("report", "4"), ("spectrum", "4")]
