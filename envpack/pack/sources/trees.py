"""Source trees without a list of their files: editable installations and distributions of the system.

An editable installation is a pointer in site-packages: a `.pth` file that names folders, or a finder that maps modules
to paths. What is importable through the pointer becomes part of the layer; version control, caches and virtual
environments that lie in the same folder do not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

_LEFT_OUT = frozenset({"__pycache__", "node_modules", "site-packages"})


def editable_files(pointers: Iterable[str], mapping: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return what an editable installation makes importable.

    Args:
        pointers: the files of the installation that lie directly in site-packages.
        mapping: the modules that its finder maps to a folder or file.

    Returns:
        Path below site-packages and path on disk of each file.
    """
    found: dict[str, str] = {}
    for pointer in pointers:
        if pointer.endswith(".pth"):
            for folder in _pth_folders(pointer):
                found.update(_importable(folder))
    for module, place in mapping.items():
        found.update(_mapped(module, place))
    return sorted(found.items())


def module_files(folder: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield the files of a top-level module or package in a folder, by their paths below it."""
    if os.path.isdir(os.path.join(folder, name)):
        yield from tree_files(os.path.join(folder, name), name)
    with os.scandir(folder) as items:
        for item in items:
            if item.is_file() and (item.name == f"{name}.py" or _is_extension(item.name, name)):
                yield item.name, item.path


def tree_files(folder: str, below: str) -> Iterator[tuple[str, str]]:
    """Yield the files of a folder, by their paths below `below`; links count as what they lead to."""
    seen = {os.path.realpath(folder)}
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in sorted(folders) if _belongs(place, name) and _is_new(place, name, seen)]
        relative = os.path.normpath(os.path.join(below, os.path.relpath(place, folder)))
        for name in files:
            file = os.path.join(place, name)
            if not name.endswith((".pyc", ".pyo")) and os.path.isfile(file):
                yield f"{relative}/{name}", file


def _pth_folders(pointer: str) -> list[str]:
    with open(pointer, encoding="utf-8", errors="surrogateescape") as stream:
        lines = [line.strip() for line in stream]
    base = os.path.dirname(pointer)
    paths = [line for line in lines if line and not line.startswith(("#", "import ", "import\t"))]
    folders = [os.path.normpath(os.path.join(base, path)) for path in paths]
    return [folder for folder in folders if os.path.isdir(folder)]


def _mapped(module: str, place: str) -> Iterator[tuple[str, str]]:
    below = module.replace(".", "/")
    if os.path.isdir(place):
        yield from tree_files(place, below)
        return
    file = place if os.path.isfile(place) else f"{place}.py"
    if os.path.basename(file) == "__init__.py":
        yield from tree_files(os.path.dirname(file), below)
    elif os.path.isfile(file):
        yield below + os.path.splitext(file)[1], file


def _importable(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the modules and packages that lie directly in a folder of `sys.path`."""
    with os.scandir(folder) as items:
        for item in items:
            if item.is_dir() and os.path.isfile(os.path.join(item.path, "__init__.py")):
                yield from tree_files(item.path, item.name)
            elif item.is_file() and item.name.endswith((".py", ".so")):
                yield item.name, item.path


def _is_extension(file: str, name: str) -> bool:
    return file.endswith(".so") and file.partition(".")[0] == name


def _belongs(place: str, name: str) -> bool:
    if name in _LEFT_OUT or name.startswith("."):
        return False
    return not os.path.exists(os.path.join(place, name, "pyvenv.cfg"))


def _is_new(place: str, name: str, seen: set[str]) -> bool:
    """Tell whether a folder was not seen before: links can lead round in a circle."""
    real = os.path.realpath(os.path.join(place, name))
    if real in seen:
        return False
    seen.add(real)
    return True
