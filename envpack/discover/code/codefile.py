"""One parsed source file, with what the names in it stand for.

A `CodeFile` knows its scopes and can say which dotted name an expression refers to (`qualify`) and which constants it
folds to (`folder`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from functools import cached_property, partial

from envpack.discover.code import syntax as ast
from envpack.discover.code.callers import Callers
from envpack.discover.code.constants import Folder
from envpack.discover.code.guards import Alternatives, Works
from envpack.discover.code.ini import configured_values
from envpack.discover.code.members import attribute_values, expected_values, imported_values, name_values
from envpack.discover.code.nodes import all_nodes, last_name
from envpack.discover.code.registers import fill_tables
from envpack.discover.code.scopebuilder import build_scopes
from envpack.discover.code.scopes import Binding, Scope, ScopeTree
from envpack.discover.code.source import parse_file
from envpack.discover.code.unreachable import drop_unreachable
from envpack.discover.environment.finder import ModuleFinder
from envpack.discover.substitutes import unguarded_uses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_RETURNS = 16

Opened = Callable[[str], "CodeFile | None"]


class CodeFile:
    """One parsed source file.

    Args:
        path: absolute path.
        module: dotted name as which it is imported; `__main__` for the script.
        package: the package that relative imports start from; empty if there is none.
        finder: says where the modules are that it imports.
        files: all files of the program, this one included; more may come.
        opened: gives the local module of a name, or `None` where there is none that can be read.
    """

    def __init__(
        self,
        path: str,
        module: str,
        package: str,
        finder: ModuleFinder,
        files: Collection[CodeFile] = (),
        opened: Opened = lambda module: None,
    ) -> None:
        self.path = path
        self.module = module
        self.package = package
        self.tree = drop_unreachable(parse_file(path))
        self._finder = finder
        self._facts = _facts(path, module, package, finder)
        self._callers = Callers(self, files)
        # The loops whose elements are being folded: one that runs over itself would never end.
        self._active: set[int] = set()
        # Names whose constants in other files are being folded: two modules may import each other.
        self._asked: set[int] = set()
        self.opened = opened
        self.scopes: ScopeTree = build_scopes(self.tree, self._truth, Alternatives(self._probe))
        fill_tables(self.scopes)

    def adopted(self, finder: ModuleFinder, files: Collection[CodeFile], opened: Opened) -> CodeFile:
        """Return the same file for another program with the same search path: what callers pass is not shared."""
        other = CodeFile.__new__(CodeFile)
        other.__dict__.update(self.__dict__)
        other.opened = opened
        other._finder = finder
        other._callers = Callers(other, files)
        other._active = set()
        other._asked = set()
        return other

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
        return Folder(
            lambda name: self._values(scope, name),
            self._facts,
            lambda node: self.qualify(node, scope),
            lambda name: self._callers.kept(scope, name),
            lambda node: self._once(node, partial(attribute_values, self, node, scope)),
            nested=lambda node: self.folder(self.scopes.inner[id(node)]) if id(node) in self.scopes.inner else None,
            content=lambda node: self._once(node, partial(self._read, node, scope)),
            expected=lambda node: self._once(node, partial(expected_values, self, node)),
            module=lambda node: self._module_facts(node, scope),
            returned=lambda node: self._once(node, partial(self._results, node, scope)),
        )

    @cached_property
    def unguarded(self) -> set[int]:
        """The identities of names that are used without asking whether their import has worked."""
        tree = self.scopes
        return (
            unguarded_uses(self.tree, tree.forgiven, lazy_annotations=tree.lazy_annotations) if tree.forgiven else set()
        )

    @cached_property
    def classes(self) -> list[Scope]:
        """The scopes of its classes."""
        return [scope for scope in self.scopes.inner.values() if scope.kind == "class"]

    @cached_property
    def class_names(self) -> frozenset[str]:
        """The names of its classes."""
        return frozenset(scope.node.name for scope in self.classes if isinstance(scope.node, ast.ClassDef))

    @cached_property
    def aliases(self) -> dict[str, str]:
        """The library that each imported name comes from, wherever the import stands, also where only types count."""
        found: dict[str, str] = {}
        for node in all_nodes(self.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    module = alias.name if isinstance(node, ast.Import) else self.absolute(node)
                    name = alias.asname or alias.name
                    found[name.partition(".")[0] if isinstance(node, ast.Import) else name] = module.partition(".")[0]
        return found

    @cached_property
    def members(self) -> dict[int, dict[str, list[tuple[ast.expr, Scope]]]]:
        """What methods assign to attributes of `self`, with their scopes, by the identity of the class's node."""
        found: dict[int, dict[str, list[tuple[ast.expr, Scope]]]] = {}
        for scope in self.scopes.inner.values():
            around = scope.parent.node if scope.parent is not None else None
            if isinstance(scope.node, ast.FunctionDef) and isinstance(around, ast.ClassDef):
                for statement in all_nodes(scope.node):
                    if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                        for target in targets:
                            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                                names = found.setdefault(id(around), {})
                                names.setdefault(target.attr, []).append((statement.value, scope))
        return found

    def _values(self, scope: Scope, name: str) -> Iterator[ast.expr]:
        found = scope.lookup(name)
        for binding in found:
            if binding.kind == "element":
                yield from map(ast.Constant, self._elements(binding))
            elif binding.kind == "import":
                yield from map(ast.Constant, self._once(binding, partial(imported_values, self, binding)))
            elif binding.value is not None:
                yield binding.value
                yield from map(ast.Constant, self._once(binding, partial(self._configured, binding, name)))
            elif isinstance(binding.node, ast.Expr):
                yield from _added(binding.node.value)
        for star in reversed(self.scopes.root.stars) if not found else ():
            source = self.opened(self.absolute(star))
            if source is not None:
                yield from map(ast.Constant, self._once(star, partial(name_values, source, name)))
        yield from map(ast.Constant, self._callers.passed(scope, name))

    def _configured(self, binding: Binding, name: str) -> list[Any]:
        value = binding.value
        if not isinstance(value, ast.Call) or "configparser" not in self.aliases.values():
            return []
        return list(configured_values(self, name, value, self.qualify(value.func, binding.scope)))

    def contents(self, node: ast.expr, scope: Scope) -> list[Any]:
        """Return the texts of the files that an expression names."""
        return self._read(node, scope)

    def _read(self, node: ast.expr, scope: Scope) -> list[Any]:
        from envpack.discover.loads.opened import opened_texts  # both know this module
        from envpack.discover.loads.values import CallSite

        return opened_texts(CallSite("", ast.Call(node, [], []), scope, self), node)

    def _results(self, node: ast.Call, scope: Scope) -> list[Any]:
        """Return the constants that a function or method of this file returns."""
        if isinstance(node.func, ast.Name):
            return [value for one in scope.lookup(node.func.id) for value in self.results(one)]
        if isinstance(node.func, ast.Attribute) and last_name(node.func.value) in ("self", "cls"):
            return self._callers.kept(scope, node.func.attr)
        return []

    def kept(self, scope: Scope, name: str) -> list[Any]:
        """Return the constants that an attribute of the objects of a class can be."""
        return self._callers.kept(scope, name)

    def results(self, binding: Binding) -> list[Any]:
        """Return the constants that the function returns which a name is bound to."""
        function = binding.node if binding.kind == "definition" else binding.value
        if isinstance(function, ast.Lambda):
            return self.folder(self.scopes.inner[id(function)]).fold(function.body)
        if not isinstance(function, ast.FunctionDef):
            return []
        inner = self.scopes.inner[id(function)]
        returned = [one.value for one in all_nodes(function) if isinstance(one, ast.Return) and one.value is not None]
        return [value for one in returned[:_MAX_RETURNS] for value in self.folder(inner).fold(one)]

    def _module_facts(self, node: ast.Attribute, scope: Scope) -> list[Any]:
        """Return what `package.__name__` and `package.__path__` are."""
        name = (self.qualify(node.value, scope) or "") if node.attr in ("__name__", "__path__") else ""
        found = self._finder.find(name) if name else None
        if found is None or found.kind == "missing":
            return []
        return [name] if node.attr == "__name__" else [tuple(found.folders)]

    def _once(self, asked: object, values: Callable[[], list[Any]]) -> list[Any]:
        """Return values that other files give, and none where they ask back."""
        if id(asked) in self._asked:
            return []
        self._asked.add(id(asked))
        try:
            return values()
        finally:
            self._asked.discard(id(asked))

    def _elements(self, binding: Binding) -> Iterator[Any]:
        """Give the constants over which a loop runs, or of each the part that the name takes."""
        if binding.value is None or id(binding) in self._active:
            return
        self._active.add(id(binding))
        try:
            folded = self.folder(binding.scope).elements(binding.value) or self._enumerated(binding)
        finally:
            self._active.discard(id(binding))
        for element in folded:
            try:
                for position in binding.path:
                    element = element[position]
            except (LookupError, TypeError):
                continue
            yield element

    def _enumerated(self, binding: Binding) -> list[Any]:
        """Return what a loop over a class meets: the values of an enumeration."""
        found = binding.scope.lookup(binding.value.id) if isinstance(binding.value, ast.Name) else []
        classes = [self.scopes.inner[id(one.node)] for one in found if isinstance(one.node, ast.ClassDef)]
        values = [one for scope in classes for several in scope.bindings.values() for one in several]
        return [text for one in values if one.value is not None for text in self.folder(one.scope).fold(one.value)]

    def _truth(self, test: ast.expr, scope: Scope) -> bool | None:
        if isinstance(test, ast.Name | ast.Attribute) and last_name(test) == "TYPE_CHECKING":
            return False
        if (
            isinstance(test, ast.UnaryOp)
            and isinstance(test.op, ast.Not)
            and last_name(test.operand) == "TYPE_CHECKING"
        ):
            return True
        folder = Folder(lambda name: _settled(scope, name), self._facts, lambda node: self.qualify(node, scope))
        return folder.settled(test)

    def _probe(self, node: ast.Import | ast.ImportFrom) -> int:
        kinds = [self._finder.find(self.imported(node, alias)).kind for alias in node.names]
        if "missing" in kinds:
            return Works.NEVER
        return Works.INSTALLED if "distribution" in kinds else Works.ALWAYS


def _facts(path: str, module: str, package: str, finder: ModuleFinder) -> dict[str, Any]:
    interpreter = finder.interpreter
    markers = dict(interpreter.markers)
    return {
        "sys.version_info": (*interpreter.version_info, "final", 0),
        "sys.hexversion": _hexversion(interpreter.version_info),
        "sys.platform": markers.get("sys_platform", "linux"),
        "sys.implementation.name": interpreter.implementation,
        "os.name": markers.get("os_name", "posix"),
        "platform.system()": markers.get("platform_system", "Linux"),
        "platform.machine()": markers.get("platform_machine", ""),
        "platform.python_implementation()": markers.get("platform_python_implementation", "CPython"),
        "six.PY2": False,
        "six.PY3": True,
        "typing.TYPE_CHECKING": False,
        "sys.executable": "{sys.executable}",
        "os.getcwd()": os.path.dirname(path),
        "os.sep": os.sep,
        "__file__": path,
        "__name__": module,
        "__package__": package,
        "__path__": (os.path.dirname(path),),
        "__debug__": True,
    }


def _added(node: ast.expr) -> Iterator[ast.expr]:
    """Give as lists what `NAMES.append("a")` and `NAMES.extend(["a"])` add to what a name holds."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        if node.func.attr in ("append", "add", "appendleft", "insert"):
            yield ast.List([node.args[-1]], ast.Load())
        elif node.func.attr in ("extend", "update"):
            yield node.args[0]


def _settled(scope: Scope, name: str) -> Iterator[ast.expr]:
    # A plain `DEBUG = False` is a switch that somebody may set; `PY3 = sys.version_info[0] == 3` is not.
    found = scope.lookup(name)
    if len(found) == 1 and found[0].kind == "value" and not isinstance(found[0].value, ast.Constant | type(None)):
        assert found[0].value is not None
        yield found[0].value


def _hexversion(version: tuple[int, ...]) -> int:
    major, minor, micro = version[:3]
    return (major << 24) | (minor << 16) | (micro << 8) | 0xF0
