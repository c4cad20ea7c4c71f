"""One parsed source file, with what the names in it stand for.

A `CodeFile` knows its scopes and can say which dotted name an expression refers to (`qualify`) and which constants it
folds to (`folder`).
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from typing import Any

from envpack.discover.constants import Folder
from envpack.discover.finder import ModuleFinder
from envpack.discover.guards import Alternatives, Works
from envpack.discover.scopes import Scope, ScopeTree, build_scopes
from envpack.discover.source import parse_file


class CodeFile:
    """One parsed source file.

    Args:
        path: absolute path.
        module: dotted name as which it is imported; `__main__` for the script.
        package: the package that relative imports start from; empty if there is none.
        finder: says where the modules are that it imports.
    """

    def __init__(self, path: str, module: str, package: str, finder: ModuleFinder) -> None:
        self.path = path
        self.module = module
        self.package = package
        self.tree = parse_file(path)
        self._finder = finder
        self._facts = _facts(path, module, package, finder)
        self.scopes: ScopeTree = build_scopes(self.tree, self._truth, Alternatives(self._probe))

    def absolute(self, node: ast.ImportFrom) -> str:
        """Return the absolute name of the module that a `from` statement names."""
        if not node.level:
            return node.module or ""
        parts = self.package.split(".") if self.package else []
        kept = parts[: len(parts) - (node.level - 1)] if node.level > 1 else parts
        return ".".join([*kept, *([node.module] if node.module else [])])

    def imported(self, node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
        """Return the module that one part of an import statement loads."""
        if isinstance(node, ast.Import):
            return alias.name
        base = self.absolute(node)
        if alias.name == "*":
            return base
        # A name in a package is a module of its own if there is a file for it, else an attribute.
        inner = f"{base}.{alias.name}" if base else alias.name
        above = self._finder.find(base) if base else None
        if above is not None and (not above.folders or above.kind == "stdlib"):
            return base
        found = self._finder.find(inner)
        return base if found.kind == "missing" and above is not None and above.kind != "namespace" else inner

    def qualify(self, node: ast.expr, scope: Scope) -> str | None:
        """Return the dotted name that an expression refers to through imports, or `None`."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        bindings = scope.lookup(node.id)
        base = node.id
        if bindings:
            imports = [item for item in bindings if item.kind == "import"]
            if not imports:
                return None
            statement, alias = imports[0].node, imports[0].alias
            assert alias is not None
            if isinstance(statement, ast.ImportFrom):
                base = f"{self.absolute(statement)}.{alias.name}"
            else:
                base = alias.name if alias.asname else alias.name.partition(".")[0]
        return ".".join([base, *reversed(parts)])

    def folder(self, scope: Scope) -> Folder:
        """Return what folds expressions of a scope to constants."""
        return Folder(lambda name: self._values(scope, name), self._facts, lambda node: self.qualify(node, scope))

    def _values(self, scope: Scope, name: str) -> Iterator[ast.expr]:
        yield from _values(scope, name)
        yield from self._passed(scope, name)

    def _passed(self, scope: Scope, name: str) -> Iterator[ast.expr]:
        """Give the constants that calls in this file pass for a parameter."""
        owner: Scope | None = scope
        while owner is not None and name not in owner.bindings:
            owner = owner.parent
        function = owner.node if owner is not None else None
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        positional = [parameter.arg for parameter in (*function.args.posonlyargs, *function.args.args)]
        for call in self.scopes.calls.get(function.name, ()):
            passed = [*zip(positional, call.args, strict=False), *((item.arg, item.value) for item in call.keywords)]
            # Only constants: another expression would have to be folded where the call stands.
            yield from (value for key, value in passed if key == name and isinstance(value, ast.Constant))

    def _truth(self, test: ast.expr, scope: Scope) -> bool | None:
        if isinstance(test, ast.Name | ast.Attribute) and _last(test) == "TYPE_CHECKING":
            return False
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) and _last(test.operand) == "TYPE_CHECKING":
            return True
        folder = Folder(lambda name: _settled(scope, name), self._facts, lambda node: self.qualify(node, scope))
        values = {bool(value) for value in folder.fold(test)}
        return values.pop() if len(values) == 1 else None

    def _probe(self, node: ast.Import | ast.ImportFrom) -> Works:
        kinds = [self._finder.find(self.imported(node, alias)).kind for alias in node.names]
        if "missing" in kinds:
            return Works.NEVER
        return Works.INSTALLED if "distribution" in kinds else Works.ALWAYS


def _facts(path: str, module: str, package: str, finder: ModuleFinder) -> dict[str, Any]:
    interpreter = finder.interpreter
    markers = dict(interpreter.markers)
    return {
        "sys.version_info": (*interpreter.version_info, "final", 0),
        "sys.platform": markers.get("sys_platform", "linux"),
        "sys.implementation.name": interpreter.implementation,
        "os.name": markers.get("os_name", "posix"),
        "platform.system()": markers.get("platform_system", "Linux"),
        "platform.machine()": markers.get("platform_machine", ""),
        "platform.python_implementation()": markers.get("platform_python_implementation", "CPython"),
        "six.PY2": False,
        "six.PY3": True,
        "typing.TYPE_CHECKING": False,
        "os.getcwd()": os.path.dirname(path),
        "os.sep": os.sep,
        "__file__": path,
        "__name__": module,
        "__package__": package,
        "__debug__": True,
    }


def _values(scope: Scope, name: str) -> Iterator[ast.expr]:
    """Give the expressions that a name can stand for; for a loop variable those over which it runs."""
    for binding in scope.lookup(name):
        if binding.kind == "element":
            if isinstance(binding.value, ast.Tuple | ast.List | ast.Set):
                yield from binding.value.elts
        elif binding.value is not None:
            yield binding.value


def _settled(scope: Scope, name: str) -> Iterator[ast.expr]:
    # A plain `DEBUG = False` is a switch that somebody may set; `PY3 = sys.version_info[0] == 3` is not.
    found = scope.lookup(name)
    if len(found) == 1 and found[0].kind == "value" and not isinstance(found[0].value, ast.Constant | type(None)):
        assert found[0].value is not None
        yield found[0].value


def _last(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
