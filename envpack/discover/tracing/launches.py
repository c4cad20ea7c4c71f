"""How the targets of `analyze` are launched for a traced run."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from envpack.discover.code.codefile import CodeFile
from envpack.discover.code.program import Program
from envpack.discover.code.scopes import Binding
from envpack.discover.environment.finder import ModuleFinder
from envpack.discover.live.function import locate
from envpack.discover.merge import Part
from envpack.discover.reach import Reach
from envpack.discover.target import find_function, split_target
from envpack.discover.tracing.events import Place
from envpack.discover.tracing.observation import Launch
from envpack.discover.tracing.programs import (
    live_program,
    module_program,
    sample_program,
    script_program,
    taken_modules,
)
from envpack.errors import UsageError

if TYPE_CHECKING:
    from envpack.discover.analysis import Trial


def launch(target: str | Callable[..., Any], parts: Sequence[Part], trial: Trial, finder: ModuleFinder) -> Launch:
    """Return how a target is launched.

    Args:
        target: what `analyze` was asked about.
        parts: what it means.
        trial: how it is to be run.
        finder: where the modules of the asked environment are.

    Raises:
        UsageError: it cannot be run like this.
    """
    run, sample = trial.run, trial.sample
    if sample is not None and (run is not None or len(parts) != 1):
        raise UsageError("a sample call of more than one function, or beside a run", "ask about one function at a time")
    if not isinstance(target, str):
        if sample is None or isinstance(sample, str) or parts[0].name != locate(target).name:
            raise UsageError("a live function can only be called", "pass sample=(ARGUMENT, ...)")
        return launch_live(target, sample, trial.sample_keywords, finder)
    if target.startswith("-m ") and run is not None:
        return launch_module(target[3:].strip(), run)
    path, _ = split_target(target)
    if os.path.isdir(path) or target.startswith("-m "):
        raise UsageError(f"not to be run like this: {target!r}", "name a script, or a module to run with -m")
    file = Program(finder).script(path)
    bindings = {part.name: find_function(file, part.name) for part in parts if part.name}
    if run is not None:
        return launch_script(path, run, bindings, file)
    if not isinstance(sample, str) or len(bindings) != 1:
        raise UsageError(f"no function to call: {target!r}", "name it as FILE.py:FUNCTION, and its call as text")
    ((function, found),) = bindings.items()
    line = getattr(found[0].node, "lineno", 0)
    return launch_sample(path, function, line, sample, finder, _absent_modules(file, finder))


def _absent_modules(file: CodeFile, finder: ModuleFinder) -> list[str]:
    """Return the modules that a whole script imports and that are not installed."""
    reach = Reach(Program(finder))
    reach.add_file(file)
    reach.run()
    return [item.module for item in reach.unresolved if item.kind == "missing" and item.module]


def launch_module(module: str, arguments: Sequence[str]) -> Launch:
    """Launch `python -m module`."""
    return Launch(lambda session: module_program(module, arguments), Place(f"-m {module}", 0, 0, "<module>"), {})


def launch_script(
    path: str, arguments: Sequence[str], functions: Mapping[str, Iterable[Binding]], file: CodeFile
) -> Launch:
    """Launch a script; what happens outside of the functions, if any are named, does not count."""
    within = {
        name: frozenset((path, line) for binding in bindings for line in _first_lines(binding, file))
        for name, bindings in functions.items()
    }
    place = Place(path, 0, 0, "<module>")
    return Launch(lambda session: script_program(session, path, path, arguments), place, within)


def launch_sample(
    path: str, function: str, line: int, expression: str, finder: ModuleFinder, absent: Sequence[str]
) -> Launch:
    """Launch one call of a function of a script that also imports modules which are `absent`."""
    if path.endswith(".ipynb"):
        raise UsageError("a sample call of a function in a notebook", "give the function itself to analyze()")
    return Launch(
        lambda session: sample_program(
            session, finder.interpreter, path, function, expression, _folders(finder, os.path.dirname(path)), absent
        ),
        Place(path, line, line, function),
        {},
        taken_modules,
    )


def launch_live(
    target: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any], finder: ModuleFinder
) -> Launch:
    """Launch one call of a live function.

    Raises:
        UsageError: the asked interpreter cannot read what this one pickles.
    """
    live = locate(target)
    asked = finder.interpreter.version_info
    if asked[:2] != sys.version_info[:2]:
        ours, theirs = (".".join(map(str, version[:2])) for version in (sys.version_info, asked))
        raise UsageError(f"a live function of Python {ours} cannot be called in Python {theirs}", "name its script")
    place = Place(live.path or live.name, live.line, live.line, live.name)
    folders = _folders(finder, os.path.dirname(live.path) if live.path else "")
    return Launch(lambda session: live_program(session, target, live, arguments, keywords, folders), place, {})


def _folders(finder: ModuleFinder, script: str) -> list[str]:
    """Return the folders that hold the user's own modules."""
    interpreter = finder.interpreter
    held = {item.location for item in finder.index}
    base = (interpreter.base_prefix + os.sep, interpreter.prefix + os.sep)
    others = [entry for entry in interpreter.sys_path if entry not in held and not entry.startswith(base)]
    folders = [*([script] if script else []), *finder.local_folders, *others]
    return [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]


def _first_lines(binding: Binding, file: CodeFile) -> Iterator[int]:
    """Give the lines on which the functions start that a name stands for."""
    pending: list[ast.AST] = [binding.node if binding.value is None else binding.value]
    seen: set[int] = set()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.decorator_list[0].lineno if node.decorator_list else node.lineno
            continue
        if isinstance(node, ast.Lambda):
            yield node.lineno
        elif isinstance(node, ast.Name):
            pending += [item.node for item in file.scopes.root.lookup(node.id) if item.kind == "definition"]
        pending += ast.iter_child_nodes(node)
