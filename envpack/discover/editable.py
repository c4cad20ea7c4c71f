"""Where development installs keep their code: what the start files (`.pth`) of PEP 660 build backends point at.

A `.pth` line is either a folder, which `sys.path` already holds, or `import X`, where `X.py` beside it installs a
finder. Setuptools writes the mapping into that file as a dictionary, the `editables` library as calls of `map_module`.
Both are read as text; nothing is imported.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator

_IMPORT = re.compile(r"^import\s+([A-Za-z_][\w.]*)")


def editable_modules(folder: str, starters: Iterable[str]) -> dict[str, str]:
    """Return the modules that the finders of a development install map to a file or folder.

    Args:
        folder: the folder that the start files lie in.
        starters: names of the start files.
    """
    found: dict[str, str] = {}
    for starter in starters:
        for module in _imported(os.path.join(folder, starter)):
            for name, path in _mapped(os.path.join(folder, module.replace(".", os.sep) + ".py")):
                found[name] = path
    return found


def editable_folders(folder: str, starters: Iterable[str]) -> Iterator[str]:
    """Give the folders that start files put on the search path.

    Args:
        folder: the folder that the start files lie in.
        starters: names of the start files.
    """
    for starter in starters:
        for line in _lines(os.path.join(folder, starter)):
            if line and not line.startswith(("#", "import ", "import\t")):
                yield os.path.normpath(os.path.join(folder, line))


def _lines(starter: str) -> list[str]:
    try:
        with open(starter, encoding="utf-8", errors="replace") as file:
            return [line.rstrip() for line in file]
    except OSError:
        return []  # RECORD may list what somebody removed


def _imported(starter: str) -> Iterator[str]:
    for line in _lines(starter):
        if match := _IMPORT.match(line):
            yield match.group(1)


def _mapped(finder: str) -> Iterator[tuple[str, str]]:
    try:
        with open(finder, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            pairs = [(_text(key), _text(value)) for key, value in zip(node.keys, node.values, strict=True)]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "map_module" and len(node.args) == 2:
            pairs = [(_text(node.args[0]), _text(node.args[1]))]
        else:
            continue
        yield from ((name, path) for name, path in pairs if name and path and os.path.isabs(path))


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
