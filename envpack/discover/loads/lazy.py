"""Modules that give some of their names only when these are asked for: PEP 562, and `lazy_loader`.

`from pkg import name` runs the `__getattr__` of `pkg` with that name. Its body is followed with the name as a constant,
so that of a table of modules only the one counts that is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from envpack.discover.code import syntax as ast
from envpack.discover.code.codefile import CodeFile
from envpack.discover.code.scopes import Binding, FunctionNode, Scope
from envpack.discover.code.source import parse_file
from envpack.errors import EnvpackError

HOOK = "__getattr__"


def hooks(file: CodeFile) -> Iterator[ast.FunctionDef]:
    """Give the functions that a module defines to make names when they are asked for."""
    for binding in file.scopes.root.bindings.get(HOOK, ()):
        if isinstance(binding.node, ast.FunctionDef):
            yield binding.node


def bound_scope(file: CodeFile, function: FunctionNode, name: str) -> Scope:
    """Return the scope of such a function in which its parameter is one name."""
    inner = file.scopes.inner[id(function)]
    parameters = [*function.args.posonlyargs, *function.args.args]
    value = ast.Constant(name)
    bindings = dict(inner.bindings)
    if parameters:
        bindings[parameters[0].arg] = [Binding("parameter", value, inner, value=value)]
    return Scope(inner.kind, inner.node, inner.parent, bindings, inner.global_names, inner.nonlocal_names)


def attached(file: CodeFile, name: str | None) -> Iterator[str]:
    """Give the modules that `lazy_loader.attach` of a module imports for a name; with `None` for all its names."""
    root = file.scopes.root
    for binding in root.bindings.get(HOOK, ()):
        call = getattr(binding.node, "value", None)
        if not isinstance(call, ast.Call):
            continue
        called = file.qualify(call.func, root) or ""
        if called == "lazy_loader.attach":
            table = _table(file, call)
        elif called == "lazy_loader.attach_stub":
            table = _stub_table(file)
        else:
            continue
        yield from (f"{file.package}.{module}" for given, module in table if name is None or given == name)


def _table(file: CodeFile, call: ast.Call) -> Iterator[tuple[str, str]]:
    """Give the names that `attach(__name__, submodules, submod_attrs)` makes, with their modules."""
    given = dict(zip(("package_name", "submodules", "submod_attrs"), call.args, strict=False))
    given.update({item.arg: item.value for item in call.keywords if item.arg})
    folder = file.folder(file.scopes.root)
    for values in folder.fold(given["submodules"]) if "submodules" in given else ():
        yield from ((name, name) for name in values or () if isinstance(name, str))
    for table in folder.fold(given["submod_attrs"]) if "submod_attrs" in given else ():
        for module, names in table.items() if isinstance(table, dict) else ():
            yield from ((name, module) for name in names)


def _stub_table(file: CodeFile) -> Iterator[tuple[str, str]]:
    try:
        stub = parse_file(f"{os.path.splitext(file.path)[0]}.pyi")
    except EnvpackError:
        return  # lazy_loader raises there, too: nothing is imported
    for node in stub.body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            yield from ((alias.asname or alias.name, node.module or alias.name) for alias in node.names)
