"""Runs in the asked interpreter what is no script by itself: a call of one function, or the cells of a notebook.

It needs nothing but the standard library of Python 3.8 or later, and cloudpickle from the folder that it is told. A
call travels as it would to a worker: a first process loads the script and writes function and arguments as a pickle,
a second one, which never saw the script, reads and calls it.
"""

from __future__ import annotations

import ast
import dis
import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import os
import pickle
import re
import runpy
import shlex
import subprocess
import sys
import types

TYPE_CHECKING = False  # typing itself is not imported: the program would find it loaded
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def load(spec: dict[str, Any]) -> None:
    """Write a function of a script and the arguments of a sample call as a pickle."""
    sys.path[:0] = spec["folders"]
    sys.argv = [spec["script"]]
    sys.meta_path.append(_StandIns(spec["absent"]))
    # Not `__main__`: what stands under that guard is the program, not the function.
    module = types.ModuleType("__envpack_sample__")
    names = module.__dict__
    names |= {"__file__": spec["script"], "__builtins__": __builtins__}
    # Libraries look up the module of a function or class where they are asked to pickle it.
    sys.modules[module.__name__] = module
    with open(spec["script"], "rb") as file:
        exec(compile(file.read(), spec["script"], "exec", dont_inherit=True), names)
    function = names[spec["function"].partition(".")[0]]
    for part in spec["function"].split(".")[1:]:
        function = getattr(function, part)
    arguments, keywords = _arguments(spec["expression"], spec["function"], names)
    cloudpickle = _cloudpickle(spec["cloudpickle"])
    if hasattr(cloudpickle, "register_pickle_by_value"):
        cloudpickle.register_pickle_by_value(module)
    else:  # an old one: what no module has travels by value
        del sys.modules[module.__name__]
    taken: set[str] = set()

    class Recording(cloudpickle.Pickler):  # type: ignore[name-defined,misc]
        """Notes the modules of everything that is pickled."""

        def reducer_override(self, value: Any) -> Any:
            """Return how a value is pickled, as `pickle.Pickler` asks."""
            taken.update(_modules_of(value))
            return super().reducer_override(value)

    with open(spec["payload"], "wb") as payload:
        Recording(payload, protocol=cloudpickle.DEFAULT_PROTOCOL).dump((function, arguments, keywords))
    with open(spec["taken"], "w", encoding="utf-8") as answer:
        json.dump(sorted(taken), answer)


def _modules_of(value: Any) -> list[str]:
    """Return the modules without which a pickled value cannot be made or, if it is code, run."""
    if isinstance(value, types.CodeType):
        return [step.argval for step in dis.get_instructions(value) if step.opname == "IMPORT_NAME"]
    if isinstance(value, types.ModuleType):
        return [value.__name__]
    found = [type(value).__module__, getattr(value, "__module__", None)]
    return [name for name in found if isinstance(name, str)]


class _StandIns:
    """Finds, last of all, modules that are not installed and that the function does not reach: objects in their place.

    Args:
        names: of the modules.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = {".".join(name.split(".")[:length]) for name in names for length in range(1, len(name) + 1)}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Find a module, as `sys.meta_path` asks."""
        loader: Any = self
        return importlib.machinery.ModuleSpec(name, loader, is_package=True) if name in self._names else None

    def create_module(self, spec: Any) -> types.ModuleType:
        """Make the module, as the import system asks."""
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Leave the module as it is."""


class _StandIn(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        return _stand_in(name)


class _StandInClass(type):
    def __getattr__(cls, name: str) -> Any:
        return _stand_in(name)


class _StandInValue:
    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        pass

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return arguments[0] if len(arguments) == 1 and callable(arguments[0]) else self

    def __getattr__(self, name: str) -> Any:
        return _stand_in(name)


def _stand_in(name: str) -> Any:
    """Return a class: it can be called, decorate and be derived from while the script loads."""
    if name.startswith("__"):
        raise AttributeError(name)
    return _StandInClass(name, (_StandInValue,), {})


def call(spec: dict[str, Any]) -> None:
    """Read a pickled call and make it."""
    sys.path[:0] = spec["folders"]
    sys.argv = [spec["script"]]
    _cloudpickle(spec["cloudpickle"])
    with open(spec["payload"], "rb") as file:
        function, arguments, keywords = pickle.load(file)
    # From here on the environment decides what that name means.
    for name in [name for name in sys.modules if name.partition(".")[0] == "cloudpickle"]:
        del sys.modules[name]
    result = function(*arguments, **keywords)
    if inspect.iscoroutine(result):
        import asyncio

        asyncio.run(result)
    elif inspect.isgenerator(result):
        for _ in result:
            pass


def notebook(spec: dict[str, Any]) -> None:
    """Execute the source that the cells of a notebook make."""
    sys.path[:0] = spec["folders"]
    sys.argv = [spec["script"], *spec["arguments"]]
    with open(spec["source"], "rb") as file:
        code = compile(file.read(), spec["script"], "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    names = sys.modules["__main__"].__dict__
    names["__file__"] = spec["script"]
    shell = _Shell(names)
    names["get_ipython"] = lambda: shell
    if code.co_flags & inspect.CO_COROUTINE:
        import asyncio

        asyncio.run(eval(code, names))
    else:
        exec(code, names)


class _Shell:
    """What magic commands do, as far as they run code or change where it runs; nothing is installed.

    Args:
        names: of the notebook.
    """

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def run_line_magic(self, name: str, rest: str) -> None:
        """Do what `%name rest` does."""
        words = shlex.split(rest)
        if name == "run" and words:
            argv, sys.argv = sys.argv, words
            try:
                self._names.update(runpy.run_path(words[0], run_name="__main__"))
            finally:
                sys.argv = argv
        elif name == "load_ext" and words:
            importlib.import_module(words[0])
        elif name == "cd" and words:
            os.chdir(os.path.expanduser(words[0]))

    def system(self, command: str) -> None:
        """Do what `!command` does."""
        self.getoutput(command)

    def getoutput(self, command: str) -> list[str]:
        """Return the lines that `!command` prints; IPython puts the values of `{expressions}` into it."""
        command = re.sub(r"{([^{}]+)}", lambda found: str(eval(found[1], self._names)), command)
        if re.match(r"(?:\S*python\S*\s+-m\s+)?(?:pip|conda|mamba|uv)\b", command):
            return []
        done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, text=True)
        sys.stdout.write(done.stdout)
        return done.stdout.splitlines()


def _arguments(expression: str, function: str, names: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Evaluate `f(1, k=2)`, or an expression whose value is the tuple of the arguments or the only one."""
    tree = ast.parse(expression.strip() or "()", "<sample>", "eval").body
    if isinstance(tree, ast.Call) and ast.dump(tree.func) == ast.dump(ast.parse(function, mode="eval").body):
        taken = ast.Expression(ast.Call(ast.Name("_taken", ast.Load()), tree.args, tree.keywords))
        names = dict(names, _taken=lambda *arguments, **keywords: (arguments, keywords))
        made: tuple[tuple[Any, ...], dict[str, Any]]
        made = eval(compile(ast.fix_missing_locations(taken), "<sample>", "eval"), names)
        return made
    value = eval(compile(ast.Expression(tree), "<sample>", "eval"), names)
    return (value if isinstance(value, tuple) else (value,)), {}


def _cloudpickle(folder: str) -> Any:
    spec = importlib.util.spec_from_file_location(
        "cloudpickle", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cloudpickle"] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    with open(sys.argv[2], encoding="utf-8") as _file:
        _spec = json.load(_file)
    del sys.path[0]  # the folder of this file
    {"load": load, "call": call, "notebook": notebook}[sys.argv[1]](_spec)
