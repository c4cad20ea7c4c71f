"""The source files of one program, parsed once each, and the finder that they share."""

from __future__ import annotations

import os

from envpack.discover.code.codefile import CodeFile
from envpack.discover.code.searchpath import search_path_changes
from envpack.discover.environment.finder import Location, ModuleFinder
from envpack.discover.environment.packages import package_around
from envpack.errors import EnvpackError


class Program:
    """The files of one analysis.

    Args:
        finder: where its modules are.
    """

    def __init__(self, finder: ModuleFinder) -> None:
        self.finder = finder
        self._files: dict[str, CodeFile] = {}
        # A module may ask for a constant of another while it is read, and that for one of the first.
        self._reading: set[str] = set()

    def script(self, path: str) -> CodeFile:
        """Return the script itself, parsed."""
        root, package = package_around(os.path.dirname(path))
        if package:
            self.finder.add_folder(root, first=False)
        return self._load(path, "__main__", package)

    def module(self, location: Location) -> CodeFile:
        """Return a local module, parsed."""
        package = location.module if location.folders else location.module.rpartition(".")[0]
        return self._load(location.file, location.module, package)

    def opened(self, name: str) -> CodeFile | None:
        """Return the local module of a name, or `None` where there is none that can be read."""
        location = self.finder.find(name) if name else None
        if location is None or location.kind != "local" or not location.file.endswith(".py"):
            return None
        if location.file in self._reading:
            return None
        try:
            return self.module(location)
        except EnvpackError:
            return None  # is said where the module is counted

    def _load(self, path: str, module: str, package: str) -> CodeFile:
        if path not in self._files:
            key = (path, module, package, self.finder.key)
            shared: CodeFile | None = self.finder.shelf.get(key)
            self._files[path] = (
                shared.adopted(self.finder, self._files.values(), self.opened)
                if shared is not None
                else self._parsed(path, module, package, key)
            )
        return self._files[path]

    def _parsed(self, path: str, module: str, package: str, key: object) -> CodeFile:
        self._reading.add(path)
        try:
            return self._read(path, module, package, key)
        finally:
            self._reading.discard(path)

    def _read(self, path: str, module: str, package: str, key: object) -> CodeFile:
        file = CodeFile(path, module, package, self.finder, self._files.values(), self.opened)
        changes = list(search_path_changes(file))
        added = [self.finder.add_folder(folder, first=first) for folder, first in changes]
        if any(added):
            # What the alternatives of `try` were judged by may look different with these folders.
            return CodeFile(path, module, package, self.finder, self._files.values(), self.opened)
        if module != "__main__" and not changes:
            self.finder.shelf[key] = file
        return file
