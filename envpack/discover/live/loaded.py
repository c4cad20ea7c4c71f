"""The other side of `loading`: runs in the process that imports the user's script, and writes down the answer there.

Nothing of the analyser is imported before the script: the script finds the process as it would find its own.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import json
import os
import sys
import traceback
from types import CodeType, FunctionType, ModuleType
from typing import Any

from envpack.discover.environment.packages import package_around

_NAME = "__envpack_loaded__"


def answer(request: dict[str, Any]) -> None:
    """Import the script of a request, write the answer for the named objects to a file, and end the process."""
    from envpack.errors import EnvpackError

    path = request["path"]
    try:
        data = {"answer": _analyzed(_load(path), request)}
    except EnvpackError as error:
        data = {"error": {"kind": type(error).__name__, "args": error.args}}
    except SyntaxError as error:
        place = [error.filename or path, error.lineno or 1, error.offset or 0, error.text or "", error.msg or ""]
        data = {"error": {"kind": "SourceSyntaxError", "args": place}}
    except BaseException as error:
        data = {"error": {"kind": "LoadError", "args": [_failure(path, error), "analyse it without --load"]}}
    beside = f"{request['answer']}.tmp"
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(data, file)
    os.replace(beside, request["answer"])
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)  # threads that the script has started would keep the process


def _load(path: str) -> ModuleType:
    """Import a script under the name that its neighbours would import it by, if that leads to it."""
    folder, package = package_around(os.path.dirname(os.path.realpath(path)))
    # As when the script is run: its own folder first. `-c` has put an empty entry there.
    sys.path[:1] = [os.path.dirname(os.path.realpath(path))]
    sys.argv = [path]
    name = os.path.splitext(os.path.basename(path))[0]
    if package:
        sys.path.append(folder)
        return importlib.import_module(f"{package}.{name}")
    found = importlib.util.find_spec(name) if name.isidentifier() and name not in sys.modules else None
    if found is not None and found.origin and os.path.realpath(found.origin) == os.path.realpath(path):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(_NAME, path)
    if spec is None or spec.loader is None:
        from envpack.errors import UsageError

        raise UsageError(f"not a Python source file: {path!r}", "name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)
    return module


def _analyzed(module: ModuleType, request: dict[str, Any]) -> dict[str, Any]:
    from dataclasses import replace

    from envpack.discover.analysis import analyze

    path, names = request["path"], request["names"]
    first, *others = [_callable(_named(module, name, path), module, path) for name in names]
    found = analyze(
        first,
        functions=others,
        include=request["include"],
        exclude=request["exclude"],
        mapping=request["mapping"],
    )
    functions = [replace(function, name=name) for function, name in zip(found.functions, names, strict=True)]
    data = replace(found, target=request["target"], functions=tuple(functions)).to_dict()
    _place(data, path)
    return data


def _place(data: object, path: str) -> None:
    """Say of what was only seen in live values, not in any text, that it is in the script."""
    if isinstance(data, dict):
        if data.get("file") == "" and data.get("kind") != "included":
            data["file"] = path
        data = list(data.values())
    for one in data if isinstance(data, list) else ():
        _place(one, path)


def _named(module: ModuleType, qualname: str, path: str) -> object:
    found: object = module
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            from envpack.errors import FunctionNotFoundError

            names = [name for name in dir(found) if not name.startswith("__")]
            alike = difflib.get_close_matches(part, names, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(alike)}?" if alike else "name what it binds at its top level"
            raise FunctionNotFoundError(f"nothing named {qualname!r} in {path} after it was loaded", hint) from None
    return found


def _callable(value: object, module: ModuleType, path: str) -> Any:
    """Return a value that can be called; one that cannot is held by a function of the script, which stands for it."""
    if callable(value):
        return value
    (code,) = (one for one in compile("lambda: value", path, "eval").co_consts if isinstance(one, CodeType))
    # On line 0 no function of the text is mistaken for it.
    return FunctionType(code.replace(co_firstlineno=0), {"__name__": module.__name__, "value": value})


def _failure(path: str, error: BaseException) -> str:
    last = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if os.path.realpath(frame.filename) == os.path.realpath(path)]
    place = f"{path}:{own[-1].lineno}" if own else path
    return f"{place}: the script fails when it is loaded: {last}"
