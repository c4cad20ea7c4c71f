"""What an annotation, or the rest of a file, suggests about a value that nothing else is known of.

An annotation in quotes is not evaluated and imports nothing; but it says of what library a parameter is. Imports that
only a type checker sees count here, too.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator

from envpack.discover.code import syntax as ast
from envpack.discover.code.codefile import CodeFile
from envpack.discover.code.nodes import child_nodes
from envpack.discover.code.scopes import Scope
from envpack.discover.code.source import parse_text

_SAYS_NOTHING = frozenset({"Any", "object", "TypeVar", "Self", "Protocol"})
_NEUTRAL = frozenset({"typing", "typing_extensions", "collections", "types", "contextlib"})
_BUILTIN_TYPES = frozenset(name for name, value in vars(builtins).items() if isinstance(value, type))


def annotated_libraries(node: ast.expr, scope: Scope, file: CodeFile) -> set[str] | None:
    """Return the libraries that the annotation of a parameter or variable names; `None` if it says nothing."""
    if not isinstance(node, ast.Name):
        return None
    found: set[str] | None = None
    for annotation in _annotations(node.id, scope):
        libraries = _libraries(annotation, file)
        if libraries is None:
            return None
        found = libraries | (found or set())
    return found


def _annotations(name: str, scope: Scope) -> Iterator[ast.expr]:
    owner: Scope | None = scope
    while owner is not None and name not in owner.bindings:
        owner = owner.parent
    if owner is None:
        return
    if isinstance(owner.node, ast.FunctionDef | ast.AsyncFunctionDef):
        arguments = owner.node.args
        for parameter in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            if parameter.arg == name and parameter.annotation is not None:
                yield parameter.annotation
    for binding in owner.bindings[name]:
        if isinstance(binding.node, ast.AnnAssign):
            yield binding.node.annotation


def _libraries(annotation: ast.expr, file: CodeFile) -> set[str] | None:
    found: set[str] = set()
    for name in _roots(annotation):
        library = file.aliases.get(name)
        if name in _SAYS_NOTHING or (library is None and name not in _BUILTIN_TYPES and name not in file.class_names):
            return None
        if library not in _NEUTRAL:
            found.add(library or "")
    return found


def _roots(annotation: ast.expr) -> Iterator[str]:
    """Give the names that an annotation begins its types with; texts are read as annotations."""
    pending = [annotation]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            tree = parse_text(node.value)
            pending += [one.value for one in tree.body if isinstance(one, ast.Expr)] if tree is not None else []
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            pending.append(node.value)
        else:
            pending += [one for one in child_nodes(node) if isinstance(one, ast.expr)]
