"""Changes that a program makes to `sys.path`, as far as they fold to constants.

Recognised: `sys.path.insert(0, X)`, `sys.path.append(X)`, `sys.path.extend([X])`, `sys.path += [X]`,
`sys.path[:0] = [X]` and `site.addsitedir(X)`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from envpack.discover.code import syntax as ast
from envpack.discover.code.codefile import CodeFile
from envpack.discover.code.nodes import all_nodes
from envpack.discover.code.scopes import Binding


def search_path_changes(file: CodeFile) -> Iterator[tuple[str, bool]]:
    """Give the folders that a file adds to the search path, and whether each is put first."""
    for node in all_nodes(file.tree) if _may_change(file) else ():
        for expression, first in _added(node, file):
            for value in file.folder(file.scopes.root).fold(expression):
                for folder in value if isinstance(value, tuple) else (value,):
                    if isinstance(folder, str):
                        yield os.path.normpath(os.path.join(os.path.dirname(file.path), folder)), first


def _may_change(file: CodeFile) -> bool:
    """Whether a file imports what holds the search path; most do not, and need not be looked through."""
    if file.scopes.root.stars:
        return True
    scopes = (file.scopes.root, *file.scopes.inner.values())
    found = (item for scope in scopes for items in scope.bindings.values() for item in items)
    return any(item.kind == "import" and _module(item).partition(".")[0] in ("sys", "site") for item in found)


def _module(item: Binding) -> str:
    if isinstance(item.node, ast.ImportFrom):
        return item.node.module or ""
    return item.alias.name if item.alias is not None else ""


def _added(node: ast.AST, file: CodeFile) -> Iterator[tuple[ast.expr, bool]]:
    root = file.scopes.root
    if isinstance(node, ast.Call) and node.args:
        name = file.qualify(node.func, root)
        if name in ("sys.path.append", "sys.path.extend", "site.addsitedir"):
            yield node.args[0], False
        elif name == "sys.path.insert" and len(node.args) == 2:
            yield node.args[1], True
    elif isinstance(node, ast.AugAssign) and file.qualify(node.target, root) == "sys.path":
        yield node.value, False
    elif isinstance(node, ast.Assign):
        target = node.targets[0]
        if isinstance(target, ast.Subscript) and file.qualify(target.value, root) == "sys.path":
            yield node.value, True
