"""The distributions installed on a search path, and which of them a file or a module belongs to.

Everything is read from the metadata that installers leave (`*.dist-info`, `*.egg-info`); nothing is imported, so the
environment of another interpreter is read by looking at the folders of its `sys.path`. A file belongs to the
distribution whose RECORD lists it; that settles namespace packages and distributions that share a top-level name.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from envpack.discover.dependencies import Source
from envpack.discover.editable import editable_folders, editable_modules


@dataclass(frozen=True)
class InstalledDistribution:
    """One installed distribution, read from its metadata folder as far as it is asked.

    Attributes:
        metadata: absolute path of its `.dist-info` or `.egg-info` (a folder, or a file for old distutils).
        location: the folder that the paths in its RECORD are relative to.
    """

    metadata: str
    location: str

    @cached_property
    def name(self) -> str:
        """Normalized name."""
        return str(canonicalize_name(self._header("name") or self._stem.partition("-")[0]))

    @cached_property
    def version(self) -> str:
        """Installed version, or `0` where the metadata has none."""
        return self._header("version") or self._stem.partition("-")[2].partition("-")[0] or "0"

    @cached_property
    def requires(self) -> tuple[Requirement, ...]:
        """What it says it requires, markers unevaluated; lines that are no requirement are left out."""
        found = []
        for line in self._headers.get("requires-dist", ()) or self._egg_requirements():
            try:
                found.append(Requirement(line))
            except InvalidRequirement:
                continue  # old metadata is full of these, and installers skip them too
        return tuple(found)

    @property
    def wheel_tags(self) -> tuple[str, ...]:
        """The tags of the wheel that it was installed from, such as `py3-none-any`; empty for other installs."""
        return tuple(_parse_headers(self._text("WHEEL")).get("tag", ()))

    @cached_property
    def is_editable(self) -> bool:
        """Whether it is a development install: its code lies outside the environment."""
        return bool(self.direct_url.get("dir_info", {}).get("editable")) or self._is_link

    @property
    def source(self) -> Source:
        """What installed it."""
        if self.is_editable:
            return "editable"
        if self._text("INSTALLER").strip() == "conda":
            return "conda"
        return "system" if os.path.basename(self.location) == "dist-packages" else "wheel"

    @cached_property
    def project_folder(self) -> str | None:
        """Folder of the project that an editable install points at."""
        if self._is_link:
            return self.location
        url = str(self.direct_url.get("url", ""))
        if not self.is_editable or not url.startswith("file://"):
            return None
        from urllib.parse import unquote, urlsplit

        return unquote(urlsplit(url).path)

    @cached_property
    def files(self) -> frozenset[str]:
        """Absolute paths of its files; empty where the installer left no list."""
        base = self.location
        listed = self._recorded
        return frozenset(os.path.normpath(os.path.join(base, name)) for name in listed)

    @cached_property
    def top_level(self) -> frozenset[str]:
        """The first parts of the names in its list of files, and what its `top_level.txt` names."""
        others = (".dist-info", ".egg-info", "..", ".pth")
        modules = {part.partition(".")[0] for part in self._roots if not part.endswith(others)}
        return frozenset(modules | set(self._text("top_level.txt").split()) | set(self.editable))

    @cached_property
    def _roots(self) -> frozenset[str]:
        """The files and folders in its location that its list of files begins with."""
        record = self._text("RECORD")
        if not record or '"' in record:
            return frozenset(name.partition("/")[0] for name in self._recorded)
        # Five times as fast as reading every row; this is done for all distributions of an environment.
        return frozenset(line.partition(",")[0].partition("/")[0] for line in record.splitlines())

    @cached_property
    def _starters(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self._roots if name.endswith(".pth")))

    @cached_property
    def editable(self) -> dict[str, str]:
        """Modules that its development install maps to a path; empty for others."""
        return editable_modules(self.location, self._starters)

    @cached_property
    def import_folders(self) -> frozenset[str]:
        """Folders that its development install puts on the search path."""
        if self._is_link:
            return frozenset({self.location})
        return frozenset(editable_folders(self.location, self._starters))

    @cached_property
    def _recorded(self) -> tuple[str, ...]:
        if record := self._text("RECORD"):
            return tuple(row[0] for row in csv.reader(record.splitlines()) if row)
        if installed := self._text("installed-files.txt"):
            relative = os.path.relpath(self.metadata, self.location)
            return tuple(os.path.normpath(os.path.join(relative, line)) for line in installed.splitlines())
        return ()

    @property
    def _stem(self) -> str:
        return os.path.basename(self.metadata).rpartition(".")[0]

    @property
    def _is_link(self) -> bool:
        # A `setup.py develop` install: the egg-info stands in the project's own folder, not in the environment.
        return self.metadata.endswith(".egg-info") and os.path.exists(os.path.join(self.location, "setup.py"))

    def _text(self, name: str) -> str:
        try:
            with open(os.path.join(self.metadata, name), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    @cached_property
    def direct_url(self) -> dict[str, Any]:
        """What its `direct_url.json` says (PEP 610); empty for what came from an index."""
        try:
            data = json.loads(self._text("direct_url.json") or "{}")
        except ValueError:
            return {}
        return data if isinstance(data, dict) else {}

    @cached_property
    def _headers(self) -> dict[str, list[str]]:
        text = self._text("METADATA") or self._text("PKG-INFO")
        if not text and os.path.isfile(self.metadata):
            with open(self.metadata, encoding="utf-8", errors="replace") as file:
                text = file.read()
        return _parse_headers(text)

    def _header(self, name: str) -> str:
        values = self._headers.get(name, ())
        return values[0] if values else ""

    def _egg_requirements(self) -> Iterator[str]:
        """Translate the sections of an egg's `requires.txt` (`[extra:marker]`) into requirement lines."""
        condition = ""
        for line in map(str.strip, self._text("requires.txt").splitlines()):
            if line.startswith("["):
                extra, _, marker = line.strip("[]").partition(":")
                parts = [f"({marker})"] if marker else []
                parts += [f'extra == "{extra}"'] if extra else []
                condition = "; " + " and ".join(parts) if parts else ""
            elif line and not line.startswith("#"):
                yield line + condition


class DistributionIndex:
    """The distributions of one search path.

    Args:
        sys_path: folders in the order in which they are searched; of two distributions with one name the first counts.
    """

    def __init__(self, sys_path: Iterable[str]) -> None:
        self._by_name: dict[str, InstalledDistribution] = {}
        for folder in sys_path:
            for distribution in _scan(folder):
                self._by_name.setdefault(distribution.name, distribution)

    def __iter__(self) -> Iterator[InstalledDistribution]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> InstalledDistribution | None:
        """Return the distribution of that name, spelt in any way, or `None`."""
        return self._by_name.get(str(canonicalize_name(name)))

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
            if path in distribution.files:
                return distribution
        for distribution in self._editables:
            # Not every file in the project's folder: an example there that imports its neighbour means a local file.
            mapped = any(_inside(path, place) for place in distribution.editable.values())
            if mapped or root in distribution.import_folders:
                return distribution
        folder = os.path.dirname(path)
        # No list of files (old egg-info, Debian): its top_level.txt is then the installer's only word.
        listless = [item for item in candidates if not item.files and _inside(folder, item.location)]
        return listless[0] if listless else None

    def editable_paths(self) -> dict[str, str]:
        """Return the modules that development installs map to paths: `{"pkg": "/home/me/pkg/src/pkg"}`."""
        found: dict[str, str] = {}
        for distribution in self:
            found.update(distribution.editable)
        return found

    @cached_property
    def _by_top_level(self) -> Mapping[str, list[InstalledDistribution]]:
        found: dict[str, list[InstalledDistribution]] = {}
        for distribution in self:
            for name in distribution.top_level:
                found.setdefault(name, []).append(distribution)
        return found

    @cached_property
    def _editables(self) -> list[InstalledDistribution]:
        # The deepest project first, for projects that lie inside one another.
        found = [item for item in self if item.is_editable]
        return sorted(found, key=lambda item: -len(item.project_folder or ""))


def installed_distributions(sys_path: Iterable[str]) -> DistributionIndex:
    """Return the index of a search path, read anew only when one of its folders has changed."""
    return _cached_index(tuple((folder, _modified_ns(folder)) for folder in sys_path))


@lru_cache(maxsize=4)
def _cached_index(stamps: tuple[tuple[str, int], ...]) -> DistributionIndex:
    return DistributionIndex(folder for folder, _ in stamps)


def _modified_ns(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0


def _inside(path: str, folder: str | None) -> bool:
    return folder is not None and (path == folder or path.startswith(folder.rstrip(os.sep) + os.sep))


def _scan(folder: str) -> Iterator[InstalledDistribution]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return  # sys.path may name folders that are not there, and zip files
    for name in names:
        if name.endswith((".dist-info", ".egg-info")) or name == "EGG-INFO":
            yield InstalledDistribution(os.path.join(folder, name), folder)


def _parse_headers(text: str) -> dict[str, list[str]]:
    """Read the header lines of core metadata; the description after the first empty line is not looked at."""
    found: dict[str, list[str]] = {}
    last: list[str] = []
    for line in text.split("\n"):
        # Only a line with nothing at all ends the headers: a folded licence text may hold lines of blanks.
        if line in ("", "\r"):
            break
        if line[0] in " \t" and last:
            last[-1] += " " + line.strip()
            continue
        key, _, value = line.partition(":")
        last = found.setdefault(key.strip().lower(), [])
        last.append(value.strip())
    return found
