"""What a store remembers of packing: which files gave which layer, so that the same files are not read again.

A note is found by what the layer is (kind, name, version, RECORD, Python) and holds only as long as size, time stamps
and inode of every file are those that were read; otherwise the layer is built again, which gives the same digest if the
content is the same. Notes are of this machine alone and never travel.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envpack.pack.manifest import LayerRef, canonical_json
from envpack.pack.sources.distributions import LayerFiles
from envpack.pack.sources.libraries import LayerLibraries
from envpack.pack.store.sharing import make_folder

# Part of every key: another form of layers must not find the notes of this one.
_FORM = "4"


@dataclass(frozen=True, slots=True)
class Note:
    """What was built from some files.

    Attributes:
        ref: the layer.
        edited: files whose content was not what RECORD says.
        missing: files that RECORD names and that were not there.
        libraries: the shared libraries that its machine code asks for and offers.
    """

    ref: LayerRef
    edited: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    libraries: LayerLibraries = field(default_factory=LayerLibraries)


class LayerIndex:
    """The notes of one store for one interpreter.

    Args:
        folder: where they lie.
        target: what the layers were built for, such as the full version of the interpreter.
    """

    def __init__(self, folder: Path, target: str) -> None:
        self._folder = folder
        self._target = target

    def find(self, files: LayerFiles, stamps: str) -> Note | None:
        """Return what was built from these files, if they are unchanged since.

        Args:
            files: the files.
            stamps: their `file_stamps`.
        """
        for note in self._notes(self._name(files)):
            try:
                if note["stamps"] == stamps:
                    return _note(note)
            except (OSError, ValueError, KeyError, TypeError):
                continue  # one of another form: the layer is built again
        return None

    def find_used(self, key: str) -> dict[str, list[str]] | None:
        """Return which modules of which distribution are used, if that was found before.

        Args:
            key: what it follows from.
        """
        for used in self._notes(self._used_name(key)):
            try:
                return {name: [str(module) for module in modules] for name, modules in used.items()}
            except (AttributeError, TypeError):
                continue
        return None

    def keep_used(self, key: str, used: Mapping[str, Sequence[str]]) -> None:
        """Remember which modules of which distribution are used."""
        self._write(self._used_name(key), {name: list(modules) for name, modules in used.items()})

    def keep(self, files: LayerFiles, stamps: str, note: Note) -> None:
        """Remember what was built.

        Args:
            files: what it was built from.
            stamps: their `file_stamps` from before they were read, so that an edit meanwhile is noticed.
            note: what came of it.
        """
        value = {
            "stamps": stamps,
            "layer": note.ref.to_dict(),
            "edited": note.edited,
            "missing": note.missing,
            "wanted": note.libraries.wanted,
            "offered": note.libraries.offered,
        }
        self._write(self._name(files), value)

    def find_archive(self, file: str) -> str:
        """Return the id of the environment that an archive of another tool gave, if it is unchanged; else nothing."""
        for note in self._notes(self._archive_name(file)):
            try:
                if note["stamps"] == archive_stamps(file):
                    return str(note["id"])
            except (OSError, KeyError, TypeError):
                continue
        return ""

    def keep_archive(self, file: str, stamps: str, id: str) -> None:
        """Remember which environment an archive gave.

        Args:
            file: the archive.
            stamps: its `archive_stamps` from before it was read.
            id: the id of the environment.
        """
        self._write(self._archive_name(file), {"stamps": stamps, "id": id})

    def _notes(self, name: str) -> Iterator[Any]:
        for folder in (self._folder / str(os.geteuid()), self._folder):
            try:
                yield _trusted(folder / name)
            except (OSError, ValueError):
                continue  # no note, or one that was cut short

    def _write(self, name: str, value: object) -> None:
        folder = self._folder
        make_folder(folder)
        if folder.stat().st_uid != os.geteuid():
            # In a store of somebody else each user has notes of their own: what is another's cannot be replaced.
            folder = folder / str(os.geteuid())
            folder.mkdir(0o700, exist_ok=True)
        beside = folder / f"{name}.{os.getpid()}.{threading.get_ident()}.tmp"
        beside.write_bytes(canonical_json(value))
        os.replace(beside, folder / name)

    def _used_name(self, key: str) -> str:
        return f"{hashlib.sha256(f'{_FORM} used {self._target} {key}'.encode()).hexdigest()}.json"

    def _archive_name(self, file: str) -> str:
        key = f"{_FORM}\0archive\0{os.path.realpath(file)}\0{self._target}"
        return f"{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()}.json"

    def _name(self, files: LayerFiles) -> str:
        content = hashlib.sha256(files.stamp).hexdigest()
        # What was fetched lies in another folder each time.
        listed = [target if files.identity else f"{target}\0{file}" for target, file in files.files]
        places = hashlib.sha256("\0".join(listed).encode()).hexdigest()
        key = f"{_FORM}\0{files.kind}\0{files.name}\0{files.version}\0{content}\0{places}\0{self._target}"
        return f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def _note(data: Any) -> Note:
    libraries = LayerLibraries(tuple((name, file) for name, file in data["wanted"]), tuple(data["offered"]))
    return Note(LayerRef.from_dict(data["layer"]), tuple(data["edited"]), tuple(data["missing"]), libraries)


def _trusted(file: Path) -> Any:
    """Return a note of this user, or of the owner of its folder; what others say which layer is which counts nothing.

    Raises:
        PermissionError: it is somebody else's.
    """
    with open(file, "rb") as stream:
        if os.fstat(stream.fileno()).st_uid not in (os.geteuid(), os.stat(file.parent).st_uid):
            raise PermissionError(f"{str(file)!r} is another user's")
        return json.loads(stream.read())


def archive_stamps(file: str) -> str:
    """Return what changes when a file does: size, time stamps and inode."""
    status = os.stat(file)
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def file_stamps(files: LayerFiles) -> str:
    """Return a digest of size, time stamps and inode of all files of a layer, or of what says the same."""
    if files.identity:
        return hashlib.sha256(files.identity).hexdigest()
    parts: list[str] = []
    for _, file in files.files:
        try:
            status = os.stat(file)
        except FileNotFoundError:
            status = os.lstat(file)  # a link of a conda package may lead to what another one holds
        # Each link to a file gives it a new time of change, and an environment of a store is packed like any other. A
        # file that has several names and that nobody may write does not change in place.
        is_fixed = status.st_nlink > 1 and not status.st_mode & 0o222
        changed_ns = 0 if is_fixed else status.st_ctime_ns
        parts.append(f"{status.st_size} {status.st_mtime_ns} {changed_ns} {status.st_ino} {status.st_mode}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
