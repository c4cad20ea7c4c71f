"""The answer as a value: what crosses a boundary comes back the same, or is refused with its place."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from envpack import analyze
from envpack.discover import Dependencies
from envpack.errors import (
    DependenciesFormatError,
    EnvpackError,
    FunctionNotFoundError,
    InterpreterError,
    ModuleNotInstalledError,
    SourceSyntaxError,
    TargetNotFoundError,
)
from tests.discover.conftest import Project


@pytest.fixture
def found(project: Project) -> Dependencies:
    return analyze(project({"main.py": "import numpy, nowhere, mine", "mine.py": ""}))


def test_dependencies_survive_json_and_pickle(found: Dependencies) -> None:
    assert Dependencies.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["schema"], 2, "dependencies.schema: 2 met, 1 expected"),
        (["target"], None, "dependencies.target: NoneType met, str expected"),
        (["local_files"], ["a", 1], "dependencies.local_files[1]: int met, str expected"),
        (["distributions", 0, "role"], "main", "dependencies.distributions[0].role: 'main' met"),
        (["distributions", 0, "evidence", 0, "line"], "1", "dependencies.distributions[0].evidence[0].line: str met"),
        (["functions", 0], [], "dependencies.functions[0]: list met, an object expected"),
        (["unresolved", 0, "line"], True, "dependencies.unresolved[0].line: bool met"),
    ],
)
def test_wrong_data_is_refused_with_its_place(found: Dependencies, path: list[Any], value: Any, said: str) -> None:
    data: Any = found.to_dict()
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(DependenciesFormatError) as caught:
        Dependencies.from_dict(data)
    assert said in str(caught.value)


def test_absent_field_is_named(found: Dependencies) -> None:
    data = found.to_dict()
    del data["platform"]
    with pytest.raises(DependenciesFormatError, match=r"dependencies\.platform: absent"):
        Dependencies.from_dict(data)


def test_missing_modules_are_raised_together(project: Project) -> None:
    found = analyze(project({"main.py": "import nowhere\nimport numpy\nimport elsewhere"}))
    with pytest.raises(ModuleNotInstalledError) as caught:
        found.raise_missing()
    assert [(module, line) for module, _, line in caught.value.missing] == [("elsewhere", 3), ("nowhere", 1)]


@pytest.mark.parametrize(
    "error",
    [
        TargetNotFoundError("no such file: 'x'", "give it"),
        FunctionNotFoundError("no function 'x'", "did you mean y?"),
        InterpreterError("no interpreter"),
        SourceSyntaxError("a.py", 3, 5, "  x = (\n", "never closed"),
        ModuleNotInstalledError([("a", "b.py", 1)]),
        DependenciesFormatError("dependencies.x: absent"),
    ],
)
def test_errors_survive_pickling(error: EnvpackError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))


def test_caret_stands_under_the_place() -> None:
    shown = str(SourceSyntaxError("a.py", 3, 7, "\t x = (\n", "never closed")).splitlines()
    assert shown == ["a.py:3: never closed", "    x = (", "        ^"]
