"""From one target to the code that it means: the parts whose reach is followed.

A part is a whole script, a function of it, a live function, the modules of a package, or what `python -m` runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from envpack.discover.code import syntax as ast
from envpack.discover.code.codefile import CodeFile
from envpack.discover.code.inline import declared
from envpack.discover.code.program import Program
from envpack.discover.code.scopes import Binding
from envpack.discover.code.uncalled import uncalled_functions
from envpack.discover.environment.finder import ModuleFinder
from envpack.discover.merge import Part
from envpack.discover.reach import Reach
from envpack.discover.target import find_function, package_modules, split_target
from envpack.errors import TargetNotFoundError, UsageError

TYPE_CHECKING = False
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envpack.discover.live.function import LiveFunction


def parts_of(
    target: str | Callable[..., Any], functions: Sequence[str | Callable[..., Any]], finder: ModuleFinder
) -> tuple[str, list[Part]]:
    """Return what a target is called, and its parts with their reach.

    Args:
        target: a callable, a path, `path:function` or `-m module`.
        functions: functions of it beside, by name or live.
        finder: a fresh one: the folders of the target are added to it.
    """
    names = [function for function in functions if isinstance(function, str)]
    others = [_live_part(_live(function), finder) for function in functions if not isinstance(function, str)]
    if isinstance(target, str):
        return target, [*_script_parts(target, names, finder), *others]
    live = _live(target)
    parts = [_live_part(live, finder)]
    if names:
        parts += _script_parts(live.path, names, finder)
    return f"{live.path}:{live.name}" if live.path else live.name, [*parts, *others]


def _live(function: Callable[..., Any]) -> LiveFunction:
    from envpack.discover.live.function import locate  # only here: most questions are about files

    return locate(function)


def _live_part(live: LiveFunction, finder: ModuleFinder) -> Part:
    from envpack.discover.live.function import add_live

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
        for function in uncalled_functions(file.tree):
            file.scopes.loosen(function)
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
