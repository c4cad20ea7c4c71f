"""The nodes below a node of a syntax tree, several times as fast as `ast.iter_child_nodes` gives them.

A file has as many nodes for operators and for how a name is used (`Load`, `Store`) as for everything else; nothing can
be read from those, and nothing is below a name or a constant.
"""

from __future__ import annotations

from envpack.discover.code import syntax as ast

_OPERATORS = frozenset({"ctx", "op", "ops"})
_LEAVES = (ast.Constant, ast.Name, ast.alias, ast.Global, ast.Nonlocal, ast.MatchSingleton, ast.MatchStar)

# Fields that hold texts and numbers, in all nodes but `_NAMED`, and lists that may also hold `None`.
_PLAIN = frozenset(
    {"name", "attr", "arg", "module", "level", "type_comment", "kind", "is_async", "conversion", "simple", "rest"}
    | {"kwd_attrs", "str", "tag"}
)
_NAMED = "TypeAlias"
_GAPPY = frozenset({"keys", "kw_defaults"})


def child_nodes(node: ast.AST) -> list[ast.AST]:
    """Return the nodes directly below a node in their order, without operators and contexts."""
    found: list[ast.AST] = []
    names = _FIELDS.get(type(node))
    for name in names if names is not None else _fields(type(node)):
        value = getattr(node, name, None)
        if value.__class__ is list:
            found += value if name not in _GAPPY else filter(None, value)
        elif value is not None:
            found.append(value)
    return found


def all_nodes(tree: ast.AST) -> list[ast.AST]:
    """Return a node and all below it, the upper ones first, without operators and contexts."""
    found = [tree]
    for node in found:  # grows while it is read
        found += child_nodes(node)
    return found


def last_name(node: ast.AST) -> str:
    """Return the last part of a dotted name: `c` of `a.b.c`; empty for what is no name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def call_at(
    place: ast.expr | ast.stmt, function: ast.expr, args: list[ast.expr], keywords: list[ast.keyword]
) -> ast.Call:
    """Return a call that stands nowhere in the source, as if it stood where another node does."""
    call = ast.Call(function, args, keywords)
    call.lineno, call.col_offset = place.lineno, place.col_offset
    call.end_lineno, call.end_col_offset = place.end_lineno, place.end_col_offset
    return call


def _fields(kind: type[ast.AST]) -> tuple[str, ...]:
    without = _OPERATORS if kind.__name__ == _NAMED else _OPERATORS | _PLAIN
    kept = (name for name in kind._fields if name not in without)
    _FIELDS[kind] = () if issubclass(kind, _LEAVES) else tuple(kept)
    return _FIELDS[kind]


_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {}
