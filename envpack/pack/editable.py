"""The source tree behind an editable installation.

An editable installation is a pointer in site-packages: a `.pth` file that names folders, or a finder module that maps
packages to folders (setuptools). Both are read, none is run. What is importable through the pointer becomes part of the
layer; version control, caches and virtual environments that lie in the same folder do not.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator

_LEFT_OUT = frozenset({"__pycache__", "node_modules", "site-packages"})


def editable_files(pointers: Iterable[str]) -> list[tuple[str, str]]:
    """Return what an editable installation makes importable.

    Args:
        pointers: the files of the installation that lie directly in site-packages.

    Returns:
        Path below site-packages and path on disk of each file.
    """
    found: dict[str, str] = {}
    for pointer in pointers:
        if pointer.endswith(".pth"):
            for folder in _pth_folders(pointer):
                found.update(_importable(folder))
        elif pointer.endswith(".py"):
            for package, place in _finder_mapping(pointer).items():
                found.update(_mapped(package, place))
    return sorted(found.items())


def _pth_folders(pointer: str) -> list[str]:
    with open(pointer, encoding="utf-8", errors="surrogateescape") as stream:
        lines = [line.strip() for line in stream]
    base = os.path.dirname(pointer)
    folders = [
        os.path.normpath(os.path.join(base, line)) for line in lines if line and not line.startswith(("#", "import"))
    ]
    return [folder for folder in folders if os.path.isdir(folder)]


def _finder_mapping(pointer: str) -> dict[str, str]:
    """Return the literal `MAPPING` of a finder module; other modules have none."""
    with open(pointer, "rb") as stream:
        try:
            tree = ast.parse(stream.read())
        except (SyntaxError, ValueError):
            return {}
    for node in tree.body:
        target = (
            node.targets[0]
            if isinstance(node, ast.Assign)
            else node.target
            if isinstance(node, ast.AnnAssign)
            else None
        )
        if isinstance(target, ast.Name) and target.id == "MAPPING":
            value = node.value  # type: ignore[attr-defined]
            try:
                mapping = ast.literal_eval(value)
            except ValueError:
                return {}
            return {str(key): str(place) for key, place in mapping.items()} if isinstance(mapping, dict) else {}
    return {}


def _mapped(package: str, place: str) -> Iterator[tuple[str, str]]:
    below = package.replace(".", "/")
    if os.path.isdir(place):
        yield from _tree(place, below)
    elif os.path.isfile(place + ".py"):
        yield below + ".py", place + ".py"


def _importable(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the modules and packages that lie directly in a folder of `sys.path`."""
    with os.scandir(folder) as items:
        for item in items:
            if item.is_dir() and os.path.isfile(os.path.join(item.path, "__init__.py")):
                yield from _tree(item.path, item.name)
            elif item.is_file() and item.name.endswith((".py", ".so")):
                yield item.name, item.path


def _tree(folder: str, below: str) -> Iterator[tuple[str, str]]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if _belongs(place, name))
        relative = os.path.normpath(os.path.join(below, os.path.relpath(place, folder)))
        for name in files:
            if not name.endswith((".pyc", ".pyo")):
                yield f"{relative}/{name}", os.path.join(place, name)


def _belongs(place: str, name: str) -> bool:
    if name in _LEFT_OUT or name.startswith("."):
        return False
    return not os.path.exists(os.path.join(place, name, "pyvenv.cfg"))
