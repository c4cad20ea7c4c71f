"""Every test of this project runs in its pack: the analyser lists no less than what a run then needs.

Collected only where it is named (`make test-packs`), as it runs all other tests once more.

What is exact, and what is a sample:
- each file, whole, runs with nothing but what is listed for it and for its `conftest.py` files: exact (a sample of its
  functions with `--most N`);
- each test function, with its fixtures, lists no more than its file, and what it is the first of its file to import:
  exact;
- a few functions of each file (`--alone N`) run alone in a process, with all calls noted: a sample of functions, and
  of these only what runs in the test's own process, not in its children.
"""

from __future__ import annotations

import hashlib

import pytest

from envpack import analyze
from tests.packs.conftest import RUN_FILES
from tests.packs.runs import ROOT, Run, Runs, options, owners

pytestmark = [pytest.mark.timeout(900), pytest.mark.parametrize("file", RUN_FILES)]


def test_file_passes_in_its_pack(file: str, runs: Runs) -> None:
    run = runs.whole(file)
    assert run.misses == [], run.output
    assert run.is_good, run.output
    assert run.report["strangers"] == []
    assert [skip for skip in run.report["skips"] if "No module named" in skip or "could not import" in skip] == []


def test_function_lists_what_it_is_first_to_import(file: str, runs: Runs, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--most"):
        pytest.skip("another one is first to import something where only some run")
    run = runs.whole(file)
    assert run.report["tests"]
    lists = function_lists(run)
    whole = {item.name for needs in run.needs.values() for item in needs.distributions}
    assert {test: listed - whole for test, listed in lists.items() if not listed <= whole} == {}
    assert unlisted(run, lists) == {}


def test_function_alone_uses_nothing_else_than_it_lists(file: str, runs: Runs, request: pytest.FixtureRequest) -> None:
    count = request.config.getoption("--alone")
    if not count:
        pytest.skip("no function is asked for by itself")
    whole = runs.whole(file)
    passed = [test for test, outcome in whole.report["outcomes"].items() if outcome == "passed"]
    chosen = sorted(passed, key=lambda test: hashlib.sha256(test.encode()).digest())
    lists = function_lists(whole)
    for future in runs.alone(file, chosen[:count]):
        run = future.result()
        assert run.is_good, run.output
        assert unlisted(run, lists) == {}


def function_lists(run: Run) -> dict[str, set[str]]:
    """Return for each test the distributions that are listed for its function, its fixtures and the test runner."""
    asked: dict[str, set[str]] = {}
    for test in run.report["tests"].values():
        for file, name in test["functions"]:
            asked.setdefault(file, set()).add(name)
    answers = {
        (file, answer.name): set(answer.distributions)
        for file, names in asked.items()
        for answer in analyze(ROOT / file, functions=sorted(names), **options(run.file)).functions
    }
    return {
        name: set().union(*(answers[file, function] for file, function in test["functions"]))
        for name, test in run.report["tests"].items()
    }


def unlisted(run: Run, lists: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return for each test the distributions that it used and that are not listed for it."""
    found = {name: used(test["used"]) - lists[name] for name, test in run.report["tests"].items()}
    return {name: more for name, more in found.items() if more}


def used(files: list[str]) -> set[str]:
    """Return the distributions that files of a packed environment belong to."""
    below = [f"lib/{file.partition('/lib/')[2]}" for file in files if "/site-packages/" in file]
    return {owners()[path] for path in below if path in owners()}
