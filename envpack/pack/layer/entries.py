"""The entry list of a layer: what the layer holds, in one canonical form whose sha256 names the layer.

Pure. `parse_entries` accepts nothing that could lead a write outside the target folder: the list is judged as a whole
before the first file is made, so that extraction need not judge again. Paths are relative to the root of the
environment, in the layout that environments have on disk (`lib/python3.11/site-packages/...`, `bin/...`).

Schema 1 is the entries alone. Schema 2, written only where it is needed, adds what packages of conda have: placeholders
(`envpack.pack.layer.placeholders`), and names that differ in case only, as in the terminal descriptions of ncurses.
Where names do not differ in case for the file system either, extraction fails: nothing is ever overwritten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import NamedTuple

from envpack.errors import PackFormatError
from envpack.pack.manifest import canonical_json, is_digest

SCHEMA = 1
PLACEHOLDER_SCHEMA = 2

FILE = 0o100644
EXECUTABLE = 0o100755
FOLDER = 0o040755
LINK = 0o120777

RESERVED = ".envpack"
MAX_PATH_BYTES = 2048
MAX_PART_BYTES = 255
# Python cannot remove trees of any depth: it goes down by recursion, with an open descriptor for each folder.
MAX_DEPTH = 100
MAX_SIZE_BYTES = 1 << 50
# Of the names of all folders that a list implies: each of a few long paths implies a hundred.
MAX_FOLDERS_BYTES = 1 << 28

PLACEHOLDER_MODES = ("binary", "text")
# The shortest that conda has used has 32 bytes. It bounds what a small text can grow to.
MIN_PLACEHOLDER_BYTES = 16


class Entry(NamedTuple):
    """One file, folder or link of a layer.

    Attributes:
        path: where it lies below the root of the environment.
        mode: one of `FILE`, `EXECUTABLE`, `FOLDER`, `LINK`.
        size: size of the file in bytes; 0 for the others.
        sha256: digest of the file's content; empty for the others.
        target: where the link leads, relative to its folder; empty for the others.
    """

    path: str
    mode: int
    size: int
    sha256: str
    target: str


class Placeholder(NamedTuple):
    """A file of a layer into which the folder of its environment is written.

    Attributes:
        path: the file.
        mode: `text`, or `binary` where strings keep their length.
        text: what is replaced by the folder.
    """

    path: str
    mode: str
    text: str


class Listing(NamedTuple):
    """All that a layer is.

    Attributes:
        entries: what it holds, sorted by path.
        placeholders: the files that are rewritten for each environment, sorted by path.
        case_matters: whether it has names that differ in case only.
    """

    entries: list[Entry]
    placeholders: tuple[Placeholder, ...] = ()
    case_matters: bool = False

    def canonical(self) -> bytes:
        """Return the bytes whose digest names the layer."""
        if not (self.placeholders or self.case_matters):
            return entries_bytes(self.entries)
        return canonical_json(
            {
                "case_matters": self.case_matters,
                "entries": self.entries,
                "placeholders": self.placeholders,
                "schema": PLACEHOLDER_SCHEMA,
            }
        )


def entries_bytes(entries: Iterable[Entry]) -> bytes:
    """Return the canonical bytes of an entry list that is sorted by path, without placeholders."""
    return canonical_json({"entries": list(entries), "schema": SCHEMA})


def entries_digest(data: bytes) -> str:
    """Return the digest of a layer from the canonical bytes of its entry list."""
    return hashlib.sha256(data).hexdigest()


def parse_entries(data: bytes) -> list[Entry]:
    """Read and judge an entry list; see `parse_listing`."""
    return parse_listing(data).entries


def parse_listing(data: bytes, *, judged: bool = False) -> Listing:
    """Read and judge an entry list with its placeholders.

    Args:
        data: the canonical bytes.
        judged: whether this was done before, as with the list of a layer that was unpacked: it is only read.

    Returns:
        The entries, sorted by path, safe to extract, and what is rewritten.

    Raises:
        PackFormatError: the bytes are not canonical, or an entry is not safe; the message names it.
    """
    try:
        raw = json.loads(data)
        placeholders = tuple(Placeholder(*item) for item in raw.get("placeholders", ()))
        listing = Listing([Entry(*item) for item in raw["entries"]], placeholders, raw.get("case_matters", False))
        canonical = judged or (raw["schema"] in (SCHEMA, PLACEHOLDER_SCHEMA) and listing.canonical() == data)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise PackFormatError(f"entry list is not readable: {type(error).__name__}: {error}") from error
    if not canonical:
        raise PackFormatError(f"entry list is not in canonical form of schema {SCHEMA} or {PLACEHOLDER_SCHEMA}")
    if not judged:
        check_listing(listing)
    return listing


def check_listing(listing: Listing) -> None:
    """Refuse what `check_entries` refuses, and placeholders of no file or without sense.

    Raises:
        PackFormatError: the first thing that is wrong, and why.
    """
    if type(listing.case_matters) is not bool:
        raise PackFormatError("entry list does not say by true or false whether case matters")
    check_entries(listing.entries, case_matters=listing.case_matters)
    files = {entry.path for entry in listing.entries if entry.mode in (FILE, EXECUTABLE)}
    previous = ""
    for path, mode, text in listing.placeholders:
        if not isinstance(path, str) or path not in files or path <= previous:
            raise PackFormatError(f"placeholder of no file, or out of order: {_shown(path)}")
        plain = isinstance(text, str) and text[:1] == "/" and _is_plain(text)
        if mode not in PLACEHOLDER_MODES or not plain or len(text.encode()) < MIN_PLACEHOLDER_BYTES:
            raise PackFormatError(f"placeholder of {path!r} is no well-formed path in text or binary")
        previous = path


def check_entries(entries: list[Entry], *, case_matters: bool = False) -> None:
    """Refuse a list of entries that is not sorted, not plain, or not confined to its target.

    Raises:
        PackFormatError: the first entry that is wrong, and why.
    """
    previous = ""
    for entry in entries:
        _check_fields(entry)
        _check_path(entry.path)
        if entry.path <= previous:
            raise PackFormatError(f"duplicate or unsorted entry: {entry.path!r} after {previous!r}")
        previous = entry.path
    _check_tree(entries, case_matters)


def _check_fields(entry: Entry) -> None:
    path, mode, size, sha256, target = entry
    if not (isinstance(path, str) and isinstance(sha256, str) and isinstance(target, str)):
        raise PackFormatError(f"entry with fields that are no text: {_shown(path)}")
    if type(mode) is not int or type(size) is not int:
        raise PackFormatError(f"entry with mode or size that are no numbers: {path!r}")
    if mode in (FILE, EXECUTABLE):
        if not 0 <= size <= MAX_SIZE_BYTES or not is_digest(sha256) or target:
            raise PackFormatError(f"entry is no well-formed file: {path!r}")
    elif mode in (FOLDER, LINK):
        if size or sha256 or bool(target) != (mode == LINK):
            raise PackFormatError(f"entry is no well-formed folder or link: {path!r}")
    else:
        raise PackFormatError(
            f"mode {mode:#o} refused for {path!r}: plain files (644 or 755), folders and links are expected"
        )


def _shown(path: object) -> str:
    """Return a path for a message; a value of another kind may be nested too deep to be shown."""
    return repr(path) if isinstance(path, str) else type(path).__name__


def _check_path(path: str) -> None:
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        raise PackFormatError(f"path is not valid Unicode: {path!r}") from None
    if not path or length > MAX_PATH_BYTES:
        raise PackFormatError(f"path is empty or longer than {MAX_PATH_BYTES} bytes: {path[:80]!r}")
    if "\0" in path or "\\" in path:
        raise PackFormatError(f"path holds NUL or a backslash: {path!r}")
    if "//" in path or path[0] == "/" or path[-1] == "/":
        raise PackFormatError(f"path is absolute or has an empty part: {path!r}")
    # "." and ".." are rare in names: the cheap test first, as this runs for every file of every layer.
    if "./" in path or path[-1] == ".":
        for part in path.split("/"):
            if part in (".", ".."):
                raise PackFormatError(f"path leaves its folder: {path!r}")
    if length > MAX_PART_BYTES and any(len(part.encode()) > MAX_PART_BYTES for part in path.split("/")):
        raise PackFormatError(f"a part of the path is longer than {MAX_PART_BYTES} bytes: {path!r}")
    if path.count("/") >= MAX_DEPTH:
        raise PackFormatError(f"path is deeper than {MAX_DEPTH} folders: {path[:80]!r}")
    if path == RESERVED or path.startswith(RESERVED + "/"):
        raise PackFormatError(f"path is reserved: {path!r}")


def _check_tree(entries: list[Entry], case_matters: bool) -> None:
    """Check what no entry shows alone: parents that are no folders, names that differ in case only, links."""
    folders = _folders(entries)
    modes = {entry.path: entry.mode for entry in entries}
    for folder in folders:
        if modes.get(folder, FOLDER) != FOLDER:
            raise PackFormatError(f"a file or link is used as a folder: {folder!r}")
    names = folders.union(modes)
    folded = {name.casefold() for name in names}
    if len(folded) != len(names) and not case_matters:
        raise PackFormatError(f"names differ in case only: {_first_clash(names)}")
    for entry in entries:
        if entry.mode == LINK:
            _check_link(entry, modes)


def differ_in_case(entries: list[Entry]) -> bool:
    """Tell whether there are names that differ in case only."""
    names = _folders(entries) | {entry.path for entry in entries}
    return len({name.casefold() for name in names}) != len(names)


def _folders(entries: list[Entry]) -> set[str]:
    folders: set[str] = set()
    size = 0
    for entry in entries:
        folder = entry.path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            size += len(folder)
            folder = folder.rpartition("/")[0]
        if size > MAX_FOLDERS_BYTES:
            raise PackFormatError(f"names of folders are longer than {MAX_FOLDERS_BYTES} bytes together")
    return folders


def _first_clash(names: set[str]) -> str:
    seen: dict[str, str] = {}
    for name in sorted(names):
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            return f"{other!r} and {name!r}"
    return ""


def _check_link(entry: Entry, modes: dict[str, int]) -> None:
    """Check that a link stays inside: `..` only in front, never above the root, never through another link.

    With `..` only in front the climb happens in real folders, so that no other layer of the same environment can turn
    what was judged here into something else.
    """
    parts = entry.target.split("/")
    climb = 0
    while climb < len(parts) and parts[climb] == "..":
        climb += 1
    rest = parts[climb:]
    base = entry.path.split("/")[:-1]
    if len(parts) > MAX_DEPTH:
        raise PackFormatError(f"link leads deeper than {MAX_DEPTH} folders: {entry.path!r}")
    if climb > len(base) or any(part in ("", ".", "..") for part in rest) or not _is_plain(entry.target):
        raise PackFormatError(f"link leaves its folder: {entry.path!r} leads to {entry.target!r}")
    resolved = base[: len(base) - climb] + rest
    for end in range(1, len(resolved)):
        if modes.get("/".join(resolved[:end])) == LINK:
            raise PackFormatError(f"link passes through another link: {entry.path!r} leads to {entry.target!r}")
    if resolved and resolved[0] == RESERVED:
        raise PackFormatError(f"link leads to a reserved path: {entry.path!r}")


def _is_plain(target: str) -> bool:
    try:
        return "\0" not in target and "\\" not in target and 0 < len(target.encode()) <= MAX_PATH_BYTES
    except UnicodeEncodeError:
        return False
