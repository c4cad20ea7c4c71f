"""The short form of `make parsl-suite`: some of Parsl's own tests with our executor, on Slurm where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugs import parsl_suite
from tests.plugs.slurm import Slurm, why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not parsl_suite.interpreter().exists(), reason="needs an environment: make parsl-suite"),
]

# What engines differ in: arguments and results of all kinds, failures, deadlines, and what apps wait for.
PARTS = ("test_python_apps", "test_error_handling", "test_bash_apps")
CHOSEN = (
    "test_exception or test_fail or test_mapred or test_garbage_collect or test_type5 or test_resource_spec"
    " or test_apptimeout or test_import_fail or test_timeout"
)


def passes(provider: str, folder: Path) -> bool:
    outcome = parsl_suite.run("envpack", provider, folder, {}, parsl_suite.only(CHOSEN), parts=PARTS)
    assert not outcome.failed, outcome.printed
    return outcome.passed >= 20


def test_chosen_tests_of_parsl_pass_in_a_job_of_two_nodes(slurm: Slurm, tmp_path: Path) -> None:
    assert passes("slurm", tmp_path / "suite")


@pytest.mark.skipif(why_not() is None, reason="they run on Slurm")
def test_chosen_tests_of_parsl_pass_on_this_machine(tmp_path: Path) -> None:
    assert passes("local", tmp_path / "suite")
