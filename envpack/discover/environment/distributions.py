"""The distributions installed on a search path, and which of them a file or a module belongs to.

Everything is read from the metadata that installers leave; nothing is imported, so the environment of another
interpreter is read by looking at the folders of its `sys.path`. A file belongs to the distribution whose RECORD lists
it; that settles namespace packages and distributions that share a top-level name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from envpack.discover.environment.folders import folder_distributions
from envpack.discover.environment.metadata import InstalledDistribution
from envpack.discover.environment.names import normalized


class DistributionIndex:
    """The distributions of one search path.

    Args:
        sys_path: folders in the order in which they are searched; of two distributions with one name the first counts.
    """

    def __init__(self, sys_path: Iterable[str]) -> None:
        self._by_name: dict[str, InstalledDistribution] = {}
        for folder in sys_path:
            for distribution in folder_distributions(folder):
                self._by_name.setdefault(distribution.name, distribution)
            if os.path.basename(folder) == "site-packages":
                self._add_conda(folder)

    def _add_conda(self, site: str) -> None:
        prefix = os.path.dirname(os.path.dirname(site))
        for place in (prefix, os.path.dirname(prefix)):  # lib/python3.X/site-packages, or Lib/site-packages
            if not os.path.isdir(os.path.join(place, "conda-meta")):
                continue
            from envpack.discover.environment.conda import add_conda, conda_packages

            for distribution in add_conda(self._by_name, conda_packages(place), site):
                self._by_name[distribution.name] = distribution

    def __iter__(self) -> Iterator[InstalledDistribution]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> InstalledDistribution | None:
        """Return the distribution of that name, spelt in any way, or `None`."""
        return self._by_name.get(name) or self._by_name.get(normalized(name))

    def owner(self, file: str, module: str, root: str) -> InstalledDistribution | None:
        """Return the distribution that a file belongs to, or `None` where none claims it.

        Args:
            file: absolute path of the file of a module.
            module: the name under which it was found.
            root: the folder from which it was found under that name.
        """
        candidates = self._by_top_level.get(module.partition(".")[0], [])
        path = os.path.normpath(file)
        for distribution in candidates:
            if distribution.lists(path):
                return distribution
        for distribution in self._editables:
            # Not every file in the project's folder: an example there that imports its neighbour means a local file.
            mapped = any(_inside(path, place) or _is_module(path, place) for place in distribution.editable.values())
            if mapped or root in distribution.import_folders:
                return distribution
        folder = os.path.dirname(path)
        # No list of files (old egg-info, Debian): its top_level.txt is then the installer's only word.
        listless = [item for item in candidates if not item.has_files and _inside(folder, item.location)]
        return listless[0] if listless else self._eggs.get(root)

    def editable_paths(self) -> dict[str, str]:
        """Return the modules that development installs map to paths: `{"pkg": "/home/me/pkg/src/pkg"}`."""
        found: dict[str, str] = {}
        for distribution in self:
            found.update(distribution.editable)
        return found

    @cached_property
    def mapped_first(self) -> frozenset[str]:
        """The modules that the finder of a development install gives before the search path is looked at."""
        return frozenset(module for item in self if item.is_mapped_first for module in item.editable)

    @cached_property
    def _by_top_level(self) -> Mapping[str, list[InstalledDistribution]]:
        found: dict[str, list[InstalledDistribution]] = {}
        for distribution in self:
            for name in distribution.top_level:
                found.setdefault(name, []).append(distribution)
        # What conda's record alone claims may have been installed over since.
        for candidates in found.values():
            candidates.sort(key=lambda item: item.metadata.endswith(".json"))
        return found

    @cached_property
    def _editables(self) -> list[InstalledDistribution]:
        # The deepest project first, for projects that lie inside one another.
        found = [item for item in self if item.is_editable]
        return sorted(found, key=lambda item: -len(item.project_folder or ""))

    @cached_property
    def _eggs(self) -> Mapping[str, InstalledDistribution]:
        # An egg is a folder or an archive of its own, and all that is in it belongs to it.
        return {item.location: item for item in self if os.path.basename(item.metadata) == "EGG-INFO"}


def installed_distributions(sys_path: Iterable[str]) -> DistributionIndex:
    """Return the index of a search path; only what has changed is read anew."""
    return DistributionIndex(sys_path)


def _is_module(file: str, place: str) -> bool:
    """Whether a file is the module at a place that is named without its suffix, as setuptools does."""
    folder, name = os.path.split(file)
    return os.path.join(folder, name.partition(".")[0]) == place


def _inside(path: str, folder: str | None) -> bool:
    return folder is not None and (path == folder or path.startswith(folder.rstrip(os.sep) + os.sep))
