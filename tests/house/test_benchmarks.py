"""Each benchmark begins with its claim, and starts: what it imports of the project is still there."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SHARED = {"rounds.py", "shapes.py", "functions.py", "peers.py", "network.py"}
"""Files of the folders of claims that hold none."""

ROOMS = (".", "packing", "prediction", "monitoring", "executor", "plugs")
CLAIMS = sorted(file for room in ROOMS for file in (FOLDER / room).glob("*.py") if file.name not in SHARED)


@pytest.mark.parametrize("file", CLAIMS, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_each_benchmark_has_a_claim_and_starts(file):
    outcome = subprocess.run([sys.executable, file, "--help"], capture_output=True, text=True, timeout=60, check=False)

    assert outcome.returncode == 0, outcome.stderr
    assert file.read_text().startswith('"""Claim: ')


def test_there_are_benchmarks():
    assert len(CLAIMS) > 10
