"""One installed distribution, as its installer's metadata describes it (`*.dist-info`, `*.egg-info`, `EGG-INFO`).

What every analysis asks of every distribution is read at once, and can be kept; the rest is read from the metadata when
it is asked for. Nothing is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from envpack.discover.environment.archives import read_text
from envpack.discover.environment.cache import Looks
from envpack.discover.environment.names import normalized
from envpack.values import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envpack.discover.environment.editable import Editable
    from envpack.discover.kinds import Source

# Files that a wheel spreads from the folder of pure modules to that of platform modules, or the other way.
_OTHER_SITE = r"\.\./[^,]*?/(?:site|dist)-packages/([^/,]+)"
_NO_MODULES = (".dist-info", ".egg-info", "..", ".pth")
_SITES = ("site-packages", "dist-packages")
_PLUGINS = "envpack."


@dataclass(frozen=True, eq=False)
class InstalledDistribution:
    """One installed distribution.

    Attributes:
        metadata: absolute path of its `.dist-info` or `.egg-info` (a folder, or a file for old distutils), or of the
            record in `conda-meta` for a package of conda that has neither.
        location: the folder that the paths in its RECORD are relative to.
        name: normalized name.
        version: installed version, or `0` where the metadata has none.
        requires: the lines that say what it requires, markers unevaluated.
        top_level: the first parts of the names in its list of files, and what its `top_level.txt` names.
        editable: modules that its development install maps to a path; empty for others.
        is_mapped_first: whether these are found before the search path is looked at.
        import_folders: folders that its development install puts on the search path.
        is_editable: whether it is a development install: its code lies outside the environment.
        plugins: its entry points in groups of envpack, as group, name and object.
        installer: the name that its installer left of itself; empty if it left none.
        direct_url: what its `direct_url.json` says (PEP 610); empty for what came from an index.
        conda_record: the record in `conda-meta` that lists its metadata, or is its metadata; empty if there is none.
    """

    metadata: str
    location: str
    name: str
    version: str
    requires: tuple[str, ...] = ()
    top_level: frozenset[str] = frozenset()
    editable: Mapping[str, str] = field(default_factory=dict)
    is_mapped_first: bool = False
    import_folders: frozenset[str] = frozenset()
    is_editable: bool = False
    plugins: tuple[tuple[str, str, str], ...] = ()
    installer: str = ""
    direct_url: Mapping[str, Any] = field(default_factory=dict)
    conda_record: str = ""

    @cached_property
    def source(self) -> Source:
        """What installed it."""
        if self.is_editable:
            return "editable"
        # pip over conda leaves the record of conda as it was: what the metadata itself says is newer.
        if self.installer == "conda" or (not self.installer and self.conda_record):
            return "conda"
        return "system" if os.path.basename(self.location) == "dist-packages" else "wheel"

    @property
    def wheel_tags(self) -> tuple[str, ...]:
        """The tags of the wheel that it was installed from, such as `py3-none-any`; empty for other installs."""
        return tuple(parse_headers(self._text("WHEEL")).get("tag", ()))

    @property
    def requires_python(self) -> str:
        """The versions of Python that it is for, such as `>=3.11`; empty where it does not say."""
        return _first(parse_headers(self._text("METADATA") or self._text("PKG-INFO")), "requires-python")

    @cached_property
    def project_folder(self) -> str | None:
        """Folder of the project that an editable install points at."""
        if not self.is_editable:
            return None
        url = str(self.direct_url.get("url", ""))
        if not url.startswith("file://"):
            return self.location if self.metadata.endswith(".egg-info") else None
        from urllib.parse import unquote, urlsplit

        return unquote(urlsplit(url).path)

    @cached_property
    def files(self) -> frozenset[str]:
        """Absolute paths of its files; empty where the installer left no list."""
        return frozenset(os.path.normpath(os.path.join(self.location, name)) for name in self._listed)

    def lists(self, path: str) -> bool:
        """Whether its list of files has an absolute, normalized path."""
        record = self._record
        if not record:
            return path in self.files
        inside = f"{self.location}/"
        name = path[len(inside) :] if path.startswith(inside) else os.path.relpath(path, self.location)
        # A search in the text is a hundred times as fast as reading every row, and nearly always the answer.
        return f"\n{name}," in record or (_is_unusual(record) and path in self.files)

    @property
    def has_files(self) -> bool:
        """Whether its installer left a list of its files."""
        return bool(self._record or self._listed)

    @cached_property
    def _record(self) -> str:
        text = self._text("RECORD")
        return "\n" + text if text else ""

    @cached_property
    def _listed(self) -> tuple[str, ...]:
        listed = _listed(self.metadata, self.location, self._record[1:], self._text("installed-files.txt"))
        if listed or not self.conda_record:
            return listed
        from envpack.discover.environment.conda import site_files

        return site_files(self.conda_record, self.location)

    def _text(self, name: str) -> str:
        return read_text(os.path.join(self.metadata, name))


def read_distribution(metadata: str, location: str, looks: Looks) -> InstalledDistribution | None:
    """Read what every analysis asks of a distribution; `None` for a folder that an uninstallation left behind.

    Args:
        metadata: absolute path of its metadata.
        location: the folder on the search path that it was found in.
        looks: is told every file that the result depends on.
    """

    def text(name: str) -> str:
        path = os.path.join(metadata, name)
        looks.inside(path)
        return read_text(path)

    looks.at(metadata)
    headers = parse_headers(text("METADATA") or text("PKG-INFO") or read_text(metadata))
    record = text("RECORD")
    if not (headers or record):
        return None
    others = "" if record else text("installed-files.txt")
    roots = _roots(record) if record else {name.partition("/")[0] for name in _listed(metadata, location, "", others)}
    starters = sorted(name for name in roots if name.endswith(".pth"))
    found = _editable(location, starters, looks)
    modules = {part.partition(".")[0] for part in roots if not part.endswith(_NO_MODULES)}
    modules |= {*text("top_level.txt").split(), *_packages(found.modules if found else {})}
    is_tree = _is_tree(metadata, location, looks)
    direct = _direct_url(text("direct_url.json"))
    stem = os.path.basename(metadata).rpartition(".")[0].split("-")
    name = _first(headers, "name") or stem[0] or os.path.basename(location).partition("-")[0]
    if not (modules or roots):
        # Neither a list of files nor of modules, as Debian installs some: the name is all that is left.
        modules = {name.replace("-", "_").partition(".")[0]}
    return InstalledDistribution(
        metadata,
        location,
        normalized(name),
        _first(headers, "version") or (stem[1] if len(stem) > 1 else "0"),
        requires=tuple(headers.get("requires-dist", ()) or _egg_requirements(text("requires.txt"))),
        top_level=frozenset(modules),
        editable=found.modules if found else {},
        is_mapped_first=found is not None and found.is_first,
        import_folders=frozenset({location}) if is_tree else found.folders if found else frozenset(),
        is_editable=is_tree or bool(direct.get("dir_info", {}).get("editable")),
        plugins=tuple(_plugins(text("entry_points.txt"))),
        # Nobody edits that one: the stamp of its folder is enough.
        installer=read_text(os.path.join(metadata, "INSTALLER")).strip(),
        direct_url=direct,
    )


def _editable(location: str, starters: Sequence[str], looks: Looks) -> Editable | None:
    if not starters:
        return None
    from envpack.discover.environment.editable import read_editable

    return read_editable(location, starters, looks)


def parse_headers(text: str) -> dict[str, list[str]]:
    """Read the header lines of core metadata; the description after the first empty line is not looked at."""
    found: dict[str, list[str]] = {}
    last: list[str] = []
    for line in text.partition("\n\n")[0].split("\n"):
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


def _first(headers: Mapping[str, list[str]], name: str) -> str:
    values = headers.get(name, ())
    return values[0] if values else ""


def _is_unusual(record: str) -> bool:
    """Whether rows may name a file in other words than its path below the location."""
    return '"' in record or "\n/" in record or "\n./" in record or "/./" in record or "\n../" in record


def _roots(record: str) -> set[str]:
    """Return the first part of each path in a RECORD."""
    import re

    if '"' in record:
        return {name.partition("/")[0] for name in _listed("", "", record, "")}
    # Rows without a folder keep what follows the comma; there are few of them, and searching is ten times as slow.
    found = {row.split("/", 1)[0] for row in record.splitlines()}
    others = [row for row in record.splitlines() if row.startswith("../")] if ".." in found else []
    spread = {match[1] for row in others if (match := re.match(_OTHER_SITE, row))}
    return {name.partition(",")[0] for name in found if name} | spread


def _listed(metadata: str, location: str, record: str, installed: str) -> tuple[str, ...]:
    """Return the paths in a list of files, relative to the location."""
    if record:
        import csv

        return tuple(row[0] for row in csv.reader(record.splitlines()) if row)
    relative = os.path.relpath(metadata, location) if installed else ""
    return tuple(os.path.normpath(os.path.join(relative, line)) for line in installed.splitlines())


def _is_tree(metadata: str, location: str, looks: Looks) -> bool:
    """Whether this is a `setup.py develop` install: the egg-info stands in the project, not in an environment."""
    if not metadata.endswith(".egg-info") or os.path.basename(location) in _SITES:
        return False
    places = (location, os.path.dirname(location))
    marks = [os.path.join(place, name) for place in places for name in ("setup.py", "pyproject.toml")]
    return any(map(looks.at, marks))


def _packages(modules: Mapping[str, str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def _direct_url(text: str) -> dict[str, Any]:
    if not text:
        return {}
    import json

    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _egg_requirements(text: str) -> Iterator[str]:
    """Translate the sections of an egg's `requires.txt` (`[extra:marker]`) into requirement lines."""
    condition = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            extra, _, marker = line.strip("[]").partition(":")
            parts = [f"({marker})"] if marker else []
            parts += [f'extra == "{extra}"'] if extra else []
            condition = "; " + " and ".join(parts) if parts else ""
        elif line and not line.startswith("#"):
            yield line + condition


def _plugins(text: str) -> Iterator[tuple[str, str, str]]:
    """Give the entry points in groups of envpack."""
    group = ""
    for line in map(str.strip, text.splitlines() if _PLUGINS in text else ()):
        if line.startswith("["):
            group = line.strip("[]").strip()
        elif group.startswith(_PLUGINS) and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield group, name.strip(), value.partition("[")[0].strip()
