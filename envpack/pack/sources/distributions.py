"""The files of installed distributions and of local code, as sources of layers.

A distribution's files are those of its RECORD, so two environments that installed the same wheel give the same layer.
Installers' own additions are told apart: bytecode is compiled again, console scripts lose their absolute interpreter
line. What RECORD says about sizes and digests is kept, so that edited and missing files can be reported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from envpack.discover.environment.distributions import DistributionIndex
from envpack.discover.environment.interpreter import Interpreter
from envpack.discover.environment.metadata import InstalledDistribution
from envpack.errors import DistributionFilesError
from envpack.pack.layer.writer import Source
from envpack.pack.manifest import LayerKind
from envpack.pack.sources.bytecode import BytecodeCompiler
from envpack.pack.sources.record import ORIGIN, content_of, is_installed_note, is_local_origin, portable_record, rows
from envpack.pack.sources.scripts import relocatable
from envpack.pack.sources.trees import editable_files, module_files, tree_files

_TEST_FOLDERS = ("/tests/", "/test/")

# Of more modules than this a program uses a part, and which depends on the program: their bytecode is another layer.
_MOST_WITH_BYTECODE = 64


@dataclass(frozen=True, slots=True)
class LayerFiles:
    """What goes into one layer, before it is read.

    Attributes:
        kind: where the files come from.
        name: normalized name of the distribution, or `local`.
        version: its version; empty for local code.
        stamp: what identifies the content besides the files' stamps: digest of RECORD and the like.
        files: path in the environment and path on disk, sorted.
        recorded: sha256 (hexadecimal) that RECORD promises, by path in the environment.
        missing: files that RECORD names and the disk does not have.
        identity: what the files are, where that is known without looking at them: the RECORD of what was just fetched.
        left_out_bytes: size of the files that were left out of it; 0 if it is whole.
        make: gives what is written into the layer, where that is more than the files as they are; it brings `recorded`
            up to date for what is packed otherwise.
    """

    kind: LayerKind
    name: str
    version: str
    stamp: bytes
    files: tuple[tuple[str, str], ...]
    recorded: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    identity: bytes = b""
    left_out_bytes: int = 0
    make: Callable[[BytecodeCompiler], Iterator[Source]] | None = None

    @property
    def has_bytecode(self) -> bool:
        """Whether the bytecode of its modules is in the layer itself."""
        if self.make is not None or self.kind == "local":
            return True
        return sum(is_module(target) for target, _ in self.files) <= _MOST_WITH_BYTECODE


def site_packages(python: str) -> str:
    """Return where modules lie in every environment of a Python version such as `3.11`."""
    return f"lib/python{python}/site-packages"


class InstalledFiles:
    """The files of the distributions that an interpreter can import.

    Args:
        interpreter: the interpreter whose environment is packed.
    """

    def __init__(self, interpreter: Interpreter) -> None:
        self.index = DistributionIndex(interpreter.sys_path)
        self._site = site_packages(".".join(interpreter.version.split(".")[:2]))
        self._executable = interpreter.executable

    def find(self, name: str, version: str) -> InstalledDistribution:
        """Return what is installed under a name.

        Raises:
            DistributionFilesError: it is not installed there in that version.
        """
        installed = self.index.get(name)
        if installed is None or installed.version != version:
            met = "none" if installed is None else installed.version
            raise DistributionFilesError(
                f"distribution {name!r} {version} expected in the environment of {self._executable}, {met} met",
                "analyse again with the interpreter that has it",
            )
        return installed

    def layer(self, installed: InstalledDistribution) -> LayerFiles:
        """Return what belongs to a distribution that conda did not install.

        Raises:
            DistributionFilesError: its files cannot be told.
        """
        name, version = installed.name, installed.version
        record = content_of(os.path.join(installed.metadata, "RECORD"))
        if not record:
            return self._unlisted(installed)
        if installed.is_editable:
            return self._editable(installed, record)
        files, recorded, missing = self._recorded(installed.location, record)
        return LayerFiles(installed.source, name, version, record, files, recorded, missing)

    def _recorded(
        self, location: str, record: bytes
    ) -> tuple[tuple[tuple[str, str], ...], dict[str, str], tuple[str, ...]]:
        """Return the files that are there, the digests that RECORD promises, and the files that are missing."""
        files: list[tuple[str, str]] = []
        recorded: dict[str, str] = {}
        missing: list[str] = []
        for path, digest in rows(record):
            if is_installed_note(path):
                continue
            target, file = self._place(location, path)
            if is_local_origin(path, partial(content_of, file)):
                continue
            if not os.path.exists(file):
                missing.append(file)
                continue
            files.append((target, file))
            if digest:
                recorded[target] = digest
        return tuple(sorted(files)), recorded, tuple(sorted(missing))

    def _place(self, location: str, path: str) -> tuple[str, str]:
        """Return where a file of RECORD goes in an environment, and where it is on disk."""
        file = f"{location}/{path}" if _is_below(path) else os.path.normpath(os.path.join(location, path))
        if file.startswith(location + "/"):
            return f"{self._site}/{file[len(location) + 1 :]}", file
        # Scripts, headers and data lie below the prefix: three folders up from lib/pythonX.Y/site-packages.
        prefix = location
        for _ in range(3):
            prefix = os.path.dirname(prefix)
            if file.startswith(prefix.rstrip("/") + "/"):
                return file[len(prefix.rstrip("/")) + 1 :].removeprefix("local/"), file
        raise DistributionFilesError(
            f"file outside of its environment: {file!r}, listed by a RECORD in {location!r}",
            "leave the distribution out with --exclude",
        )

    def _editable(self, installed: InstalledDistribution, record: bytes) -> LayerFiles:
        """Return the metadata and the source tree of an editable installation, without what points at the tree."""
        files, _, missing = self._recorded(installed.location, record)
        pointers = [file for _, file in files if os.path.dirname(file) == installed.location]
        # In the pack it is an installation like others: nothing there says where its code was on this machine.
        kept = {target: file for target, file in files if file not in pointers}
        for path, file in editable_files(pointers, installed.editable):
            kept[f"{self._site}/{path}"] = file
        name, version = installed.name, installed.version
        return LayerFiles("editable", name, version, record, tuple(sorted(kept.items())), {}, missing)

    def _unlisted(self, installed: InstalledDistribution) -> LayerFiles:
        """Return the files of a distribution without RECORD, as Debian installs them: its modules and its metadata."""
        names = installed.top_level or {installed.name.replace("-", "_")}
        files = {
            f"{self._site}/{path}": file
            for name in sorted(names)
            for path, file in module_files(installed.location, name)
        }
        if not files:
            raise DistributionFilesError(
                f"distribution {installed.name!r} {installed.version} has no list of its files in "
                f"{installed.metadata!r}, and no module of its name",
                "install it with pip or uv into a virtual environment, or leave it out with --exclude",
            )
        metadata = os.path.basename(installed.metadata)
        if os.path.isdir(installed.metadata):
            for path, file in tree_files(installed.metadata, metadata):
                files[f"{self._site}/{path}"] = file
        else:
            files[f"{self._site}/{metadata}"] = installed.metadata
        return LayerFiles("system", installed.name, installed.version, b"", tuple(sorted(files.items())))


def local_layer(files: Iterable[str], roots: Iterable[str], python: str) -> LayerFiles:
    """Return the user's own files as a layer: each goes where it is importable by the same name.

    Raises:
        DistributionFilesError: a file lies below no root.
    """
    site = site_packages(python)
    by_length = sorted((os.path.abspath(root) for root in roots), key=len, reverse=True)
    placed: list[tuple[str, str]] = []
    for file in files:
        root = next((root for root in by_length if file.startswith(root.rstrip("/") + "/")), None)
        if root is None:
            raise DistributionFilesError(f"local file below none of the folders it could be imported from: {file!r}")
        placed.append((f"{site}/{os.path.relpath(file, root)}", file))
    return LayerFiles("local", "local", "", b"", tuple(sorted(placed)))


def layer_sources(layer: LayerFiles, compiler: BytecodeCompiler | None) -> Iterator[Source]:
    """Yield what is written into the layer: the files, scripts that can be moved, bytecode if there is a compiler."""
    if layer.make is not None and compiler is not None:
        yield from layer.make(compiler)
        return
    has_bytecode = layer.has_bytecode
    for target, file in layer.files:
        if target.startswith("bin/"):
            yield _script(target, file)
            continue
        if target.endswith(".dist-info/RECORD"):
            yield Source(target, make=partial(_record, target, file, layer))
            continue
        yield Source(target, file, follow=True)
        if has_bytecode and compiler is not None and is_module(target):
            yield bytecode_source(target, file, compiler)


def bytecode_layer(layer: LayerFiles, files: Iterable[tuple[str, str]]) -> LayerFiles:
    """Return a layer with the bytecode of some modules of a layer.

    Args:
        layer: the layer that holds their sources.
        files: path in the environment and path on disk of each source.
    """

    def make(compiler: BytecodeCompiler) -> Iterator[Source]:
        for target, file in chosen:
            yield bytecode_source(target, file, compiler)

    chosen = tuple(sorted(files))
    return LayerFiles("bytecode", layer.name, layer.version, layer.stamp, chosen, identity=layer.identity, make=make)


def _script(target: str, file: str) -> Source:
    with open(file, "rb") as stream:
        if stream.read(2) != b"#!":
            return Source(target, file, follow=True)
        stream.seek(0)
        data = stream.read()
    return Source(target, make=partial(relocatable, data), executable=True)


def _record(target: str, file: str, layer: LayerFiles) -> bytes:
    """Return the RECORD of a layer; its scripts, and of an editable or trimmed one all files, are those packed.

    Without them an analysis in the packed environment would take the distribution's own modules for local files.
    """
    site = target.rsplit("/", 2)[0]
    scripts = {
        os.path.relpath(script, site): relocatable(content_of(path))
        for script, path in layer.files
        if script.startswith("bin/")
    }
    is_other = layer.kind == "editable" or layer.left_out_bytes > 0
    packed = {os.path.relpath(path, site) for path, _ in layer.files} if is_other else None
    origin = f"{target.rsplit('/', 1)[0]}/{ORIGIN}"
    left_out = () if any(path == origin for path, _ in layer.files) else (os.path.relpath(origin, site),)
    return portable_record(content_of(file), scripts, packed, left_out)


def bytecode_source(target: str, file: str, compiler: BytecodeCompiler) -> Source:
    """Return the bytecode of a module, to be written beside it."""
    folder, _, base = target.rpartition("/")
    path = f"{folder}/__pycache__/{base[:-3]}.{compiler.tag}.pyc"
    return Source(path, make=partial(compiler.bytecode, file, below_site(target)))


def below_site(target: str) -> str:
    """Return the path that bytecode knows its source by, which says nothing of where the environment is."""
    return target.split("/site-packages/", 1)[-1]


def is_module(target: str) -> bool:
    """Tell whether a file is the source of a module that somebody may wait for."""
    return target.endswith(".py") and not is_test(target)


def is_test(target: str) -> bool:
    """Tell whether a module is part of a test suite: it travels, but nobody waits for its import."""
    return any(folder in target for folder in _TEST_FOLDERS)


def _is_below(path: str) -> bool:
    """Tell cheaply, as it is asked for every file, whether a path needs no normalising."""
    return path[:1] not in ("/", ".") and "/." not in path and "//" not in path
