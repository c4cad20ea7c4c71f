"""The distributions of an environment: which files, requirements and bytes are whose, and environments of some of them.

An environment of links holds exactly the files that the `RECORD`s of the chosen distributions list. Modules, data
files, metadata, entry points and start files of all others are not there, in child processes neither: nothing is faked.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import Distribution as Metadata
from importlib.metadata import DistributionFinder, MetadataPathFinder
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OBSERVER = Path(__file__).parent / "inside" / "observer.py"
NOT_ASKED = {"pip"}
"""No answer of a tool, and no part of an environment of links."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """One installed distribution: normalized name, version, bytes, files relative to the environment's folder."""

    name: str
    version: str
    size_bytes: int
    files: tuple[str, ...]
    requires: tuple[Requirement, ...]
    source_folder: str | None
    """Where an editable one has its code."""


@dataclass
class _Node:
    """A file or folder of the environment and who owns something in it."""

    owners: set[str] = field(default_factory=set)
    children: dict[str, _Node] = field(default_factory=dict)


class Environment:
    """All distributions that a prefix's interpreter finds in the one folder where they are installed."""

    def __init__(self, python: Path) -> None:
        self.python = python.absolute()
        self.prefix = self.python.parent.parent
        (self.folder,) = self.prefix.glob("lib/python3.*/site-packages")
        found = MetadataPathFinder.find_distributions(DistributionFinder.Context(path=[str(self.folder)]))
        everything = (_describe(metadata, self.folder) for metadata in found)
        self.distributions = {dist.name: dist for dist in everything if dist.name not in NOT_ASKED}

    @cached_property
    def owners(self) -> dict[str, set[str]]:
        """The distributions that list a file, by its path relative to the folder."""
        owners: dict[str, set[str]] = {}
        for dist in self.distributions.values():
            for file in dist.files:
                owners.setdefault(file, set()).add(dist.name)
        return owners

    def owner(self, path: str, *folders: Path) -> str | None:
        """Return whose file `path` is; `folders` are further places where this environment's files are linked."""
        for folder in (*map(str, folders), str(self.folder)):
            if path.startswith(folder + os.sep):
                return self._owner_inside(os.path.relpath(path, folder))
        for dist in self.distributions.values():
            if dist.source_folder and path.startswith(dist.source_folder + os.sep):
                return dist.name
        return None

    def _owner_inside(self, relative: str) -> str | None:
        if owners := self.owners.get(_source_of(relative)) or self.owners.get(relative):
            return min(owners)
        node = self._tree
        for part in Path(relative).parts:
            if part not in node.children:
                break
            node = node.children[part]
            if len(node.owners) == 1:  # a file that no RECORD lists, in a folder of one distribution
                return min(node.owners)
        return None

    def closure(self, names: Iterable[str]) -> set[str]:
        """Return `names` and all that they require here, with the extras that requirements name."""
        seen: set[tuple[str, str]] = set()
        pending = [(name, "") for name in names]
        while pending:
            name, extra = pending.pop()
            if (name, extra) in seen or name not in self.distributions:
                continue
            seen.add((name, extra))
            for requirement in self.distributions[name].requires:
                if requirement.marker is None or requirement.marker.evaluate({**default_environment(), "extra": extra}):
                    required = str(canonicalize_name(requirement.name))
                    pending += [(required, ""), *((required, wanted) for wanted in requirement.extras)]
        return {name for name, _ in seen}

    def size_bytes(self, names: Iterable[str]) -> int:
        """Return the bytes of the installed files of `names`."""
        return sum(self.distributions[name].size_bytes for name in names if name in self.distributions)

    @cached_property
    def _tree(self) -> _Node:
        root = _Node()
        for dist in self.distributions.values():
            for file in dist.files:
                node = root
                for part in Path(file).parts:
                    node = node.children.setdefault(part, _Node())
                    node.owners.add(dist.name)
        return root

    @contextmanager
    def only(self, names: Collection[str]) -> Iterator[Links]:
        """Make an environment of links to the files of `names`, for the time of the block."""
        with tempfile.TemporaryDirectory(prefix="environment-") as made:
            prefix = Path(made)
            folder = prefix / self.folder.relative_to(self.prefix)
            folder.mkdir(parents=True)
            (prefix / "bin").mkdir()
            base = _base_python(self.python)
            (prefix / "bin" / "python").symlink_to(base)
            (prefix / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
            _link(self._tree, set(names), self.folder, folder)
            (folder / "sitecustomize.py").symlink_to(OBSERVER)
            yield Links(prefix / "bin" / "python", folder)


@dataclass(frozen=True, slots=True)
class Links:
    """An environment of links: its interpreter and the folder of its distributions."""

    python: Path
    folder: Path


def _link(node: _Node, names: set[str], source: Path, target: Path) -> None:
    for name, child in node.children.items():
        if not child.owners & names:
            continue
        if not child.children or len(child.owners) == 1:
            if (source / name).exists():
                (target / name).symlink_to(source / name)
        else:
            (target / name).mkdir()
            _link(child, names, source / name, target / name)


def _base_python(python: Path) -> Path:
    """Return the interpreter that the environment of `python` was made of."""
    settings = dict(
        line.split(" = ", 1) for line in (python.parent.parent / "pyvenv.cfg").read_text().splitlines() if " = " in line
    )
    return Path(settings["home"]) / os.path.basename(os.path.realpath(python))


def _describe(metadata: Metadata, folder: Path) -> Distribution:
    files = tuple(_recorded(metadata))
    sizes = (folder / file for file in files)
    return Distribution(
        name=str(canonicalize_name(metadata.metadata["Name"])),
        version=metadata.version,
        size_bytes=sum(file.stat().st_size for file in sizes if file.is_file()),
        files=files,
        requires=tuple(Requirement(line) for line in metadata.requires or ()),
        source_folder=_source_folder(metadata),
    )


def _recorded(metadata: Metadata) -> Iterator[str]:
    for row in csv.reader((metadata.read_text("RECORD") or "").splitlines()):
        # Scripts lie outside; bytecode follows its source.
        if row and not row[0].startswith(("..", "/")) and "__pycache__" not in row[0]:
            yield row[0]


def _source_folder(metadata: Metadata) -> str | None:
    origin = json.loads(metadata.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return url2pathname(urlparse(origin["url"]).path)
    return None


def _source_of(relative: str) -> str:
    """Return the source file of a bytecode file, any other path unchanged."""
    folder, name = os.path.split(relative)
    if os.path.basename(folder) != "__pycache__":
        return relative
    return os.path.join(os.path.dirname(folder), name.split(".", 1)[0] + ".py")


def python_version() -> str:
    """Return the version that the environments of links run, which is that of this process."""
    return ".".join(map(str, sys.version_info[:3]))
