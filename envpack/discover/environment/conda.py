"""What conda knows about an environment: the records in its `conda-meta`, one JSON file a package.

They settle what metadata of Python leaves open: who owns modules of packages that have no metadata (libraries with
bindings, old recipes), and which distributions came from conda. A record is not always true: pip installs over conda
and leaves the record as it was. So whatever metadata is on disk comes first, and a record that names metadata which is
no longer there says nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from envpack.discover.environment.archives import read_text
from envpack.discover.environment.cache import Looks, Stamp, are_settled, load, save, stamp
from envpack.discover.environment.metadata import InstalledDistribution
from envpack.discover.environment.names import normalized
from envpack.values import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # Of each record: its stamp, and the values of a `CondaPackage`; none for what is no record.
    _Row = tuple[Stamp, tuple[Any, ...]]

_IN_SITE = r"(?:lib/(?:python|pypy)\d[\w.]*|Lib)/site-packages/([^/]+)(.*)"
_METADATA = (".dist-info", ".egg-info")
_MODULES = (".py", ".so", ".pyc", ".pyd")


@dataclass(frozen=True, slots=True)
class CondaPackage:
    """One package that conda installed.

    Attributes:
        record: absolute path of its JSON file.
        name: its name in conda.
        version: its version.
        depends: names in conda of the packages that it depends on.
        metadata: names of its `.dist-info` and `.egg-info` in `site-packages`.
        modules: top-level modules that it has in `site-packages`.
    """

    record: str
    name: str
    version: str
    depends: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


def conda_packages(prefix: str) -> list[CondaPackage]:
    """Return the packages in a conda environment, each record read anew when it has changed.

    Args:
        prefix: folder of the environment; that of any other environment has no packages.
    """
    folder = os.path.join(prefix, "conda-meta")
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    except OSError:
        return []
    looks = Looks()
    kept = load("conda", folder) or {}
    rows = {name: _row(os.path.join(folder, name), kept.get(name)) for name in names}
    settled = {name: row for name, row in rows.items() if are_settled([row[0]], looks.started_ns)}
    if settled != kept:
        save("conda", folder, settled)
    return [CondaPackage(*facts) for _, facts in rows.values() if facts]


def add_conda(
    distributions: Mapping[str, InstalledDistribution], packages: Sequence[CondaPackage], site: str
) -> Iterator[InstalledDistribution]:
    """Give what the records of an environment say beyond the metadata that is there.

    Args:
        distributions: what has metadata, by normalized name.
        packages: the records.
        site: the folder of modules of that environment.

    Returns:
        The distributions whose metadata a record lists, marked as such, and the packages that own modules but never
        had metadata.
    """
    by_metadata = {os.path.basename(item.metadata): item for item in distributions.values() if item.location == site}
    names = {package.name: _names(package, by_metadata) for package in packages}
    for package in packages:
        requires = tuple(name for needed in package.depends for name in names.get(needed, ()))
        for item in filter(None, map(by_metadata.get, package.metadata)):
            # Metadata of old distutils cannot say what it requires and often not which files it has; the record can.
            is_silent = not item.requires and item.metadata.endswith(".egg-info")
            modules = () if item.has_files else package.modules
            yield replace(
                item,
                conda_record=package.record,
                requires=requires if is_silent else item.requires,
                top_level=item.top_level.union(modules),
            )
        if package.modules and not package.metadata and normalized(package.name) not in distributions:
            yield InstalledDistribution(
                metadata=package.record,
                location=site,
                name=normalized(package.name),
                version=package.version,
                requires=requires,
                top_level=frozenset(package.modules),
                conda_record=package.record,
            )


def site_files(record: str, site: str) -> tuple[str, ...]:
    """Return the files of a package in the folder of modules, relative to that.

    Args:
        record: path of its JSON file.
        site: the folder of modules.
    """
    prefix = os.path.dirname(os.path.dirname(record))
    inside = os.path.relpath(site, prefix).replace(os.sep, "/") + "/"
    return tuple(file.removeprefix(inside) for file in _files(_content(record)) if file.startswith(inside))


def _names(package: CondaPackage, by_metadata: Mapping[str, InstalledDistribution]) -> list[str]:
    """Return the names of the distributions that a package is; none where it holds no modules, or was replaced."""
    if package.metadata:
        return [by_metadata[name].name for name in package.metadata if name in by_metadata]
    return [package.name] if package.modules else []


def _row(path: str, kept: _Row | None) -> _Row:
    import re

    now = stamp(path)
    if kept is not None and kept[0] == now:
        return kept
    content = _content(path)
    found = [match for file in _files(content) if (match := re.fullmatch(_IN_SITE, file))]
    metadata = {match[1] for match in found if match[1].endswith(_METADATA)}
    files = {match[1] for match in found if match[2] or match[1].endswith(_MODULES)} - {"__pycache__"} - metadata
    modules = {name.partition(".")[0] for name in files}
    name, version, depends = content.get("name"), content.get("version"), content.get("depends")
    if not (isinstance(name, str) and isinstance(version, str)):
        return now, ()
    needed = [line.split()[0] for line in depends if line.strip()] if isinstance(depends, list) else []
    return now, (path, name, version, tuple(needed), tuple(sorted(metadata)), tuple(sorted(modules)))


def _content(record: str) -> Mapping[str, object]:
    import json

    try:
        content = json.loads(read_text(record))
    except ValueError:
        return {}  # half-written, or no record at all
    return content if isinstance(content, dict) else {}


def _files(content: Mapping[str, object]) -> list[str]:
    files = content.get("files")
    return [file for file in files if isinstance(file, str)] if isinstance(files, list) else []
