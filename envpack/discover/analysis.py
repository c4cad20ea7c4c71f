"""`analyze`: from a target to its `Dependencies`.

The target is located in its source, `Reach` follows what it uses, and what it imports becomes distributions with their
closure. Nothing of the user's is executed.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from envpack.discover.codefile import CodeFile
from envpack.discover.dependencies import Dependencies
from envpack.discover.distributions import installed_distributions
from envpack.discover.finder import ModuleFinder
from envpack.discover.inline import declared
from envpack.discover.interpreter import inspect_interpreter
from envpack.discover.live import LiveFunction, add_live, locate
from envpack.discover.merge import Choices, Part, merge
from envpack.discover.program import Program
from envpack.discover.reach import Reach
from envpack.discover.scopes import Binding
from envpack.discover.target import find_function, package_modules, split_target
from envpack.errors import TargetNotFoundError, UsageError

Target = str | os.PathLike[str] | Callable[..., Any]


def analyze(
    target: Target,
    *,
    functions: Sequence[str | Callable[..., Any]] = (),
    python: str | os.PathLike[str] | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    mapping: Mapping[str, str] | None = None,
) -> Dependencies:
    """Find the distributions and local files that a script or some of its functions need, without running them.

    Args:
        target: a function or another callable; the path of a script, a notebook or the folder of a package; or
            `script.py:function`; or `-m module` for what `python -m module` runs.
        functions: more functions: their qualified names in the script, or the functions themselves; with none at all
            the whole script is meant.
        python: the interpreter whose environment is asked about; the running one by default.
        include: distributions to add, as requirement strings (`pkg` or `pkg[extra]`).
        exclude: distributions or modules to leave out.
        mapping: distribution of modules whose own cannot be found, such as `{"yaml": "PyYAML"}`.

    Returns:
        What is needed, and why. A module that is not installed is in `unresolved`; see `Dependencies.raise_missing`.

    Raises:
        TargetNotFoundError: there is no such script, or it cannot be read.
        FunctionNotFoundError: the script has no such function.
        SourceSyntaxError: the script is not valid Python.
        InterpreterError: `python` is no interpreter.
        UsageError: a distribution to include or to map to is not installed.
    """
    interpreter = inspect_interpreter(python)
    index = installed_distributions(interpreter.sys_path)
    choices = Choices(index, include, exclude, mapping or {})
    finder = ModuleFinder(interpreter, index)
    names = [function for function in functions if isinstance(function, str)]
    others = [_live_part(locate(function), finder) for function in functions if not isinstance(function, str)]
    if isinstance(target, str | os.PathLike):
        name = os.fspath(target)
        parts = _script_parts(name, names, finder)
    else:
        live = locate(target)
        name = f"{live.path}:{live.name}" if live.path else live.name
        parts = [_live_part(live, finder)]
        if names:
            parts += _script_parts(live.path, names, finder)
    return merge(name, interpreter, [*parts, *others], choices)


def _live_part(live: LiveFunction, finder: ModuleFinder) -> Part:
    program = Program(finder)
    reach = Reach(program)
    add_live(reach, program, live)
    reach.run()
    return Part(live.name, reach)


def _script_parts(target: str, functions: Sequence[str], finder: ModuleFinder) -> list[Part]:
    if target.startswith("-m "):
        return [_module_part(target[3:].strip(), functions, finder)]
    path, name = split_target(target)
    if os.path.isdir(path) and (modules := package_modules(path)):
        return [_package_part(path, modules, [*([name] if name else []), *functions], finder)]
    names = list(dict.fromkeys([*([name] if name else []), *functions]))
    # The folder of the script itself, links resolved, is what Python puts first on sys.path.
    finder.add_folder(os.path.dirname(os.path.realpath(path)), first=True)
    program = Program(finder)
    file = program.script(path)
    if not names:
        reach = Reach(program)
        reach.add_file(file)
        reach.run()
        return [Part("", reach, declared(path) if not path.endswith(".ipynb") else ())]
    return [_function_part(program, file, name, find_function(file, name)) for name in names]


def _module_part(module: str, functions: Sequence[str], finder: ModuleFinder) -> Part:
    """Look at what `python -m module` runs: the module, or the `__main__` of a package."""
    if functions:
        raise UsageError(f"functions of a module to run: {', '.join(functions)}", "name them as FILE.py:FUNCTION")
    finder.add_folder(os.getcwd(), first=True)
    location = finder.find(module)
    if location.folders and finder.find(f"{module}.__main__").kind != "missing":
        module = f"{module}.__main__"
        location = finder.find(module)
    if location.kind in ("missing", "namespace"):
        raise TargetNotFoundError(f"no module to run: {module!r}", "name a module or a package that has a __main__.py")
    reach = Reach(Program(finder))
    reach.add_module(module, location.file, 1, "static")
    reach.run()
    return Part("", reach)


def _package_part(path: str, modules: Sequence[str], functions: Sequence[str], finder: ModuleFinder) -> Part:
    """Look at all modules in the folder of a package."""
    if functions:
        raise UsageError(f"functions of a folder: {', '.join(functions)}", "name them as FILE.py:FUNCTION")
    above = os.path.realpath(path)
    for _ in range(modules[0].count(".") + 1):
        above = os.path.dirname(above)
    finder.add_folder(above, first=True)
    reach = Reach(Program(finder))
    for module in modules:
        reach.add_module(module, finder.find(module).file or path, 1, "static")
    reach.run()
    return Part("", reach)


def _function_part(program: Program, file: CodeFile, name: str, bindings: Iterable[Binding]) -> Part:
    reach = Reach(program)
    for binding in bindings:
        if binding.kind == "import":
            assert isinstance(binding.node, ast.Import | ast.ImportFrom)
            assert binding.alias is not None
            reach.add_import(file, binding.node, binding.alias)
        else:
            reach.add_function(file, binding.node, binding.scope)
    reach.run()
    return Part(name, reach)
