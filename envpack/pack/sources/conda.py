"""The packages of a conda environment, as sources of layers: each by its record in `conda-meta`.

A package needs more than its modules: libraries that other packages hold, and the interpreter, which is a package too.
So the layers are those of the packages that were asked for and of all that these depend on. What pip has put in place
of a package is taken as pip left it.
A layer is the same wherever the environment lies: the path that conda has written into files is turned back into the
placeholder of the record, and so are the content and digest of the files, unless somebody edited them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from envpack.discover.environment.closure import closure
from envpack.discover.environment.conda import CondaPackage, conda_packages
from envpack.discover.environment.distributions import DistributionIndex
from envpack.discover.environment.metadata import InstalledDistribution
from envpack.discover.environment.names import normalized
from envpack.errors import CondaRecordError
from envpack.pack.layer.placeholders import PIECE_BYTES, empty, file_pieces
from envpack.pack.layer.writer import Source
from envpack.pack.manifest import canonical_json
from envpack.pack.sources.bytecode import BytecodeCompiler
from envpack.pack.sources.distributions import LayerFiles, bytecode_source, is_module
from envpack.pack.sources.scripts import relocatable

# What of a record is said of the package, not of the machine that it was installed on.
_PORTABLE = ("name", "version", "build", "build_number", "subdir", "noarch", "depends", "constrains", "license")
_PORTABLE_PATH = ("path_type", "sha256", "prefix_placeholder", "file_mode")
_NAME = re.compile(r"(?:[^\s]*::)?([A-Za-z0-9_.-]+)")
_HEAD_BYTES = 2


@dataclass(frozen=True, slots=True)
class CondaRecord:
    """What is kept of a package besides its files.

    Attributes:
        path: of its record, in the environment.
        prefix: the folder that it lies in.
        written: the folder whose path stands in its files.
        content: the record.
        paths: what the record says about each file, by path.
    """

    path: str
    prefix: str
    written: str
    content: Mapping[str, Any]
    paths: Mapping[str, Mapping[str, Any]]

    def placeholder(self, path: str) -> tuple[str, str] | None:
        """Return mode and text of the placeholder that a file had; None where it had none."""
        known = self.paths.get(path, {})
        mode, text = known.get("file_mode"), known.get("prefix_placeholder")
        return (mode, text) if isinstance(text, str) and text and mode in ("text", "binary") else None

    def digest(self, path: str) -> str:
        """Return the sha256 that a file had before anything was written into it; empty if it is not known."""
        return str(self.paths.get(path, {}).get("sha256") or "")


@dataclass(frozen=True, slots=True)
class Needed:
    """What an environment needs of conda.

    Attributes:
        packages: by their names in conda.
        distributions: what pip has put in place of packages, and what that requires.
    """

    packages: tuple[str, ...]
    distributions: tuple[InstalledDistribution, ...]


class CondaFiles:
    """The packages of one conda environment.

    Args:
        prefix: its folder; that of any other environment has no packages.
        index: the distributions in it.
        markers: the environment in which markers of requirements are evaluated.
        written: the folder whose path stands in its files, where it was moved since it was made; may be empty.
    """

    def __init__(
        self, prefix: str, index: DistributionIndex, markers: Mapping[str, str], written: str | None = None
    ) -> None:
        self._prefix = prefix
        self._written = prefix if written is None else written
        self._folder = os.path.join(prefix, "conda-meta")
        self._index = index
        self._markers = markers
        self._packages = {package.name: package for package in conda_packages(prefix)}

    def needed(
        self, asked: Iterable[InstalledDistribution], *, interpreter: bool, exclude: Collection[str] = ()
    ) -> Needed:
        """Follow from some distributions what they need.

        Args:
            asked: distributions that conda installed.
            interpreter: whether the interpreter is needed, if it is a package of this environment.
            exclude: names that are left out.

        Raises:
            CondaRecordError: one of them, or one that they depend on, has no record.
        """
        left_out = frozenset(normalized(name) for name in exclude)
        pending = [(self._package(item), item.name) for item in asked]
        if interpreter and "python" in self._packages:
            pending.append(("python", "the environment"))
        packages: set[str] = set()
        others: dict[str, InstalledDistribution] = {}
        done: set[str] = set()
        while pending:
            name, needed_by = pending.pop()
            if name in done or name.startswith("__") or normalized(name) in left_out:
                continue
            done.add(name)
            if name not in self._packages:
                raise self._no_record(name, needed_by)
            replacing = self.replacing(name)
            if replacing is None:
                packages.add(name)
                pending += [(needed, name) for needed in _depends(self._packages[name])]
                continue
            for item in self._required(replacing, left_out):
                if item.source == "conda":
                    pending.append((self._package(item), name))
                else:
                    others[item.name] = item
        return Needed(tuple(sorted(packages)), tuple(others.values()))

    def as_installed(self) -> list[str]:
        """Return the names of all packages that nothing has replaced."""
        return sorted(name for name in self._packages if self.replacing(name) is None)

    def _package(self, item: InstalledDistribution) -> str:
        """Return the package that a distribution is of."""
        for package in self._packages.values():
            if package.record == item.conda_record:
                return package.name
        raise CondaRecordError(
            f"distribution {item.name!r} {item.version} was installed by conda, "
            f"no record of it met in {self._folder!r}{self._unreadable()}",
            "install the package anew, or leave it out with --exclude",
        )

    def _required(
        self, items: list[InstalledDistribution], left_out: frozenset[str]
    ) -> Iterator[InstalledDistribution]:
        for name in sorted(closure(self._index, [item.name for item in items], self._markers, left_out).names):
            item = self._index.get(name)
            if item is not None:
                yield item

    def replacing(self, name: str) -> list[InstalledDistribution] | None:
        """Return what pip has put in place of a package: nothing if it was removed, None if it is as conda left it."""
        package = self._packages[name]
        if not package.metadata:
            return None
        found = [self._index.get(_distribution_name(metadata)) for metadata in package.metadata]
        if any(item is not None and item.source == "conda" for item in found):
            return None
        return [item for item in found if item is not None]

    def layer(self, name: str) -> LayerFiles:
        """Return what belongs to a package.

        Raises:
            CondaRecordError: its record cannot be read.
        """
        package = self._packages[name]
        record = self._record(package)
        files: list[tuple[str, str]] = []
        missing: list[str] = []
        listed = {path for path in record.content["files"] if isinstance(path, str)} - {record.path}
        for path in sorted(listed):
            file = f"{self._prefix}/{path}"
            if _is_compiled(path, listed):
                continue
            if os.path.lexists(file):
                files.append((path, file))
            else:
                missing.append(file)
        # The record itself is read with the files: what changes it, changes the layer.
        files.append((record.path, package.record))
        stamp = canonical_json([record.content.get(key) for key in _PORTABLE])
        recorded = {path: digest for path, _ in files if (digest := record.digest(path))}
        make = partial(_sources, record, tuple(files), recorded)
        return LayerFiles(
            "conda", package.name, package.version, stamp, tuple(files), recorded, tuple(missing), make=make
        )

    def _record(self, package: CondaPackage) -> CondaRecord:
        try:
            with open(package.record, "rb") as stream:
                content = json.load(stream)
            if not isinstance(content.get("files"), list):
                raise ValueError("no list of files")
            listed = (content.get("paths_data") or {}).get("paths") or []
            paths = {item["_path"]: item for item in listed}
            if content["files"] and not paths:
                raise ValueError("it does not say into which files the path was written, as conda does since 4.3")
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CondaRecordError(
                f"record of conda package {package.name!r} cannot be read: {package.record!r}: {error}",
                "install the package anew",
            ) from error
        return CondaRecord(
            f"conda-meta/{os.path.basename(package.record)}", self._prefix, self._written, content, paths
        )

    def _no_record(self, name: str, needed_by: str) -> CondaRecordError:
        return CondaRecordError(
            f"conda package {name!r} expected, needed by {needed_by}, "
            f"no record of it met in {self._folder!r}{self._unreadable()}",
            f"install it anew, or leave it out with --exclude {name}",
        )

    def _unreadable(self) -> str:
        """Name the records that say nothing, of which one may be the one that was looked for."""
        known = {os.path.basename(package.record) for package in self._packages.values()}
        try:
            names = sorted(name for name in os.listdir(self._folder) if name.endswith(".json"))
        except OSError:
            return ""
        broken = ", ".join(repr(name) for name in names if name not in known)
        return f"; not readable there: {broken}" if broken else ""


def package_placeholders(prefix: str) -> set[str]:
    """Return what stands in files of the packages in place of their folder, by their records."""
    found: set[str] = set()
    for package in conda_packages(prefix):
        try:
            with open(package.record, "rb") as stream:
                listed = json.load(stream)["paths_data"]["paths"]
            found.update(text for item in listed if isinstance(text := item.get("prefix_placeholder"), str))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue  # said when its files are looked for
    return found


def _sources(
    record: CondaRecord,
    files: tuple[tuple[str, str], ...],
    recorded: dict[str, str],
    compiler: BytecodeCompiler,
) -> Iterator[Source]:
    """Yield what is written into the layer; digests of what is packed otherwise are brought up to date."""
    changed: dict[str, dict[str, Any]] = {}
    for path, file in files[:-1]:
        placeholder = record.placeholder(path)
        if os.path.islink(file) and record.paths.get(path, {}).get("path_type") != "hardlink":
            yield _link(record.prefix, path, file)
        elif placeholder is None:
            yield _plain(path, file, record, recorded, changed)
            if is_module(path):
                yield bytecode_source(path, file, compiler)
        else:
            yield _placed(path, file, record, placeholder, recorded, changed)
    yield Source(record.path, make=partial(_portable, record, [path for path, _ in files[:-1]], changed))


def _plain(
    path: str, file: str, record: CondaRecord, recorded: dict[str, str], changed: dict[str, dict[str, Any]]
) -> Source:
    """Return a file as it is; a script of the installer loses the path of the interpreter."""
    if not path.startswith("bin/") or os.path.isdir(file) or not _is_script(file):
        return Source(path, file, follow=True)
    data = _read(file)
    content = relocatable(data)
    if content != data:
        _note_change(path, data, content, record.digest(path), recorded, changed)
    return Source(path, make=partial(_given, content), executable=True)


def _placed(
    path: str,
    file: str,
    record: CondaRecord,
    placeholder: tuple[str, str],
    recorded: dict[str, str],
    changed: dict[str, dict[str, Any]],
) -> Source:
    """Return a file with the placeholder in it again; a script that starts with Python's path finds it by itself."""
    mode, text = placeholder
    executable = bool(os.stat(file).st_mode & 0o100)
    if os.path.getsize(file) > PIECE_BYTES:
        large = partial(_original_pieces, file, record, path, placeholder)
        return Source(path, pieces=large, executable=executable, placeholder=placeholder)
    original = partial(_original, file, record, path, placeholder)
    if mode == "text" and executable and _is_script(file):
        data = original()
        content = relocatable(data)
        if content != data:
            _note_change(path, data, content, record.digest(path), recorded, changed)
            if text.encode() not in content:
                changed[path] |= {"prefix_placeholder": None, "file_mode": None}
                return Source(path, make=partial(_given, content), executable=True)
            original = partial(_given, content)
    return Source(path, make=original, executable=executable, placeholder=placeholder)


def _original(file: str, record: CondaRecord, path: str, placeholder: tuple[str, str]) -> bytes:
    return b"".join(_original_pieces(file, record, path, placeholder))


def _original_pieces(file: str, record: CondaRecord, path: str, placeholder: tuple[str, str]) -> Iterator[bytes]:
    mode, text = placeholder
    read = partial(file_pieces, file, mode)
    return empty(read, mode, text.encode(), os.fsencode(record.written), record.digest(path))[0]()


def _note_change(
    path: str,
    data: bytes,
    content: bytes,
    digest: str,
    recorded: dict[str, str],
    changed: dict[str, dict[str, Any]],
) -> None:
    """Let a file that is packed otherwise be expected so, unless it was edited before."""
    packed = hashlib.sha256(content).hexdigest()
    changed.setdefault(path, {})["sha256"] = packed
    if not digest or hashlib.sha256(data).hexdigest() == digest:
        recorded[path] = packed


def _link(prefix: str, path: str, file: str) -> Source:
    """Return a link that leads to the same place without leaving the environment or passing another link."""
    lead = os.path.normpath(os.path.join(os.path.dirname(file), os.readlink(file)))
    real = os.path.realpath(prefix)
    folder = os.path.realpath(os.path.dirname(lead))
    if folder != real and not folder.startswith(real + "/"):
        return Source(path, file, follow=True)
    inside = os.path.normpath(os.path.join(os.path.relpath(folder, real), os.path.basename(lead)))
    return Source(path, target=os.path.relpath(inside, os.path.dirname(path) or "."))


def _portable(record: CondaRecord, files: list[str], changed: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return the record of a layer: what it was, of the files as they are packed, without a word on the machine."""
    content = {key: record.content[key] for key in _PORTABLE if record.content.get(key) is not None}
    paths = []
    for path in files:
        known = {**record.paths.get(path, {}), **changed.get(path, {})}
        paths.append({"_path": path, **{key: known[key] for key in _PORTABLE_PATH if known.get(key) is not None}})
    return canonical_json({**content, "files": files, "paths_data": {"paths": paths, "paths_version": 1}})


def _depends(package: CondaPackage) -> Iterator[str]:
    for line in package.depends:
        match = _NAME.match(line)
        # conda itself adds pip to what Python needs, so that users find it.
        if match is not None and (package.name, match[1]) != ("python", "pip"):
            yield match[1]


def _distribution_name(metadata: str) -> str:
    """Return the name that a folder or file of metadata begins with, such as `alpha-1.0.dist-info`."""
    return normalized(metadata.rpartition(".")[0].split("-")[0])


def _is_compiled(path: str, listed: Collection[str]) -> bool:
    """Tell whether a file is bytecode of a module that is there: it is compiled again."""
    folder, _, name = path.rpartition("/")
    if not path.endswith(".pyc") or not folder.endswith("__pycache__"):
        return False
    return f"{folder.removesuffix('__pycache__')}{name.split('.')[0]}.py" in listed


def _is_script(file: str) -> bool:
    with open(file, "rb") as stream:
        return stream.read(_HEAD_BYTES) == b"#!"


def _read(file: str) -> bytes:
    with open(file, "rb") as stream:
        return stream.read()


def _given(content: bytes) -> bytes:
    return content
