"""What callers pass and constructors keep: the constants that a parameter or an attribute of `self` can be.

`def load(name): import_module(name)` with `load("yaml")` anywhere in the program, and `Lazy("yaml")` for a class that
keeps the name in an attribute. An argument is folded where the call stands. All values that are seen count. A
function that is handed to another one is called, too: `map(load, NAMES)`, `pool.submit(load, "yaml")`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

from envpack.discover.code import syntax as ast
from envpack.discover.code.nodes import call_at, last_name
from envpack.discover.code.scopes import FunctionNode, Scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envpack.discover.code.codefile import CodeFile

_MAX_CALLS = 200
_MAX_VALUES = 64
# They call a function that they are given: once for each element, or with the arguments that follow it.
_FOR_EACH = ("map", "imap", "imap_unordered", "starmap", "filter")
_LATER = ("partial", "partialmethod", "submit", "apply_async", "run_in_executor", "to_thread", "delayed")
_TARGETS = ("Thread", "Process")
HANDED = (*_FOR_EACH, *_LATER, *_TARGETS, "register")
_MAX_PARAMETERS = 8


class Callers:
    """Knows the calls in some files.

    Args:
        file: the file whose parameters and attributes are asked about.
        files: all files of the program.
    """

    def __init__(self, file: CodeFile, files: Collection[CodeFile]) -> None:
        self._file = file
        self._files = files
        # What is being folded: a call in the function that it calls would never end.
        self._active: set[tuple[int, str]] = set()
        self._known: dict[tuple[int, str, int], list[Any]] = {}

    def passed(self, scope: Scope, name: str) -> list[Any]:
        """Return the constants that calls pass for a parameter."""
        owner: Scope | None = scope
        while owner is not None and name not in owner.bindings:
            owner = owner.parent
        function = owner.node if owner is not None else None
        if owner is None or not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            return []
        return self._once(function, name, self._arguments(function, owner, name))

    def kept(self, scope: Scope, name: str) -> list[Any]:
        """Return the constants that an attribute of `self` can be, in a method."""
        owner = _class_around(scope)
        if owner is None:
            return []
        return self._once(owner.node, name, self._members(owner, name))

    def _once(self, node: ast.AST, name: str, values: Iterator[Any]) -> list[Any]:
        key = (id(node), name)
        known = (*key, len(self._files))  # more files may hold more calls
        if key in self._active:
            return []
        if known not in self._known:
            self._active.add(key)
            try:
                self._known[known] = list(itertools.islice(values, _MAX_VALUES))
            finally:
                self._active.discard(key)
        return self._known[known]

    def _arguments(self, function: FunctionNode, owner: Scope, name: str) -> Iterator[Any]:
        positional = [parameter.arg for parameter in (*function.args.posonlyargs, *function.args.args)]
        around = owner.parent
        in_class = around is not None and isinstance(around.node, ast.ClassDef)
        if in_class and not _is_static(function):
            positional = positional[1:]
        if in_class and function.name == "__init__":
            assert around is not None
            calls = self._calls_of_class(around)
        elif in_class:
            assert around is not None
            calls = self._calls_of_method(function, around)
        else:
            calls = self._calls_of(function.name, owner.parent)
        rest = [one.arg if one is not None else "" for one in (function.args.vararg, function.args.kwarg)]
        for file, call, place in calls:
            if name in rest:
                yield from _gathered(file, call, place, positional, is_named=name == rest[1])
            else:
                yield from _folded(file, call, place, positional, name)
        yield from self._options(function, owner, name)

    def _options(self, function: FunctionNode, owner: Scope, name: str) -> Iterator[Any]:
        """Give the defaults of `@click.option("--name", default="yaml")`."""
        for decorator in function.decorator_list:
            if isinstance(decorator, ast.Call) and last_name(decorator.func) in ("option", "argument"):
                folder = self._file.folder(owner.parent or owner)
                texts = [text for one in decorator.args for text in folder.texts(one)]
                defaults = [item.value for item in decorator.keywords if item.arg == "default"]
                if name in {text.lstrip("-").replace("-", "_") for text in texts}:
                    yield from (value for default in defaults for value in folder.fold(default))

    def _calls_of(self, name: str, around: Scope | None) -> Iterator[tuple[CodeFile, ast.Call, Scope]]:
        """Give the calls of a function or class: by its plain name here, by its full name in other files."""
        for call, place in self._file.scopes.calls.get(name, ())[:_MAX_CALLS]:
            if isinstance(call.func, ast.Name):
                yield self._file, call, place
        for call, place in _handed_calls(self._file, name):
            if isinstance(call.func, ast.Name):
                yield self._file, call, place
        if around is None or around.kind != "module":
            return
        full = f"{self._file.module}.{name}"
        for file in list(self._files):  # what follows from a call may read more files
            # A module that is imported from another one may be named as that gives it on: `pkg.load` for `pkg.io.load`.
            seen = [*file.scopes.calls.get(name, ())[:_MAX_CALLS], *_handed_calls(file, name)]
            for call, place in seen if file is not self._file else ():
                qualified = file.qualify(call.func, place) or ""
                if qualified == full or full.startswith(f"{qualified.rpartition('.')[0]}."):
                    yield file, call, place

    def _calls_of_class(self, owner: Scope) -> Iterator[tuple[CodeFile, ast.Call, Scope]]:
        assert isinstance(owner.node, ast.ClassDef)
        for one in (owner, *self._subclasses(owner)):
            assert isinstance(one.node, ast.ClassDef)
            if one is owner or "__init__" not in one.bindings:
                yield from self._calls_of(one.node.name, one.parent)
        for call, place in self._file.scopes.calls.get("__init__", ()):
            around = _class_around(place)
            if around is not None and around in self._subclasses(owner):
                yield self._file, call, place

    def _calls_of_method(self, function: FunctionNode, owner: Scope) -> Iterator[tuple[CodeFile, ast.Call, Scope]]:
        names = {one.node.name for one in (owner, *self._subclasses(owner)) if isinstance(one.node, ast.ClassDef)}
        handed = list(_handed_calls(self._file, function.name))
        for call, place in (*self._file.scopes.calls.get(function.name, ())[:_MAX_CALLS], *handed):
            # `short = partialmethod(load, "yaml")` stands in the class itself.
            is_inside = place is owner and isinstance(call.func, ast.Name)
            if is_inside or (isinstance(call.func, ast.Attribute) and _is_one_of(call.func.value, place, names)):
                yield self._file, call, place

    def _members(self, owner: Scope, name: str) -> Iterator[Any]:
        for one in (owner, *self._bases(owner), *self._subclasses(owner)):
            for binding in one.bindings.get(name, ()):
                if binding.value is not None:
                    yield from self._file.folder(one).fold(binding.value)
                else:
                    yield from self._file.results(binding)
            for value, place in self._file.members.get(id(one.node), {}).get(name, ()):
                yield from self._file.folder(place).fold(value)
        fields = _fields(owner.node)
        if name in fields:
            assert isinstance(owner.node, ast.ClassDef)
            for file, call, place in self._calls_of(owner.node.name, owner.parent):
                yield from _folded(file, call, place, fields, name)

    def _subclasses(self, owner: Scope) -> list[Scope]:
        assert isinstance(owner.node, ast.ClassDef)
        known = self._file.classes
        return [one for one in known if one is not owner and owner.node.name in _base_names(one)]

    def _bases(self, owner: Scope) -> list[Scope]:
        names = _base_names(owner)
        return [one for one in self._file.classes if isinstance(one.node, ast.ClassDef) and one.node.name in names]


def _handed_calls(file: CodeFile, name: str) -> Iterator[tuple[ast.Call, Scope]]:
    """Give the calls of a function that others make to which it is handed, as if they were written out."""
    known = file.scopes.calls
    for caller in HANDED:
        for call, place in known.get(caller, ())[:_MAX_CALLS]:
            yield from ((one, place) for one in handed_calls(call) if last_name(one.func) == name)


def handed_calls(call: ast.Call) -> Iterator[ast.Call]:
    """Give the calls that one makes of the functions that it is given; its own name is one of `HANDED`."""
    given = [*call.args, *(item.value for item in call.keywords if item.arg in ("target", "func"))]
    for position, function in enumerate(given[:2]):
        if isinstance(function, ast.Name | ast.Attribute):
            yield _written_out(last_name(call.func), call, function, position)


def _written_out(caller: str, call: ast.Call, function: ast.expr, position: int) -> ast.Call:
    if caller in _TARGETS:
        given = next((item.value for item in call.keywords if item.arg == "args"), None)
        return call_at(call, function, given.elts if isinstance(given, ast.Tuple | ast.List) else [], [])
    passed = call.args[position + 1 :]
    if caller not in _FOR_EACH:
        return call_at(call, function, passed, call.keywords)
    # An entry of which nobody says which one it is: any.
    elements: list[ast.expr] = [ast.Subscript(one, ast.Name("", ast.Load()), ast.Load()) for one in passed]
    if caller == "starmap":
        places = map(ast.Constant, range(_MAX_PARAMETERS))
        elements = [ast.Subscript(one, place, ast.Load()) for one in elements[:1] for place in places]
    return call_at(call, function, elements, [])


def _folded(file: CodeFile, call: ast.Call, place: Scope, positional: list[str], name: str) -> Iterator[Any]:
    passed = [*zip(positional, call.args, strict=False), *((item.arg, item.value) for item in call.keywords)]
    for key, value in passed:
        if key == name:
            yield from file.folder(place).fold(value)


def _gathered(file: CodeFile, call: ast.Call, place: Scope, positional: list[str], *, is_named: bool) -> Iterator[Any]:
    """Give what `*arguments` or `**keywords` of a function hold in a call; what is not known is left out."""
    folder = file.folder(place)
    if is_named:
        named = {item.arg: folder.fold(item.value) for item in call.keywords if item.arg not in (None, *positional)}
        yield {name: values[0] for name, values in named.items() if values}
    else:
        several = [folder.fold(one) for one in call.args[len(positional) :]]
        yield tuple(values[0] for values in several if values)


def _class_around(scope: Scope) -> Scope | None:
    one: Scope | None = scope
    while one is not None and one.kind != "class":
        one = one.parent
    return one


def _base_names(scope: Scope) -> set[str]:
    bases = scope.node.bases if isinstance(scope.node, ast.ClassDef) else []
    return {base.id for base in bases if isinstance(base, ast.Name)}


def _is_one_of(node: ast.expr, scope: Scope, classes: set[str]) -> bool:
    """Whether an expression is seen to be one of some classes, or an object of one."""
    if isinstance(node, ast.Call):
        node = node.func
    if not isinstance(node, ast.Name):
        return False
    if node.id in classes or node.id in ("self", "cls"):
        return True
    values = (binding.value for binding in scope.lookup(node.id))
    return any(isinstance(one, ast.Call) and getattr(one.func, "id", "") in classes for one in values)


def _is_static(function: FunctionNode) -> bool:
    return any(isinstance(one, ast.Name) and one.id == "staticmethod" for one in function.decorator_list)


def _fields(node: ast.AST) -> list[str]:
    """Return the fields of a data class or a named tuple, in their order."""
    if not isinstance(node, ast.ClassDef):
        return []
    marks = [*node.decorator_list, *node.bases]
    names = {last_name(mark.func if isinstance(mark, ast.Call) else mark) for mark in marks}
    if not names & {"dataclass", "define", "frozen", "attrs", "NamedTuple", "BaseModel"}:
        return []
    inner = [one.target for one in node.body if isinstance(one, ast.AnnAssign)]
    return [target.id for target in inner if isinstance(target, ast.Name)]
