"""Takes out of a syntax tree what cannot run: behind a `return`, `raise` or `sys.exit()`, and in `while False`.

A condition that has to be folded is not decided here. Definitions behind the end of a module stay: somebody may ask for
one by name.
"""

from __future__ import annotations

from envpack.discover.code import syntax as ast

_ENDS = frozenset({ast.Return, ast.Raise, ast.Break, ast.Continue})
_EXITS = frozenset({("sys", "exit"), ("os", "_exit"), ("os", "abort"), ("", "exit"), ("", "quit")})
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

# The blocks of statements of which others are made.
_BLOCKS: dict[type[ast.AST], tuple[str, ...]] = {
    **dict.fromkeys((ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.With, ast.AsyncWith), ("body",)),
    **dict.fromkeys((ast.If, ast.For, ast.AsyncFor, ast.While), ("body", "orelse")),
    **dict.fromkeys((ast.Try, ast.TryStar), ("body", "orelse", "finalbody")),
}


def drop_unreachable(tree: ast.Module) -> ast.Module:
    """Return the same tree without the statements that cannot run."""
    pending: list[list[ast.stmt]] = [tree.body]
    while pending:
        block = pending.pop()
        for position, statement in enumerate(block):
            kind = type(statement)
            if kind in _ENDS or (kind is ast.Expr and _exits(statement)):
                block[position + 1 :] = [one for one in block[position + 1 :] if isinstance(one, _DEFINITIONS)]
                pending += [one.body for one in block[position + 1 :] if isinstance(one, _DEFINITIONS)]
                break
            if isinstance(statement, ast.While) and _is_false(statement.test):
                statement.body = [_nothing(statement)]
            for name in _BLOCKS.get(kind, ()):
                pending.append(getattr(statement, name))
            pending += [one.body for one in getattr(statement, "handlers", ())]
            pending += [one.body for one in getattr(statement, "cases", ())]
    return tree


def _exits(statement: ast.stmt) -> bool:
    """Whether a statement is a call that ends the process."""
    call = getattr(statement, "value", None)
    function = call.func if isinstance(call, ast.Call) else None
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return (function.value.id, function.attr) in _EXITS
    return isinstance(function, ast.Name) and ("", function.id) in _EXITS


def _is_false(test: ast.expr) -> bool:
    return isinstance(test, ast.Constant) and not test.value


def _nothing(place: ast.stmt) -> ast.stmt:
    found = ast.Pass()
    found.lineno, found.col_offset = place.lineno, place.col_offset
    found.end_lineno, found.end_col_offset = place.end_lineno, place.end_col_offset
    return found
