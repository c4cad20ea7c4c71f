"""From a call that reads a file to the path of that file, where this is a constant."""

from __future__ import annotations

import os

from envpack.discover.code import syntax as ast
from envpack.discover.code.scopes import Scope
from envpack.discover.loads.values import CallSite

_MAX_DEPTH = 12
_MAX_BYTES = 1_000_000
_OPENERS = frozenset(
    {
        *("open", "builtins.open", "io.open", "os.open", "codecs.open", "gzip.open", "gzip.GzipFile", "bz2.open"),
        *("bz2.BZ2File", "lzma.open", "lzma.LZMAFile", "lz4.frame.open", "zstandard.open", "fsspec.open", "io.FileIO"),
    }
)
_READING = frozenset({"open", "read", "read_bytes", "read_text", "readlines", "decode", "getvalue"})
_UNPACKING = frozenset({"compile", "decompress", "BytesIO", "StringIO", "BufferedReader", "TextIOWrapper", "loads"})


def opened_paths(site: CallSite, node: ast.expr | None) -> list[str]:
    """Return the paths that an expression may read or stand for, as the program writes them."""
    return _paths(site, node, site.scope, 0)


def existing(site: CallSite, path: str) -> str:
    """Return the absolute path of a file beside the source file or in the working folder; empty where there is none."""
    for folder in (os.path.dirname(site.file.path), os.getcwd()):
        found = os.path.normpath(os.path.join(folder, path))
        if os.path.isfile(found):
            return found
    return ""


def opened_texts(site: CallSite, node: ast.expr) -> list[str]:
    """Return what is in the files that an expression reads, as far as they are there and small."""
    found = []
    for path in opened_paths(site, node):
        if (place := existing(site, path)) and os.path.getsize(place) <= _MAX_BYTES:
            with open(place, encoding="utf-8", errors="replace") as file:
                found.append(file.read())
    return found


def _paths(site: CallSite, node: ast.expr | None, scope: Scope, depth: int) -> list[str]:
    if node is None or depth > _MAX_DEPTH:
        return []
    # What a file holds may be known, too; no path has lines.
    if texts := [text for text in site.file.folder(scope).texts(node) if "\n" not in text and not _reads(node)]:
        return texts
    if isinstance(node, ast.Name):
        found: list[str] = []
        for binding in scope.lookup(node.id):
            value = binding.value if binding.value is not None else binding.node
            if isinstance(value, ast.expr) and binding.kind == "value":
                found += _paths(site, value, binding.scope, depth + 1)
        return found
    return _paths(site, _source(site, node, scope), scope, depth + 1) if isinstance(node, ast.Call) else []


def _reads(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _READING


def _source(site: CallSite, node: ast.Call, scope: Scope) -> ast.expr | None:
    """Return what a call reads from."""
    name = site.file.qualify(node.func, scope) or ""
    first = node.args[0] if node.args else None
    if name in _OPENERS:
        return first if first is not None else next((item.value for item in node.keywords), None)
    if name.rpartition(".")[2] in _UNPACKING:
        return first
    if isinstance(node.func, ast.Attribute) and node.func.attr in _READING:
        return node.func.value
    return None
