"""Zip archives on a search path (`zipimport`, zipped eggs): their files as if they lay in a folder of that name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache

from envpack.discover.environment.cache import Stamp, stamp


def read_text(path: str) -> str:
    """Return the text of a file, which may lie in an archive; empty where it is not there or cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except NotADirectoryError:
        return _member_text(path)
    except OSError:
        return ""


def listing(folder: str) -> Mapping[str, bool]:
    """Return the names in a folder, or in an archive or a folder of it, and whether each is a folder itself.

    Empty where there is no such folder, or it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return {entry.name: _is_folder(entry) for entry in entries}
    except NotADirectoryError:
        archive, inside = _split(folder)
        return _folders(archive, stamp(archive)).get(inside, {}) if archive else {}
    except OSError:
        return {}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads to itself


def _split(path: str) -> tuple[str, str]:
    """Return the archive that a path leads into, and the path in it; two empty texts if there is none."""
    above, inside = path, ""
    while not os.path.exists(above):
        above, name = os.path.split(above)
        inside = f"{name}/{inside}" if inside else name
    return (above, inside) if os.path.isfile(above) else ("", "")


def _member_text(path: str) -> str:
    from zipfile import BadZipFile, ZipFile

    archive, inside = _split(path)
    try:
        with ZipFile(archive) as file:
            return file.read(inside).decode("utf-8", "replace")
    except (OSError, BadZipFile, KeyError, RuntimeError, NotImplementedError):
        return ""  # no archive, no such member, encrypted, or packed in a way that zipimport cannot read either


@lru_cache(maxsize=32)
def _folders(archive: str, _stamp: Stamp) -> Mapping[str, Mapping[str, bool]]:
    from zipfile import BadZipFile, ZipFile

    found: dict[str, dict[str, bool]] = {"": {}}
    try:
        with ZipFile(archive) as file:
            names = file.namelist()
    except (OSError, BadZipFile):
        return found
    for name in names:
        parts = [part for part in name.split("/") if part]
        for depth in range(len(parts)):
            is_folder = depth + 1 < len(parts) or name.endswith("/")
            found.setdefault("/".join(parts[:depth]), {})[parts[depth]] = is_folder
    return found
