"""Imports that leave `None` or a flag where they fail, and the uses of their names that nothing guards.

`try: import numpy as np` with `np = None` in the handler can be done without, as long as every use asks first. A use
that does not ask (`np.hypot(3, 4)`) needs the import after all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from envpack.discover.code import syntax as ast
from envpack.discover.code.guards import catches_import_error
from envpack.discover.code.nodes import all_nodes, child_nodes

_FORGIVING = frozenset({"NameError", "AttributeError", "TypeError", "ImportError", "ModuleNotFoundError", "Exception"})
_GOING_ON = (ast.Return, ast.Continue, ast.Break)


def unguarded_uses(tree: ast.Module, tries: Sequence[ast.Try | ast.TryStar], *, lazy_annotations: bool) -> set[int]:
    """Return the identities of the names that are used without asking whether their import has worked.

    Args:
        tree: the file.
        tries: its `try` statements whose imports can fail without the program's end.
        lazy_annotations: whether annotations are not evaluated.
    """
    found: set[int] = set()
    for node in tries:
        names = _left_empty(node)
        if names:
            found |= _Walk(names, _flags(tree, node, names), lazy_annotations).run(tree, node)
    return found


def _left_empty(node: ast.Try | ast.TryStar) -> set[str]:
    """Return the names that an import binds, and no handler to anything that could be used instead."""
    names = {
        alias.asname or alias.name.partition(".")[0]
        for statement in node.body
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for alias in statement.names
    }
    handlers = [handler for handler in node.handlers if catches_import_error(handler)]
    for one in (one for handler in handlers for one in all_nodes(handler)):
        if isinstance(one, ast.Import | ast.ImportFrom):
            return set()
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.discard(one.name)
        elif isinstance(one, ast.Assign) and not _is_empty(one.value):
            names -= _bound(one)
    return names


def _is_empty(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) or (isinstance(value, ast.Tuple | ast.List) and not value.elts)


def _flags(tree: ast.Module, node: ast.Try | ast.TryStar, names: set[str]) -> set[str]:
    """Return the names that say whether an import has worked, itself included."""
    flags = set(names)
    for one in all_nodes(node):
        flags |= _bound(one)
        flags |= {target.attr for target in getattr(one, "targets", ()) if isinstance(target, ast.Attribute)}
    for one in all_nodes(tree):
        if isinstance(one, ast.Assign) and isinstance(one.value, ast.Compare | ast.Call | ast.BoolOp | ast.UnaryOp):
            asks = not isinstance(one.value, ast.Call) or getattr(one.value.func, "id", "") == "bool"
            flags |= _bound(one) if asks and _mentions(one.value, flags) else set()
    return flags


def _bound(node: ast.AST) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _mentions(node: ast.AST, names: set[str]) -> bool:
    return any(getattr(one, "id", getattr(one, "attr", None)) in names for one in all_nodes(node))


class _Walk:
    """Walks a file and remembers for each node whether something around it, or before it, has asked."""

    def __init__(self, names: set[str], flags: set[str], lazy_annotations: bool) -> None:
        self._names = names
        self._flags = flags
        self._lazy = lazy_annotations
        self._stack: list[tuple[ast.AST, bool]] = []
        self._found: set[int] = set()

    def run(self, tree: ast.Module, origin: ast.AST) -> set[int]:
        self._block(tree.body, False)
        while self._stack:
            node, guarded = self._stack.pop()
            if node is not origin:
                self._visit(node, guarded)
        return self._found

    def _visit(self, node: ast.AST, guarded: bool) -> None:
        if not guarded:
            self._found.update(id(one) for one in _used(node) if isinstance(one, ast.Name) and one.id in self._names)
        inner = guarded or self._asks(node)
        for name in node._fields:
            value = getattr(node, name, None)
            if self._lazy and name in ("annotation", "returns"):
                continue
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                is_after = isinstance(node, ast.Try | ast.TryStar) and name != "body"
                self._block(value, guarded if is_after else inner)
            elif isinstance(value, list):
                self._stack += [(one, inner) for one in value if isinstance(one, ast.AST)]
            elif isinstance(value, ast.AST):
                self._stack.append((value, inner))

    def _block(self, statements: Sequence[ast.stmt], guarded: bool) -> None:
        for statement in statements:
            self._stack.append((statement, guarded))
            if isinstance(statement, ast.If) and _mentions(statement.test, self._flags):
                guarded = guarded or any(self._settles(one) for one in (*statement.body, *statement.orelse))

    def _settles(self, statement: ast.stmt) -> bool:
        """Whether a branch goes on elsewhere, or puts something in the place of what is not there."""
        bound = {
            alias.asname or alias.name for alias in getattr(statement, "names", ()) if isinstance(alias, ast.alias)
        }
        return isinstance(statement, _GOING_ON) or bool((_bound(statement) | bound) & self._names)

    def _asks(self, node: ast.AST) -> bool:
        if isinstance(node, ast.If | ast.IfExp | ast.While):
            return _mentions(node.test, self._flags)
        if isinstance(node, ast.BoolOp):
            return any(_mentions(value, self._flags) and not list(_used_below(value)) for value in node.values)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return any(_mentions(one, self._flags - self._names) for one in node.decorator_list)
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            return any(_mentions(one, self._flags) for part in node.generators for one in part.ifs)
        if isinstance(node, ast.Try | ast.TryStar):
            return any(_forgives(handler) for handler in node.handlers)
        return False


def _forgives(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or getattr(kind, "id", "") in _FORGIVING for kind in kinds)


def _used(node: ast.AST) -> Iterator[ast.expr]:
    """Give the expressions that a node cannot do with if they are `None`."""
    if isinstance(node, ast.Attribute | ast.Subscript):
        yield node.value
    elif isinstance(node, ast.Call):
        yield node.func
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield from node.decorator_list
        yield from getattr(node, "bases", ())
    elif isinstance(node, ast.For | ast.comprehension):
        yield node.iter
    elif isinstance(node, ast.withitem):
        yield node.context_expr


def _used_below(node: ast.AST) -> Iterator[ast.expr]:
    for one in [node, *child_nodes(node)]:
        yield from _used(one)
