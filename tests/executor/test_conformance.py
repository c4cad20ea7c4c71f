"""The short form of `make conformance`: those of CPython's tests that do not wait for long."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.executor import conformance
from tests.executor.helpers import ROOT, environ


def test_cpythons_own_tests_of_executors_pass() -> None:
    if conformance.found_folder() is None:
        pytest.skip("this Python has no tests of concurrent.futures, and CPYTHON_TESTS names none")
    command = [sys.executable, "-m", "tests.executor.conformance", "--quick"]
    run = subprocess.run(command, cwd=ROOT, env=environ(), capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    ran = re.search(r"^Ran (\d+) tests", run.stderr, re.MULTILINE)
    assert ran is not None
    assert int(ran[1]) > 10
