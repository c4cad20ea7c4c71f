"""The cases of `benchmarks/discovery`: each has a truth, and what finds truths works in real environments."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def bench(repository, monkeypatch):
    """Import modules of the benchmark by their bare names, as its programs do, and forget them again."""
    folder = repository / "benchmarks" / "discovery"
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(folder))
    yield __import__
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


def test_every_case_has_a_peculiarity_of_its_own_and_a_truth(bench):
    case = bench("case")
    cases = list(case.read_cases())
    truths = [case.read_truth(each) for each in cases]

    assert len(cases) >= 60
    assert len({each.peculiarity for each in cases}) == len(cases)
    assert [each.name for each in cases if not each.target.exists()] == []
    assert [each.name for each, truth in zip(cases, truths, strict=True) if truth is None] == []


def test_what_a_truth_needs_and_uses_was_installed_when_it_was_found(bench, repository):
    case = bench("case")
    installed = set(json.loads((repository / "benchmarks/discovery/environment.json").read_text())["distributions"])
    truths = {each.name: case.read_truth(each) for each in case.read_cases()}

    assert {name: missing for name, t in truths.items() if (missing := (t.needed | t.used) - installed)} == {}
    assert {name: both for name, t in truths.items() if (both := t.needed & t.optional)} == {}


def test_an_environment_of_links_holds_the_chosen_distributions_and_nothing_of_others(bench):
    environment = bench("environment").Environment(Path(sys.executable))
    program = """
import importlib.metadata, importlib.util
print([name for name in ("packaging", "click", "pytest") if importlib.util.find_spec(name)])
print(sorted(dist.name.lower() for dist in importlib.metadata.distributions()))
"""
    with environment.only(["packaging"]) as links:
        outcome = subprocess.run([links.python, "-c", program], env={}, capture_output=True, text=True, timeout=60)

    assert outcome.stdout.splitlines() == ["['packaging']", "['packaging']"], outcome.stderr


@pytest.mark.parametrize("wanted", [{"a"}, {"h"}, {"b", "g"}, {"a", "d", "h"}, set("abcdefgh")])
def test_the_smallest_set_that_works_is_found(bench, wanted):
    truth = bench("truth")
    found = truth.explain("abcdefgh", {"base"}, set, lambda names: wanted <= set(names))

    assert set(found) == wanted


def test_of_two_candidates_that_would_do_the_later_is_taken(bench):
    truth = bench("truth")
    found = truth.explain("abcd", set(), set, lambda names: bool({"b", "d"} & set(names)))

    assert found == ["d"]


def test_what_works_only_without_another_optional_one_is_optional_too(bench):
    truth = bench("truth")

    def works(names):  # try: import a; except ImportError: pass; else: import b
        return "a" not in names or "b" in names

    assert truth.drop_optional(["a", "b"], ["h"], set, works) == ["h"]
