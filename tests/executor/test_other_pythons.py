"""Contexts whose Python is of another minor version than the client's: values pass, code is refused before it runs."""

from __future__ import annotations

import functools
import operator
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from envpack_executor import ContextExecutor, task
from envpack_executor.errors import ContextSetupError, PythonMismatchError, ResultError
from tests.executor.helpers import GENEROUS_S

OURS = f"{sys.version_info[0]}.{sys.version_info[1]}"
MINORS = ("3.11", "3.12", "3.13")


@functools.cache
def another_python() -> tuple[str, str] | None:
    """Return an interpreter of another supported minor version, and which that is."""
    for minor in MINORS:
        named = shutil.which(f"python{minor}")
        found = sorted(Path.home().glob(f".pyenv/versions/{minor}.*/bin/python"))
        for python in [*([named] if named else []), *map(str, found)]:
            if minor == OURS:
                continue
            told = subprocess.run(
                [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True
            )
            if told.stdout.strip() == minor:
                return python, minor
    return None


@pytest.fixture
def elsewhere() -> Iterator[tuple[ContextExecutor, str]]:
    """An executor whose context processes run another Python, and that one's minor version."""
    found = another_python()
    if found is None:
        pytest.skip(f"no Python of {', '.join(MINORS)} here besides {OURS}")
    with ContextExecutor(max_workers=1, environment=found[0], history=None) as executor:
        yield executor, found[1]


def test_what_goes_by_name_runs_in_the_other_python(elsewhere: tuple[ContextExecutor, str]) -> None:
    executor, minor = elsewhere
    assert executor.submit(platform.python_version).result(GENEROUS_S).startswith(f"{minor}.")
    assert executor.submit(operator.mul, [6], 7).result(GENEROUS_S) == [6] * 7
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 1, 0).result(GENEROUS_S)


@pytest.mark.parametrize("by", ["function", "argument"])
def test_code_is_refused_before_it_runs_and_both_versions_are_named(
    elsewhere: tuple[ContextExecutor, str], tmp_path: Path, by: str
) -> None:
    executor, minor = elsewhere
    trace = tmp_path / "it-ran"
    code = lambda: trace.touch()  # noqa: E731  # it must travel by value
    future = executor.submit(code) if by == "function" else executor.submit(operator.call, code)
    error = future.exception(GENEROUS_S)
    assert isinstance(error, PythonMismatchError)
    assert f"Python {OURS} of the client and Python {minor} of its context" in str(error)
    assert "installed on both sides" in str(error)
    assert not trace.exists()


def test_code_in_a_result_is_refused_by_the_other_python(elsewhere: tuple[ContextExecutor, str]) -> None:
    executor, minor = elsewhere
    error = executor.submit(eval, "lambda: 1").exception(GENEROUS_S)
    assert isinstance(error, ResultError)
    assert f"Python {minor} of its context" in str(error)


def test_a_set_up_function_by_value_fails_the_context_with_the_same_words(
    elsewhere: tuple[ContextExecutor, str],
) -> None:
    executor, minor = elsewhere
    constant = task(context=(lambda: {"iterable": [1]},))(sum)
    error = executor.submit(constant).exception(GENEROUS_S)
    assert isinstance(error, ContextSetupError)
    assert isinstance(error.__cause__, PythonMismatchError)
    assert f"Python {minor}" in str(error)
