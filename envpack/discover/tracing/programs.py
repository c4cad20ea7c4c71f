"""How each kind of target is run: a script, a module, a notebook, a call of one function."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from envpack.discover.code.notebook import notebook_source
from envpack.discover.environment.interpreter import Interpreter
from envpack.discover.live.function import LiveFunction
from envpack.discover.tracing.session import Program, Session
from envpack.errors import SampleError, TargetNotFoundError

PAYLOAD = "payload.pickle"
TAKEN = "taken.json"


def script_program(session: Session, target: str, path: str, arguments: Sequence[str]) -> Program:
    """Return how a script or a notebook is run, in the working folder, as `python script.py ARGUMENTS` would."""
    if not path.endswith(".ipynb"):
        return Program((path, *arguments), os.getcwd(), target)
    try:
        with open(path, "rb") as file:
            source = notebook_source(file.read(), path)
    except OSError as error:
        raise TargetNotFoundError(f"cannot read {path!r}: {error.strerror}") from error
    folder = os.path.dirname(path)
    spec = {
        "script": path,
        "arguments": list(arguments),
        "folders": [folder],
        "source": session.write("cells.py", source),
    }
    return Program(session.runner("notebook", spec), folder, target)


def module_program(module: str, arguments: Sequence[str]) -> Program:
    """Return how `python -m module ARGUMENTS` is run."""
    return Program(("-m", module, *arguments), os.getcwd(), f"-m {module}")


def sample_program(
    session: Session,
    interpreter: Interpreter,
    path: str,
    function: str,
    expression: str,
    folders: Sequence[str],
    absent: Sequence[str],
) -> Program:
    """Return how a sample call of a function of a script is run, given as an expression.

    The whole script is loaded to get at the function; `absent` are modules that it imports and that are not installed.

    Raises:
        SampleError: the script does not load, or the expression cannot be evaluated there.
    """
    spec = _call_spec(session, path, folders)
    loading = {**spec, "function": function, "expression": expression, "absent": list(absent)}
    session.prepare_call(interpreter.executable, os.getcwd(), loading)
    return Program(session.runner("call", spec), os.getcwd(), f"{path}:{function}")


def taken_modules(session: Session) -> frozenset[str]:
    """Return the modules of everything that the pickle of a sample call holds."""
    with open(os.path.join(session.own, TAKEN), encoding="utf-8") as file:
        return frozenset(json.load(file))


def live_program(
    session: Session,
    target: Callable[..., Any],
    live: LiveFunction,
    arguments: Sequence[Any],
    keywords: Mapping[str, Any],
    folders: Sequence[str],
) -> Program:
    """Return how a sample call of a live function is run; it travels by value, as to a worker.

    Raises:
        SampleError: function or arguments cannot be pickled.
    """
    import cloudpickle

    spec = _call_spec(session, live.path, folders)
    module = sys.modules.get(live.module)
    by_value = module is not None and live.module not in cloudpickle.list_registry_pickle_by_value()
    if by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        content = cloudpickle.dumps((_bare(target), tuple(arguments), dict(keywords)))
    except Exception as error:  # whatever an object's own reduction raises
        message = f"cannot pickle the sample call of {live.name!r}: {type(error).__name__}: {error}"
        raise SampleError(message, "give arguments that can be sent to another process") from error
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)
    with open(spec["payload"], "wb") as file:
        file.write(content)
    return Program(session.runner("call", spec), os.getcwd(), live.name)


def _call_spec(session: Session, path: str, folders: Sequence[str]) -> dict[str, Any]:
    files = {"payload": PAYLOAD, "taken": TAKEN}
    own = {key: os.path.join(session.own, name) for key, name in files.items()}
    return {"script": path, "folders": list(folders), **own}


def _bare(target: Any) -> Any:
    """Take off the decorators of envpack, which stay behind when a function is shipped."""
    while hasattr(target, "__wrapped__") and (
        hasattr(target, "__envpack_monitor__") or type(target).__module__.startswith("envpack_")
    ):
        target = target.__wrapped__
    return target
