"""Functions of a script that nothing in it mentions: what they import is not needed to run the script.

Only what is certain counts: a plain function at the top level, without decorators, whose name occurs nowhere else, not
even in a text, in a script that does not look its own names up. What a test runner or a hook system finds by its name
is left alone, and so is a file that only defines things: its functions are there for others.
"""

from __future__ import annotations

from collections.abc import Iterator

from envpack.discover.code import syntax as ast
from envpack.discover.code.nodes import all_nodes

# With one of these a script may reach any of its functions.
_LOOKUPS = frozenset({"globals", "locals", "vars", "dir", "eval", "exec", "modules", "Fire", "__main__", "__dict__"})
_FOUND_BY_NAME = ("test", "pytest_", "setup", "teardown", "__")


def uncalled_functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the functions of a script that cannot be called when it runs."""
    functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.decorator_list
        and not node.name.startswith(_FOUND_BY_NAME)
    }
    if not functions or not any(map(_acts, tree.body)):
        return []
    for statement in tree.body:
        for name in _mentions(statement):
            if name in _LOOKUPS:
                return []
            if functions.get(name) is not statement:
                functions.pop(name, None)
    return list(functions.values())


def _acts(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.If):
        return any(isinstance(node, ast.Name) and node.id == "__name__" for node in all_nodes(statement.test))
    return isinstance(statement, ast.For | ast.While | ast.With)


def _mentions(statement: ast.stmt) -> Iterator[str]:
    import re

    for node in all_nodes(statement):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # `if __name__ == "__main__"` looks nothing up.
            yield from (word for word in re.split(r"[\s.:]+", node.value) if word != "__main__")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node is not statement:
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name
        elif isinstance(node, ast.Global | ast.Nonlocal):
            yield from node.names
