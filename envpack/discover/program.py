"""The source files of one program, parsed once each, and the finder that they share."""

from __future__ import annotations

import os

from envpack.discover.codefile import CodeFile
from envpack.discover.finder import Location, ModuleFinder
from envpack.discover.packages import package_around
from envpack.discover.searchpath import search_path_changes


class Program:
    """The files of one analysis.

    Args:
        finder: where its modules are.
    """

    def __init__(self, finder: ModuleFinder) -> None:
        self.finder = finder
        self._files: dict[str, CodeFile] = {}

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

    def _load(self, path: str, module: str, package: str) -> CodeFile:
        if path not in self._files:
            file = CodeFile(path, module, package, self.finder, self._files.values())
            added = [self.finder.add_folder(folder, first=first) for folder, first in search_path_changes(file)]
            if any(added):
                # What the alternatives of `try` were judged by may look different with these folders.
                file = CodeFile(path, module, package, self.finder, self._files.values())
            self._files[path] = file
        return self._files[path]
