"""Which tables of a file a decorator or function fills: what it is given can be reached through them afterwards.

`TABLE[name] = function` in `def register(function)`, however deeply nested; `TABLE.append(function)`; a class with
such a method; a function that calls another one of these.
"""

from __future__ import annotations

from collections.abc import Iterator

from envpack.discover.code import syntax as ast
from envpack.discover.code.nodes import all_nodes
from envpack.discover.code.scopes import Scope, ScopeTree, binds_value, root_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envpack.discover.code.codefile import CodeFile

_FILLING = frozenset(
    {
        *("append", "appendleft", "add", "insert", "extend", "update", "setdefault", "register", "__setitem__"),
        *("setattr", "setitem", "heappush", "insort", "put"),
    }
)
_MAX_DEPTH = 3


def fill_tables(tree: ScopeTree) -> None:
    """Bind the names of tables also to what decorators and calls of their file add to them."""
    for node, binding in tree.registrations:
        for name in tables_filled(node, tree.root):
            tree.root.bind(name, binding)


def tables_filled(node: ast.expr, scope: Scope) -> set[str]:
    """Return the names of a file's tables that the use of a decorator, or a call, adds to.

    Args:
        node: the decorator, or what is called; a name of the file.
        scope: where it stands.
    """
    called = node.func if isinstance(node, ast.Call) else node
    found: set[str] = set()
    if isinstance(called, ast.Name):
        for binding in scope.lookup(called.id):
            if isinstance(binding.node, ast.FunctionDef | ast.ClassDef):
                found |= filled_by(binding.node, scope)
            elif isinstance(binding.value, ast.Call) and _is_callable_object(binding.value, scope):
                found.add(called.id)
            elif binding.value is not None and isinstance(binding.value, ast.Call):
                # `register = partial(add, TABLE)`
                found |= {name for part in binding.value.args for name in _names(part) if binds_value(scope, name)}
    return found


def fills_elsewhere(node: ast.expr, file: CodeFile) -> CodeFile | None:
    """Return the local module a table of which a decorator adds to that is imported from there, or `None`."""
    called = node.func if isinstance(node, ast.Call) else node
    parts = (file.qualify(called, file.scopes.root) or "").split(".")
    for length in range(len(parts) - 1, 0, -1):
        source = file.opened(".".join(parts[:length]))
        if source is not None:
            root, rest = source.scopes.root, parts[length:]
            name = ast.Name(rest[0], ast.Load())
            is_method = len(rest) > 1 and binds_value(root, rest[0])
            return source if is_method or tables_filled(name, root) else None
    return None


def leaves_no_trace(node: ast.expr, scope: Scope) -> bool:
    """Whether a function is after a decorator of this file what it was before: it has only been put into a table."""
    called = node.func if isinstance(node, ast.Call) else node
    found = scope.lookup(called.id) if isinstance(called, ast.Name) else []
    functions = [one.node for one in found if isinstance(one.node, ast.FunctionDef)]
    is_known = bool(found) and len(functions) == len(found) and all(map(gives_back, functions))
    return is_known and bool(tables_filled(node, scope))


def filled_by(node: ast.FunctionDef | ast.ClassDef, scope: Scope, depth: int = 0) -> set[str]:
    """Return the names of a file's tables that a function or class of it adds to."""
    nodes = all_nodes(node)
    own = {one.id for one in nodes if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    own |= {one.arg for one in nodes if isinstance(one, ast.arg)}
    changed = {one.target.id for one in nodes if isinstance(one, ast.AugAssign) and isinstance(one.target, ast.Name)}
    found = {name for one in nodes for name in _filled(one) if name not in own or name in changed}
    tables = {name for name in found if binds_value(scope.module, name) and not _is_definition(name, scope)}
    for name in {one.id for one in nodes if isinstance(one, ast.Name)} - own if depth < _MAX_DEPTH else ():
        for binding in scope.module.bindings.get(name, ()):
            if isinstance(binding.node, ast.FunctionDef) and binding.node is not node:
                tables |= filled_by(binding.node, scope, depth + 1)
    return tables


def gives_back(node: ast.FunctionDef) -> bool:
    """Whether a decorator returns what it was given, or a function that does: it leaves no trace on the function."""
    parameters = {one.arg for one in (*node.args.posonlyargs, *node.args.args)}
    inner = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
    returned = [one.value for one in all_nodes(node) if isinstance(one, ast.Return) and _holds(node, one)]
    names = [one.id if isinstance(one, ast.Name) else "" for one in returned]
    return bool(names) and all(name in parameters or (name in inner and gives_back(inner[name])) for name in names)


def _holds(function: ast.FunctionDef, statement: ast.Return) -> bool:
    """Whether a `return` is one of the function itself, not of one inside it."""
    inner = (one for one in all_nodes(function) if isinstance(one, ast.FunctionDef) and one is not function)
    return not any(one.lineno <= statement.lineno <= (one.end_lineno or 0) for one in inner)


def _filled(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if not isinstance(target, ast.Name) or isinstance(node, ast.AugAssign):
                yield from filter(None, [root_name(target)])
    elif isinstance(node, ast.Call):
        last = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if last in _FILLING:
            yield from filter(None, [root_name(node.func) if isinstance(node.func, ast.Attribute) else None])
            yield from (one.id for one in node.args[:1] if isinstance(one, ast.Name))


def _names(node: ast.expr) -> Iterator[str]:
    return (one.id for one in all_nodes(node) if isinstance(one, ast.Name))


def _is_definition(name: str, scope: Scope) -> bool:
    return any(isinstance(one.node, ast.FunctionDef) for one in scope.module.bindings.get(name, ())[:1])


def _is_callable_object(call: ast.Call, scope: Scope) -> bool:
    found = scope.lookup(call.func.id) if isinstance(call.func, ast.Name) else []
    methods = (one for item in found if isinstance(item.node, ast.ClassDef) for one in item.node.body)
    return any(getattr(one, "name", "") == "__call__" for one in methods)
