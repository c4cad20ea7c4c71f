"""What attributes of local modules, classes and objects are: the constants of a program, wherever they are written.

`settings.PARSER` for a local module `settings`, `from settings import PARSER`, `Settings.PARSER` for a class,
`Settings().parser`, and `options.parser` for `options = SimpleNamespace(parser="lxml")`.
"""

from __future__ import annotations

from collections.abc import Iterator

from envpack.discover.code import syntax as ast
from envpack.discover.code.scopes import Binding, Scope
from envpack.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envpack.discover.code.codefile import CodeFile

_MAX_DEPTH = 8
_MAX_PLACES = 16


@dataclass(frozen=True, slots=True)
class _Place:
    """Something that has attributes: a file or class by its scope, or what a call gives by its arguments."""

    file: CodeFile
    scope: Scope
    call: ast.Call | None = None


def attribute_values(file: CodeFile, node: ast.Attribute, scope: Scope) -> list[Any]:
    """Return the constants that an attribute can be."""
    found: list[Any] = []
    for place in _places(file, node.value, scope, 0):
        found += _values(place, node.attr)
    for binding in scope.lookup(node.value.id) if isinstance(node.value, ast.Name) else ():
        for target in getattr(binding.node, "targets", ()):
            if isinstance(target, ast.Attribute) and target.attr == node.attr and isinstance(binding.node, ast.Assign):
                found += file.folder(binding.scope).fold(binding.node.value)
    return found


def imported_values(file: CodeFile, binding: Binding) -> list[Any]:
    """Return the constants that a name can be that is imported from a local module."""
    if not isinstance(binding.node, ast.ImportFrom) or binding.alias is None:
        return []
    source = file.opened(file.absolute(binding.node))
    return name_values(source, binding.alias.name) if source is not None else []


def name_values(file: CodeFile, name: str) -> list[Any]:
    """Return the constants that a name of a module can be, one that a star import gives included."""
    return file.folder(file.scopes.root).fold(ast.Name(name, ast.Load()))


def expected_values(file: CodeFile, node: ast.Attribute) -> list[Any]:
    """Return what an option of the command line is where nobody gives it: `options.codec` after `add_argument`."""
    found: list[Any] = []
    for call, place in file.scopes.calls.get("add_argument", ()) if isinstance(node.value, ast.Name) else ():
        folder = file.folder(place)
        given = {item.arg: item.value for item in call.keywords}
        names = [text for one in call.args for text in folder.texts(one)]
        if node.attr in (folder.texts(given["dest"]) if "dest" in given else _destinations(names)):
            found += folder.fold(given["default"]) if "default" in given else []
            found += folder.elements(given["choices"]) if "choices" in given and not found else []
    return found


def _destinations(names: list[str]) -> list[str]:
    long = [name for name in names if name.startswith("--")] or names
    return [long[0].lstrip("-").replace("-", "_")] if long else []


def is_own_method(file: CodeFile, node: ast.Attribute, scope: Scope) -> bool:
    """Whether an attribute is one that a class of the program defines, on an object that is seen to be of it."""
    if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
        around: Scope | None = scope
        while around is not None and around.kind != "class":
            around = around.parent
        return around is not None and node.attr in around.bindings
    places = _places(file, node.value, scope, 0)
    return any(place.scope.kind == "class" and node.attr in place.scope.bindings for place in places)


def _values(place: _Place, name: str) -> list[Any]:
    if place.call is not None:
        for keyword in place.call.keywords:
            if keyword.arg == name:
                return place.file.folder(place.scope).fold(keyword.value)
        return []
    if name in place.scope.bindings or place.scope.kind == "module":
        found = place.file.folder(place.scope).fold(ast.Name(name, ast.Load()))
        if found or place.scope.kind == "module":
            return found
    return place.file.kept(place.scope, name)


def _places(file: CodeFile, node: ast.expr, scope: Scope, depth: int) -> Iterator[_Place]:
    """Give what an expression can be that has attributes."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(node, ast.Name):
        for binding in scope.lookup(node.id)[:_MAX_PLACES]:
            yield from _bound(file, binding, depth)
    elif isinstance(node, ast.Attribute):
        for place in _places(file, node.value, scope, depth + 1):
            for binding in place.scope.bindings.get(node.attr, ()) if place.call is None else ():
                yield from _bound(place.file, binding, depth)
            if place.scope.kind == "module" and (inner := place.file.opened(f"{place.file.module}.{node.attr}")):
                yield _Place(inner, inner.scopes.root)
    elif isinstance(node, ast.Call):
        yield _Place(file, scope, node)
        yield from _places(file, node.func, scope, depth + 1)


def _bound(file: CodeFile, binding: Binding, depth: int) -> Iterator[_Place]:
    if binding.kind == "import" and binding.alias is not None:
        yield from _imported(file, binding, depth)
    elif isinstance(binding.node, ast.ClassDef):
        yield _Place(file, file.scopes.inner[id(binding.node)])
        for base in binding.node.bases:
            yield from _places(file, base, binding.scope, depth + 1)
    elif binding.kind == "value" and binding.value is not None:
        yield from _places(file, binding.value, binding.scope, depth + 1)
    elif binding.kind == "element" and binding.value is not None and not binding.path:
        for element in _elements(binding.value, binding.scope):
            yield from _places(file, element, binding.scope, depth + 1)


def _elements(node: ast.expr, scope: Scope) -> Iterator[ast.expr]:
    """Give the objects in a list over which a loop runs."""
    lists = [one.value for one in scope.lookup(node.id)] if isinstance(node, ast.Name) else [node]
    for one in lists:
        if isinstance(one, ast.List | ast.Tuple):
            yield from one.elts[:_MAX_PLACES]


def _imported(file: CodeFile, binding: Binding, depth: int) -> Iterator[_Place]:
    assert binding.alias is not None
    name = binding.alias.name
    if isinstance(binding.node, ast.ImportFrom):
        module = file.absolute(binding.node)
        if source := file.opened(module):
            yield from _places(source, ast.Name(name, ast.Load()), source.scopes.root, depth + 1)
        name = f"{module}.{name}" if module else name
    elif not binding.alias.asname:
        name = name.partition(".")[0]
    if inner := file.opened(name):
        yield _Place(inner, inner.scopes.root)
