"""Parsl's own tests, as they come in its wheel, with Parsl's executor and with ours in turn.

    python -m tests.plugs.parsl_suite [--provider local|slurm] [--only envpack] [--rounds 3] [-k EXPRESSION]

They need an older pytest than ours, so they have an environment of their own (`make parsl-suite`). A test that loses a
task would wait for ever: each has a deadline. Tests that need another network or file system are left out, as those
are that bring a configuration of their own: 145 remain. With `--provider slurm` the blocks are jobs of two nodes on a
Slurm that is started for this.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.executor.helpers import environ
from tests.plugs.slurm import Slurm, why_not

CONFIGURATIONS = Path(__file__).with_name("parsl_configurations")
EXECUTORS = ("htex", "envpack")
PROVIDERS = ("local", "slurm")
LEFT_OUT = "not cleannet and not unix_filesystem_permissions_required"
PASSED, SKIPPED = 143, 2
TEST_S = 120
RUN_S = 1200


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run of the tests went.

    Args:
        passed: tests.
        skipped: tests.
        failed: the names of tests that failed, or could not be tried.
        wall_s: from the start of the process to its end.
        printed: what it has printed.
    """

    passed: int
    skipped: int
    failed: tuple[str, ...]
    wall_s: float
    printed: str

    def __str__(self) -> str:
        """Return the counts."""
        return f"{self.passed} passed, {self.skipped} skipped, {len(self.failed)} failed"


def only(expression: str) -> tuple[str, ...]:
    """Return the words by which pytest runs some of the tests."""
    return ("-k", f"({LEFT_OUT}) and ({expression})")


def interpreter() -> Path:
    """Return the Python of the environment that `make parsl-suite` makes, whether it is there or not."""
    return Path(f"{sys.prefix}-parsl") / "bin" / "python"


def run(
    executor: str,
    provider: str,
    folder: Path,
    variables: Mapping[str, str],
    words: tuple[str, ...] = (),
    python: Path | None = None,
    parts: tuple[str, ...] = ("",),
) -> Outcome:
    """Run the tests once.

    Args:
        executor: one of `EXECUTORS`.
        provider: one of `PROVIDERS`.
        folder: for what they write.
        variables: to set besides those of this process.
        words: for pytest.
        python: of the environment to run them in; `interpreter()` by default.
        parts: folders of them; all by default.

    Raises:
        subprocess.TimeoutExpired: they did not end.
    """
    python = python or interpreter()
    folder.mkdir()
    report = folder / "report.xml"
    command = [python, "-m", "pytest", *(_tests(python) / part for part in parts), "-q", "-p", "no:cacheprovider"]
    nothing_of_ours = ["-c", os.devnull, "--rootdir", folder]
    options = ["--config", CONFIGURATIONS / f"{executor}_{provider}.py", "--junit-xml", report]
    chosen = ["-k", LEFT_OUT, "--random-order-seed", "1", "--timeout", str(TEST_S), *words]
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"  # Parsl's workers are programs that are found there
    started_s = time.monotonic()
    done = subprocess.run(
        [*command, *nothing_of_ours, *options, *chosen],
        cwd=folder,
        env={**environ(), "PATH": path, **_own(folder), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    wall_s = time.monotonic() - started_s
    if not report.exists():
        raise AssertionError(f"no report, exit status {done.returncode}: {done.stdout[-3000:]}")
    return _outcome(ElementTree.parse(report).getroot(), wall_s, done.stdout)


def _own(folder: Path) -> dict[str, str]:
    """Return variables that keep what a run leaves with the run."""
    return {"ENVPACK_STORE": str(folder / "store"), "ENVPACK_HISTORY": str(folder / "history.sqlite")}


def _outcome(root: ElementTree.Element, wall_s: float, printed: str) -> Outcome:
    cases = list(root.iter("testcase"))
    failed = tuple(
        sorted(
            f"{case.get('classname')}.{case.get('name')}"
            for case in cases
            if case.find("failure") is not None or case.find("error") is not None
        )
    )
    skipped = sum(case.find("skipped") is not None for case in cases)
    return Outcome(len(cases) - skipped - len(set(failed)), skipped, failed, wall_s, printed)


def _tests(python: Path) -> Path:
    (tests,) = python.parent.parent.glob("lib/python3*/site-packages/parsl/tests")
    return tests


@contextlib.contextmanager
def _cluster(provider: str) -> Iterator[Mapping[str, str]]:
    """Let a Slurm run where one is asked for; yield the variables that name it."""
    if provider == "local":
        yield {}
        return
    if (reason := why_not()) is not None:
        raise SystemExit(reason)
    with Slurm() as slurm:
        yield slurm.environ


def main() -> int:
    """Run what the command line asks for and print a table; 1 if a test failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--provider", choices=PROVIDERS, default="local")
    parser.add_argument("--only", choices=EXECUTORS, action="append", help="leave the other executor out")
    parser.add_argument("--rounds", type=int, default=1, help="how often, the executors in turn")
    parser.add_argument("-k", dest="expression", help="some of the tests, as pytest understands it")
    asked = parser.parse_args()
    words = () if asked.expression is None else only(asked.expression)
    outcomes: dict[str, list[Outcome]] = {executor: [] for executor in asked.only or EXECUTORS}
    with _cluster(asked.provider) as variables, tempfile.TemporaryDirectory(prefix="parsl-suite-") as folder:
        for number in range(asked.rounds):
            for executor in outcomes:
                outcome = run(executor, asked.provider, Path(folder) / f"{executor}-{number}", variables, words)
                outcomes[executor].append(outcome)
                print(f"{executor:8} {asked.provider:6} {outcome} in {outcome.wall_s:.1f} s", flush=True)
    return _report(outcomes, is_whole=asked.expression is None)


def _report(outcomes: Mapping[str, list[Outcome]], is_whole: bool) -> int:
    print()
    for executor, runs in outcomes.items():
        seconds = sorted(each.wall_s for each in runs)
        print(f"{executor:8} median {statistics.median(seconds):.1f} s ({seconds[0]:.1f} to {seconds[-1]:.1f})")
    every = [each for runs in outcomes.values() for each in runs]
    for each in every:
        if each.failed:
            print("\n".join(each.failed), each.printed[-6000:], sep="\n")
    is_short = is_whole and any((each.passed, each.skipped) != (PASSED, SKIPPED) for each in every)
    return int(is_short or any(each.failed for each in every))


if __name__ == "__main__":
    sys.exit(main())
