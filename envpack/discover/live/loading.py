"""Functions of a script as live objects: a process of its own imports the script and looks at them there.

The process is one of the asked interpreter, which need not have envpack: it is lent our own source and `packaging`, and
nothing else that lies beside them. What the script prints goes to stderr, and whatever it does to its process, the
caller goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from envpack import errors
from envpack.discover.children import ending, run_child
from envpack.discover.dependencies import Dependencies
from envpack.discover.environment.interpreter import inspect_interpreter
from envpack.errors import DependenciesFormatError, EnvpackError, InterpreterError, LoadError, UsageError

_LIMIT_S = 600.0
_OLDEST = (3, 11)

# Runs in the asked interpreter. A finder lends two packages instead of the folders around them going on sys.path: there
# lies everything else that envpack's own environment holds. Ours wins over a namesake of envpack; packaging comes last.
_PROGRAM = """
import importlib.util, json, os, sys
class Lender:
    def __init__(self, name, folder):
        self.name, self.folder = name, folder
    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            first = os.path.join(self.folder, "__init__.py")
            return importlib.util.spec_from_file_location(name, first, submodule_search_locations=[self.folder])
request = json.loads(sys.argv[1])
sys.meta_path.insert(0, Lender("envpack", request["envpack"]))
sys.meta_path.append(Lender("packaging", request["packaging"]))
from envpack.discover.live.loaded import answer
answer(request)
"""


def analyze_loaded(
    path: str,
    names: Sequence[str],
    *,
    target: str,
    python: str | os.PathLike[str] | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    mapping: Mapping[str, str] | None = None,
) -> Dependencies:
    """Import a script and answer for objects in it.

    Args:
        path: of the script.
        names: qualified names in it: functions, classes, methods, partial objects, instances.
        target: what the answer is called.
        python: the interpreter that imports it; the running one by default.
        include: as for `analyze`.
        exclude: as for `analyze`.
        mapping: as for `analyze`.

    Raises:
        LoadError: the script raised, ended its process, or did not end in ten minutes.
        FunctionNotFoundError: the script has nothing of that name after it was imported.
        InterpreterError: the interpreter is older than Python 3.11, in which envpack itself cannot run.
    """
    _check_target(path, names)
    interpreter = inspect_interpreter(python or sys.executable)
    if interpreter.version_info[:2] < _OLDEST:
        raise InterpreterError(
            f"cannot load a script in Python {interpreter.version}: 3.11 or later expected", "analyse it without --load"
        )
    request = {
        "path": os.path.abspath(path),
        "names": list(names),
        "include": list(include),
        "exclude": list(exclude),
        "mapping": dict(mapping or {}),
        "target": target,
        **_lent(),
    }
    data = _asked(interpreter.executable, request)
    if "error" in data:
        raise _error(data["error"])
    return Dependencies.from_dict(data["answer"])


def _check_target(path: str, names: Sequence[str]) -> None:
    if not names:
        raise UsageError(f"nothing to load of {path!r}", "name a function as FILE.py:FUNCTION")
    if not os.path.isfile(path):
        raise errors.TargetNotFoundError(f"no such file: {path!r}", "give the path of a Python source file")
    if path.endswith(".ipynb"):
        raise UsageError(f"a notebook cannot be loaded: {path!r}", "analyse it without --load, or save it as a script")


def _lent() -> dict[str, str]:
    import packaging

    import envpack

    return {module.__name__: os.path.dirname(os.path.abspath(str(module.__file__))) for module in (envpack, packaging)}


def _asked(executable: str, request: dict[str, Any]) -> dict[str, Any]:
    """Return what the process answered."""
    with tempfile.TemporaryDirectory(prefix="envpack-load-") as folder:
        said = os.path.join(folder, "answer.json")
        command = [executable, "-c", _PROGRAM, json.dumps({**request, "answer": said})]
        ended = _run(command, request["path"])
        try:
            with open(said, encoding="utf-8") as file:
                data = json.load(file)
        except FileNotFoundError:
            raise LoadError(f"{request['path']}: its process {ended} while it was loaded", _REMEDY) from None
    if not isinstance(data, dict):
        raise DependenciesFormatError(f"answer: {type(data).__name__} met, an object expected")
    return data


_REMEDY = "analyse it without --load"


def _run(command: list[str], path: str) -> str:
    """Run a process to its end and say how it ended; its stdout goes to our stderr."""
    try:
        return ending(run_child(command, limit_s=_LIMIT_S))
    except subprocess.TimeoutExpired:
        raise LoadError(f"{path}: not loaded after {_LIMIT_S:.0f} s", _REMEDY) from None


def _error(data: Mapping[str, Any]) -> EnvpackError:
    kind = getattr(errors, str(data["kind"]), LoadError)
    error = kind(*data["args"])
    return error if isinstance(error, EnvpackError) else LoadError(str(error))
