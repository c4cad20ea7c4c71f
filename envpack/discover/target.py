"""What is to be analysed: a script, functions of it, or a live object, located in its source file."""

from __future__ import annotations

import os
from collections.abc import Iterable

from envpack.discover.code import syntax as ast
from envpack.discover.code.codefile import CodeFile
from envpack.discover.code.scopes import Binding, Scope
from envpack.errors import FunctionNotFoundError, UsageError


def split_target(target: str) -> tuple[str, str]:
    """Split `script.py:function` into the absolute path and the function; a file whose name has a colon is a file.

    Raises:
        UsageError: what follows the colon is no name of a function.
    """
    path, colon, name = target.rpartition(":")
    if not colon or os.path.exists(target) or not _is_qualname(name):
        path, name = target, ""
    path = os.path.expanduser(path)
    script, colon, rest = path.partition(":")
    if colon and os.path.isfile(script) and not os.path.exists(path):
        met = f"{rest}:{name}" if name else rest
        raise UsageError(f"not the name of a function: {met!r} in {target!r}", "name it as FILE.py:FUNCTION")
    return os.path.abspath(path), name


def _is_qualname(name: str) -> bool:
    return name.replace(".", "").replace("<locals>", "").isidentifier()


def package_modules(folder: str) -> list[str]:
    """Return the full names of all modules in the folder of a package, its own first; empty if it is none."""
    folder = os.path.realpath(folder)
    if not os.path.isfile(os.path.join(folder, "__init__.py")):
        return []
    above = folder
    parts: list[str] = []
    while os.path.isfile(os.path.join(above, "__init__.py")):
        above, name = os.path.split(above)
        parts.insert(0, name)
    package = ".".join(parts)
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if os.path.isfile(os.path.join(place, name, "__init__.py")))
        inner = ".".join([package, *os.path.relpath(place, folder).split(os.sep)]).removesuffix("..")
        names = sorted(file.removesuffix(".py") for file in files if file.endswith(".py"))
        found += [inner] + [f"{inner}.{name}" for name in names if name.isidentifier() and name != "__init__"]
    return found


def find_function(file: CodeFile, qualname: str) -> list[Binding]:
    """Return what a qualified name of a file is bound to.

    A method is looked up to the outermost class: a method needs its class.

    Raises:
        FunctionNotFoundError: nothing of that name is bound; the hint has names that are alike.
    """
    scope = file.scopes.root
    found: list[Binding] = []
    for part in qualname.split("."):
        if part == "<locals>":
            continue
        bindings = [item for item in scope.bindings.get(part, ()) if item.kind != "parameter"]
        if not bindings:
            raise FunctionNotFoundError(f"no function {qualname!r} in {file.path}", _suggestion(file, qualname))
        if scope.kind != "class":
            found = bindings
        scope = file.scopes.inner.get(id(bindings[-1].node), Scope("function", bindings[-1].node, None))
    return found


def find_code(file: CodeFile, name: str, first_line: int) -> list[Binding]:
    """Return the definition or lambda that starts on a line; empty if the file has changed since."""
    found: list[Binding] = []
    for inner in file.scopes.inner.values():
        node = inner.node
        if inner.parent is None or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        decorators = getattr(node, "decorator_list", [])
        start = decorators[0].lineno if decorators else node.lineno
        if first_line in (start, node.lineno) and getattr(node, "name", "<lambda>") == name:
            found.append(Binding("definition", node, inner.parent))
    return found


def function_names(file: CodeFile) -> list[str]:
    """Return the qualified names of the functions, classes and methods that a file defines."""
    return list(_names(file, file.scopes.root, ""))


def _names(file: CodeFile, root: Scope, prefix: str) -> Iterable[str]:
    pending = [(root, prefix)]
    while pending:
        scope, before = pending.pop()
        for name, bindings in scope.bindings.items():
            for binding in bindings:
                if binding.kind == "definition":
                    yield before + name
                    inner = file.scopes.inner.get(id(binding.node))
                    if inner is not None and inner is not scope:
                        pending.append((inner, f"{before}{name}."))
                elif binding.kind == "value" and isinstance(binding.value, ast.Lambda):
                    yield before + name


def _suggestion(file: CodeFile, name: str) -> str:
    import difflib

    names = sorted(set(function_names(file)))
    if alike := difflib.get_close_matches(name, names, n=3, cutoff=0.5):
        return f"did you mean {' or '.join(alike)}?"
    return f"it defines {', '.join(names[:10])}" if names else "it defines no function"
