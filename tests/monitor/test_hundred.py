"""The short form of a benchmark that shows: what exceeds a limit is reported and ended, and nothing survives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HUNDRED = Path(__file__).parents[2] / "benchmarks" / "monitoring" / "hundred.py"


@pytest.mark.timeout(120)
def test_one_of_each_kind_of_function_is_reported_and_ended_without_a_survivor() -> None:
    done = subprocess.run([sys.executable, HUNDRED, "--quick"], capture_output=True, text=True, check=False)
    assert "reported 13 of 13, ended 11 of 11, survivors: 0" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
