"""The lists of the checks in packs have no stale entry, and the reader of their output finds what was missed."""

from __future__ import annotations

import ast

import pytest
from packaging.utils import canonicalize_name

from envpack import analyze
from tests.packs.asked import ARGUMENTS, ASKED, BESIDE, CALLS, RUN_AS_PART
from tests.packs.conftest import EXAMPLES, TEST_FILES
from tests.packs.misses import misses
from tests.packs.runs import ROOT


def test_every_exception_is_for_a_test_file_that_is_there_and_says_why() -> None:
    assert set(ASKED) <= {*TEST_FILES, *(file.rpartition("/")[0] for file in TEST_FILES)}
    assert [file for file, asked in ASKED.items() if len(asked.why) < 20] == []


@pytest.mark.parametrize("file", [file for file in TEST_FILES if file in ASKED])
def test_no_exception_is_for_what_the_analyser_finds_by_itself(file: str) -> None:
    asked = ASKED[file]
    found = analyze(ROOT / file)
    assert {str(canonicalize_name(name)) for name in asked.include} & {
        item.name for item in found.distributions
    } == set()
    assert set(asked.exclude) <= {item.module for item in found.unresolved}


@pytest.mark.parametrize("file", EXAMPLES)
def test_every_function_of_an_example_is_called_alone_or_as_part_of_it(file: str) -> None:
    tree = ast.parse((ROOT / file).read_bytes())
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert sorted([*CALLS.get(file, ()), *RUN_AS_PART.get(file, ())]) == sorted(defined)


def test_no_list_names_an_example_that_is_gone() -> None:
    assert {*ARGUMENTS, *BESIDE, *CALLS, *RUN_AS_PART} <= set(EXAMPLES)


OUTPUTS = {
    "native traceback": (
        (
            'Traceback (most recent call last):\n  File "/run/tests/test_a.py", line 7, in test\n    import numpy\n'
            "ModuleNotFoundError: No module named 'numpy'\n"
        ),
        "tests/test_a.py:7: numpy",
    ),
    "raised by a library": (
        (
            'File "/run/tests/test_a.py", line 7, in test\nFile "/store/site-packages/pandas/x.py", line 9, in load\n'
            "ModuleNotFoundError: No module named 'lxml'\n"
        ),
        "tests/test_a.py:7: lxml",
    ),
    "conftest": (
        "tests/conftest.py:13: in <module>\n    import yaml\nE   ModuleNotFoundError: No module named 'yaml'\n",
        "tests/conftest.py:13: yaml",
    ),
    "printed by a child process": (
        (
            'assert done.returncode == 0, \'Traceback:\\n  File "/run/examples/run.py", line 2, in <module>\\n'
            "ModuleNotFoundError: No module named \\'rich\\''"
        ),
        "examples/run.py:2: rich",
    ),
    "metadata": (
        (
            'File "/run/tests/test_a.py", line 3, in test\n'
            "importlib.metadata.PackageNotFoundError: No package metadata was found for scipy\n"
        ),
        "tests/test_a.py:3: scipy",
    ),
    "module to run": (
        'File "/run/tests/test_a.py", line 5, in test\nAssertionError: /store/bin/python: No module named build\n',
        "tests/test_a.py:5: build",
    ),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_what_a_run_missed_is_told_with_file_line_and_module(case: str) -> None:
    output, expected = OUTPUTS[case]
    assert misses(output, "/run") == [expected]


def test_a_run_that_failed_otherwise_missed_nothing() -> None:
    assert misses('File "/run/tests/test_a.py", line 5, in test\nAssertionError: 1 == 2\n', "/run") == []
