"""Hidden dependencies: what libraries import only because of how the reached code uses them.

While the code is walked, `Uses` notes each use that a trigger names. What that means is decided at the end, when it is
known which libraries the program imports: `frame.to_excel(...)` counts only where pandas is one of them. Of a
parameter, an annotation may say so, or the imports of its file.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from envpack.discover.code import syntax as ast
from envpack.discover.code.codefile import CodeFile
from envpack.discover.code.constants import Edges
from envpack.discover.code.members import is_own_method
from envpack.discover.code.nodes import call_at
from envpack.discover.code.scopes import Scope
from envpack.discover.hidden.hints import annotated_libraries
from envpack.discover.hidden.triggers import Case, Given, Trigger, alternatives, triggers_by_name
from envpack.values import dataclass

_MAX_ORIGIN_DEPTH = 8
_TABLES = frozenset(
    {"pandas", "polars", "pyarrow", "dask", "xarray", "geopandas", "modin", "cudf", "duckdb", "astropy"}
)
_SHARED_NAMES = frozenset(
    {
        *("to_numpy", "to_pandas", "to_arrow", "to_parquet", "to_csv", "to_json", "to_pickle", "to_xarray", "astype"),
        *("get", "post", "put", "patch", "delete", "head", "options", "request", "apply", "agg", "mean", "sum", "std"),
        *("var", "query", "eval", "interpolate", "rolling", "corr", "transform", "aggregate", "chunk", "read", "write"),
    }
)


@dataclass(frozen=True, slots=True)
class Need:
    """What one use needs.

    Attributes:
        groups: groups of modules, of which the first that is installed is imported.
        by: what was used, for messages.
        file: absolute path of the source file.
        line: line in it; 0 where the importing statement says it.
        is_certain: whether nothing had to be assumed.
        is_optional: whether the program goes on without it.
    """

    groups: tuple[tuple[str, ...], ...]
    by: str
    file: str
    line: int
    is_certain: bool
    is_optional: bool


@dataclass(frozen=True, slots=True)
class _Use:
    trigger: Trigger
    by: str
    file: CodeFile
    scope: Scope
    line: int
    call: ast.Call | None
    is_known: bool
    is_optional: bool
    is_suggested: bool


class Uses:
    """Collects the uses that may have hidden dependencies."""

    def __init__(self) -> None:
        self._table = triggers_by_name()
        self._uses: list[_Use] = []
        self._called: set[int] = set()
        self._names: dict[tuple[int, str], str] = {}

    def call(self, node: ast.Call, scope: Scope, file: CodeFile) -> None:
        """Note a call."""
        if self._last(node.func, scope) == "partial" and node.args and _is_partial(node.func, scope, file):
            node = call_at(node, node.args[0], node.args[1:], node.keywords)
        self._called.add(id(node.func))
        self._note(node.func, "", node, scope, file)

    def mention(self, node: ast.Name | ast.Attribute, scope: Scope, file: CodeFile) -> bool:
        """Note a name or attribute; what is called has been noted as a call.

        Returns:
            Whether a trigger has the last part of its name.
        """
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            if inner.attr in self._table and id(inner) not in self._called:
                self._note(inner, "", None, scope, file)
            inner = inner.value
        if id(inner) not in self._called:
            self._note(inner, "", None, scope, file)
        return self._last(node, scope) in self._table

    def assignment(self, node: ast.Assign, scope: Scope, file: CodeFile) -> None:
        """Note an assignment as a call of its target."""
        for target in node.targets:
            place, entry = target, ""
            if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                place, entry = target.value, f"[{target.slice.value!s}]"
            if isinstance(place, ast.Attribute) or (entry and isinstance(place, ast.Name)):
                call = call_at(node, place, [node.value], [])
                self._note(place, entry, call, scope, file)

    def _note(self, node: ast.expr, entry: str, call: ast.Call | None, scope: Scope, file: CodeFile) -> None:
        # Looked up by the last part of the name first: nearly everything ends here.
        for trigger in self._table.get(self._last(node, scope) + entry, ()):
            if trigger.reached == "import" or not isinstance(node, ast.Name | ast.Attribute):
                continue
            qualified = file.qualify(node, scope)
            dotted = (qualified if qualified is not None else _attributes(node)) + entry
            if not any(f".{dotted}".endswith(f".{name}") for name in trigger.names):
                continue
            if trigger.inside and not _is_inside(trigger, scope, file):
                continue
            is_known = qualified is not None and qualified.partition(".")[0] == trigger.library
            if is_known or (trigger.reached == "method" and _may_be(trigger, node, qualified, scope, file)):
                optional = file.scopes.kinds.get(id(call), "static") == "optional"
                hinted = not is_known and _is_suggested(trigger, node, scope, file)
                by = f"{trigger.library}: {dotted}"
                self._uses.append(_Use(trigger, by, file, scope, node.lineno, call, is_known, optional, hinted))

    def _last(self, node: ast.expr, scope: Scope) -> str:
        """Return the last part of a dotted name as it was imported: `read` for `r` of `from a import read as r`."""
        if isinstance(node, ast.Attribute):
            return node.attr
        if not isinstance(node, ast.Name):
            return ""
        # Once per scope: a name that is assigned and used a thousand times would otherwise cost a million steps.
        key = (id(scope), node.id)
        known = self._names.get(key)
        if known is None:
            found = (
                item.alias.name
                for item in scope.lookup(node.id)
                if isinstance(item.node, ast.ImportFrom) and item.alias
            )
            known = self._names[key] = next(found, node.id)
        return known

    def needs(self, imported: Set[str], whole: Set[str]) -> Iterator[Need]:
        """Give what the uses need.

        Args:
            imported: the modules that the reached code imports.
            whole: the files of which all code is reached: no object comes there from a library that is not imported.
        """
        libraries = {module.partition(".")[0] for module in imported}
        chosen = [
            (use, case, is_settled)
            for use in self._uses
            if use.trigger.library in libraries or (use.is_suggested and use.file.path not in whole)
            for case, is_settled in _cases(use)
            if case.when is not None or not libraries.intersection(use.trigger.without)
        ]
        settings = {use.trigger.sets for use, case, _ in chosen if case.needs}
        for use, case, is_settled in chosen:
            if case.needs and (not use.trigger.unless_set or use.trigger.unless_set not in settings):
                groups = tuple(map(tuple, alternatives(case.needs)))
                if use.trigger.library not in libraries:
                    # An object of the library arrives as an argument, and cannot be unpickled without it.
                    yield Need(((use.trigger.library,),), use.by, use.file.path, use.line, False, use.is_optional)
                yield Need(groups, use.by, use.file.path, use.line, use.is_known and is_settled, use.is_optional)

    def needs_of_import(self, module: str) -> Iterator[tuple[tuple[str, ...], ...]]:
        """Give the groups of modules that the import of a module imports in turn."""
        parts = module.split(".")
        for length in range(1, len(parts) + 1):
            for trigger in self._table.get(".".join(parts[:length]), ()):
                if trigger.reached == "import":
                    yield from (tuple(map(tuple, alternatives(case.needs))) for case in trigger.cases)


def _is_partial(node: ast.expr, scope: Scope, file: CodeFile) -> bool:
    return file.qualify(node, scope) in ("functools.partial", "partial")


def _cases(use: _Use) -> Iterator[tuple[Case, bool]]:
    """Give the cases that hold, and whether that is settled by constants alone."""
    decides = ""
    is_settled = True
    for case in use.trigger.cases:
        if case.when is None:
            if not decides:
                yield case, is_settled
        elif not decides or decides == case.when.keyword:
            values = _values(use, case.when)
            is_settled = is_settled and values is not None and len(values) <= 1
            if _is_bare(case.when) and values is None and use.call is not None:
                decides = case.when.keyword
                yield case, False
            elif any(_holds(case.when, value) for value in values or ()):
                decides = case.when.keyword
                yield case, is_settled


def _values(use: _Use, given: Given) -> list[object] | None:
    """Return what an argument can be, texts of which only the ends are known as pairs; `None` if nothing is known."""
    if use.call is None:
        return None
    folder = use.file.folder(use.scope)
    for keyword in use.call.keywords:
        if keyword.arg is None:
            boxes = folder.fold(keyword.value)
            found = [box[given.keyword] for box in boxes if isinstance(box, dict) and given.keyword in box]
            if found or not boxes:
                return found or None
    node = next((item.value for item in use.call.keywords if item.arg == given.keyword), None)
    if node is None and given.position is not None and given.position < len(use.call.args):
        node = use.call.args[given.position]
    if node is None:
        return []
    return folder.fold(node) or list(folder.edges(node)) or None


def _is_inside(trigger: Trigger, scope: Scope | None, file: CodeFile) -> bool:
    """Whether one of the functions around has a decorator without which this does not count."""
    while scope is not None:
        for decorator in getattr(scope.node, "decorator_list", ()):
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if scope.parent is not None and file.qualify(called, scope.parent) in trigger.inside:
                return True
        scope = scope.parent
    return False


def _is_bare(given: Given) -> bool:
    return not (given.values or given.starts or given.ends or given.holds)


def _holds(given: Given, value: object) -> bool:
    import re

    if _is_bare(given):
        return value is not None and value is not False
    if isinstance(value, Edges):
        return value.start.startswith(given.starts or ("\0",)) or value.end.endswith(given.ends or ("\0",))
    if isinstance(value, dict):
        return any(_holds(given, inner) for inner in value.values())
    if isinstance(value, tuple):
        return value in given.values or any(_holds(given, inner) for inner in value)
    if isinstance(value, str):
        is_matched = value in given.values or any(re.search(one, value) for one in given.holds)
        return is_matched or _holds(given, Edges(value, value.lower()))
    return any(value is one for one in given.values)


def _may_be(trigger: Trigger, node: ast.expr, qualified: str | None, scope: Scope, file: CodeFile) -> bool:
    """Whether a method of an object may be one of the library's."""
    if qualified is not None or not isinstance(node, ast.Attribute):
        return False
    if is_own_method(file, node, scope):
        return False
    annotated = annotated_libraries(_owner(node), scope, file)
    if annotated is not None:
        return trigger.library in annotated
    if not trigger.is_ambiguous:
        return True
    if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
        return False
    origins = _origins(node.value, scope, file, 0)
    return not origins or trigger.library in origins


def _owner(node: ast.Attribute) -> ast.expr:
    """Return the object of which a trigger's name is an attribute: `frame` in `frame.plot.bar`."""
    owner: ast.expr = node
    while isinstance(owner, ast.Attribute):
        owner = owner.value
    return owner


def _is_suggested(trigger: Trigger, node: ast.expr, scope: Scope, file: CodeFile) -> bool:
    """Whether an object is probably the library's, though the reached code does not import that."""
    if not isinstance(node, ast.Attribute):
        return False
    owner = _owner(node)
    if annotated_libraries(owner, scope, file) is not None:
        return True  # of that library, or it would not have got here
    libraries = set(file.aliases.values())
    if trigger.is_ambiguous or trigger.library not in libraries or not isinstance(owner, ast.Name):
        return False
    if all(binding.kind != "parameter" for binding in scope.lookup(owner.id)) or owner.id in ("self", "cls"):
        return False
    # Where two libraries of tables are at hand, a name that both have says nothing.
    return node.attr not in _SHARED_NAMES or len(libraries & _TABLES) < 2


def _origins(node: ast.expr, scope: Scope, file: CodeFile, depth: int) -> set[str]:
    """Return the libraries whose functions an object is seen to come from."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript | ast.Await):
        if isinstance(node, ast.Call) and (name := file.qualify(node.func, scope)) is not None and "." in name:
            return {name.partition(".")[0]}
        node = node.func if isinstance(node, ast.Call) else node.value
    if not isinstance(node, ast.Name) or depth > _MAX_ORIGIN_DEPTH:
        return set()
    found: set[str] = set()
    for binding in scope.lookup(node.id):
        value = binding.value if binding.value is not None else getattr(binding.node, "value", None)
        if binding.kind == "import" and (name := file.qualify(node, scope)):
            found.add(name.partition(".")[0])
        elif isinstance(value, ast.expr):
            found |= _origins(value, binding.scope, file, depth + 1)
    return found


def _attributes(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed(parts))
