"""`--load`: what the names of a script are bound to once it is imported, in a process that may do as it likes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from envpack.discover import analyze, inspect_interpreter
from envpack.errors import (
    FunctionNotFoundError,
    InterpreterError,
    LoadError,
    SourceSyntaxError,
    TargetNotFoundError,
    UsageError,
)
from tests.discover.conftest import Environment, Project, roles
from tests.discover.test_command import envpack

SCRIPT = """\
import functools
import numpy, yaml, dateutil, scipy

def plain(x): return numpy.add(x, 1)
half = functools.partial(plain, 2)
show = lambda x: yaml.dump(x)

class Model:
    def __init__(self, inner): self.inner = inner
    def predict(self, x): return x
    @classmethod
    def make(cls): return cls(None)

class Called(Model):
    def __call__(self, x): return dateutil.x

model = Model(numpy.zeros(2))
called = Called(None)
table = {"a": show}
exec("def made(x):\\n    import scipy.special\\n    return scipy")
if __name__ == "__main__":
    raise SystemExit("ran as the main program")
"""
EXPECTED = {
    "plain": {"numpy"},
    "half": {"numpy"},
    "show": {"pyyaml"},
    "Model": set(),
    "Model.predict": set(),
    "Model.make": set(),
    "model": {"numpy"},
    "model.predict": {"numpy"},
    "called": {"python-dateutil"},
    "table": {"pyyaml"},
    "made": {"scipy"},
}


def test_each_name_is_answered_as_the_object_that_it_is_bound_to(project: Project) -> None:
    script = project({"main.py": SCRIPT})
    found = analyze(script, functions=list(EXPECTED), load=True)
    assert {function.name: direct(function.evidence) for function in found.functions} == {
        name: {MODULES[name] for name in expected} for name, expected in EXPECTED.items()
    }
    assert found.target == str(script)
    assert found.local_files == ()
    assert {one.file for item in found.distributions for one in item.evidence} == {str(script)}


MODULES = {"numpy": "numpy", "pyyaml": "yaml", "python-dateutil": "dateutil", "scipy": "scipy"}


def direct(evidence: tuple[object, ...]) -> set[str]:
    return {str(one.module).partition(".")[0] for one in evidence}  # type: ignore[attr-defined]


def test_several_scripts_are_loaded_one_by_one(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project({"a.py": "import yaml\ndef f(): yaml\n", "b.py": "import numpy\ng = lambda: numpy\n"}).parent
    monkeypatch.chdir(folder)
    found = analyze(["a.py:f", "b.py:g", direct], load=True)
    assert [function.name for function in found.functions] == ["a.py:f", "b.py:g", f"{__file__}:direct"]
    assert roles(found) == {"pyyaml": "direct", "numpy": "direct"}


def test_output_of_the_script_goes_to_stderr_and_its_neighbours_are_found(project: Project) -> None:
    script = project(
        {
            "main.py": "import os, sys\nprint('printed')\nos.system('echo shouted')\nimport near\n"
            "def f(): return near.x\nassert sys.argv == [__file__]\nassert sys.path[0] == os.path.dirname(__file__)\n",
            "near.py": "import yaml as x\n",
        }
    )
    answer = envpack(f"{script}:f", "--load", "--format", "requirements")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("pyyaml==")
    assert "printed" in answer.stderr
    assert "shouted" in answer.stderr


def test_script_in_a_package_may_import_relatively(project: Project) -> None:
    files = {"top/__init__.py": "", "top/main.py": "from .near import x\ndef f(): return x\n", "top/near.py": "x = 1"}
    found = analyze(f"{project(files).parent}/top/main.py:f", load=True)
    assert [os.path.basename(path) for path in found.local_files] == ["__init__.py", "near.py"]


@pytest.mark.parametrize("name", ["json.py", "my-script.py", "script"])
def test_script_is_loaded_whatever_it_is_called(project: Project, name: str) -> None:
    script = project({name: "import yaml\ndef f(): return yaml\n"}).parent / name
    if "." in name:
        assert roles(analyze(f"{script}:f", load=True)) == {"pyyaml": "direct"}
    else:
        with pytest.raises(UsageError, match=r"not a Python source file"):
            analyze(f"{script}:f", load=True)


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("x = 1\nraise ValueError('two\\nlines')\n", LoadError, "main.py:2: the script fails when it is loaded: lines"),
        ("1 / 0\n", LoadError, "ZeroDivisionError: division by zero"),
        (
            "import sys\nsys.exit('enough')\n",
            LoadError,
            "main.py:2: the script fails when it is loaded: SystemExit: enough",
        ),
        ("import nowhere\n", LoadError, "ModuleNotFoundError: No module named 'nowhere'"),
        ("import os\nos._exit(7)\n", LoadError, "its process ended with exit code 7"),
        ("import os\nos.killpg(0, 9)\n", LoadError, "its process was killed by SIGKILL"),
        ("x = (1 +* 2)\n", SourceSyntaxError, "main.py:1: invalid syntax\n    x = (1 +* 2)\n            ^"),
        ("def ff(): pass\n", FunctionNotFoundError, "nothing named 'f'"),
    ],
)
def test_failure_of_the_script_is_said_and_nothing_worse(
    project: Project, source: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        analyze(f"{project({'main.py': source})}:f", load=True)
    assert said in str(caught.value)


def test_threads_of_the_script_do_not_keep_the_command(project: Project) -> None:
    source = "import threading\nthreading.Thread(target=threading.Event().wait).start()\ndef f(): pass\n"
    assert analyze(f"{project({'main.py': source})}:f", load=True).distributions == ()


def test_command_ends_with_one_line_when_loading_fails(project: Project) -> None:
    answer = envpack(f"{project({'main.py': 'raise ValueError(3)'})}:f", "--load")
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (1, "", 1)
    assert "ValueError: 3" in answer.stderr


@pytest.mark.parametrize(
    ("target", "error", "said"),
    [
        ("main.py", UsageError, "nothing to load"),
        ("none.py:f", TargetNotFoundError, "no such file"),
        ("n.ipynb:f", UsageError, "a notebook cannot be loaded"),
    ],
)
def test_what_cannot_be_loaded_is_said(project: Project, target: str, error: type[Exception], said: str) -> None:
    folder = project({"main.py": "", "n.ipynb": "{}"}).parent
    with pytest.raises(error, match=said):
        analyze(f"{folder}/{target}", load=True)


def test_interpreter_without_envpack_loads_in_its_own_environment(environment: Environment, project: Project) -> None:
    environment.install("alpha", files=("alpha.py",))
    source = "import alpha, sys\ndef f(): return alpha\ntry: import yaml\nexcept ImportError: pass\nelse: 1 / 0\n"
    script = project({"main.py": source})
    found = analyze(f"{script}:f", load=True, python=environment.python)
    assert roles(found) == {"alpha": "direct"}
    assert found.functions[0].name == "f"


def test_interpreter_that_is_too_old_is_refused(environment: Environment, project: Project, tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    version = ".".join(map(str, sys.version_info[:3]))
    old.write_text(f'#!/bin/sh\n{environment.python} "$@" | sed \'s/"version": "{version}"/"version": "3.9.1"/\'\n')
    old.chmod(0o755)
    assert inspect_interpreter(old).version == "3.9.1"
    with pytest.raises(InterpreterError, match=r"in Python 3\.9\.1: 3\.11 or later expected"):
        analyze(f"{project({'main.py': 'def f(): pass'})}:f", load=True, python=old)
