"""Calls that list what is in a folder of the program: its plugins, which are then imported by name.

`pkgutil.iter_modules(plugins.__path__)`, `os.listdir(FOLDER)`, `FOLDER.glob("*.py")`. Folders are read and nothing in
them; a path that is not absolute says nothing, because nobody knows where the program will be started.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from envpack.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_ENTRIES = 64


@dataclass(frozen=True, slots=True)
class Listed:
    """A module as `pkgutil.iter_modules` gives it: also a tuple of three, as far as folding takes it apart."""

    module_finder: None
    name: str
    ispkg: bool

    def __getitem__(self, position: int) -> Any:
        return (self.module_finder, self.name, self.ispkg)[position]


def _entries(folder: str) -> list[str]:
    if not os.path.isabs(folder) or not os.path.isdir(folder):
        return []
    try:
        return sorted(os.listdir(folder))[:_MAX_ENTRIES]
    except OSError:
        return []  # it cannot be read here, and neither can its modules


def _modules(paths: Any, prefix: str = "") -> tuple[Listed, ...]:
    found: list[Listed] = []
    for folder in paths if isinstance(paths, tuple) else ():
        for entry in _entries(folder):
            stem, ending = os.path.splitext(entry)
            is_package = os.path.isfile(os.path.join(folder, entry, "__init__.py"))
            if (ending == ".py" and stem != "__init__") or is_package:
                found.append(Listed(None, prefix + (entry if is_package else stem), is_package))
    return tuple(found)


def _glob(folder: str, pattern: str) -> tuple[str, ...]:
    import fnmatch

    if "/" in pattern:
        above, _, pattern = pattern.rpartition("/")
        folder = os.path.join(folder, above)
    return tuple(os.path.join(folder, entry) for entry in _entries(folder) if fnmatch.fnmatch(entry, pattern))


LISTING: dict[str, Callable[..., Any]] = {
    "pkgutil.iter_modules": _modules,
    "pkgutil.walk_packages": _modules,
    "os.listdir": lambda folder: tuple(_entries(folder)),
    "glob.glob": lambda pattern: _glob(*os.path.split(pattern)),
    "glob.iglob": lambda pattern: _glob(*os.path.split(pattern)),
}
LISTING_METHODS: dict[str, Callable[..., Any]] = {
    "glob": _glob,
    "iterdir": lambda folder: tuple(os.path.join(folder, entry) for entry in _entries(folder)),
}
