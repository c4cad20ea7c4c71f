"""Facts about files that are kept on disk from one process to the next, and believed only while the files are the same.

Guarantees: a reader sees a whole entry or none, however many processes write at once, because entries are written
beside their place and renamed. An entry that is broken, of another format, of another user or not writable counts as
absent: the cache never fails and never decides. Entries that nobody used for a month go, and beyond `_MAX_ENTRIES` the
least recently used ones.

What makes an entry true is the business of its owner, who keeps with it the *stamp* of each file that it was made from.
A stamp is taken before the file is read, and is not *settled* while the file is so young that another change might
leave the same one.
"""

from __future__ import annotations

import marshal
import os
import sys
import time
import zlib
from collections.abc import Iterable

from envpack.settings import index_cache_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 3

_HEADER = f"envpack index {FORMAT} {sys.implementation.cache_tag}\n".encode()
_CHECKSUM_BYTES = 4
_MAX_ENTRIES = 500
_MAX_AGE_S = 30 * 86400.0
_MAX_TEMPORARY_AGE_S = 3600.0
_REFRESHED_AFTER_S = 3600.0

# The clock that file systems stamp with ticks every 10 ms at the slowest; those without fractions tick every 2 s.
_TICK_NS = 50_000_000
_COARSE_TICK_NS = 2_500_000_000

Stamp = tuple[int, int, int, int] | None


def stamp(path: str) -> Stamp:
    """Return what changes when a file, or the list of names in a folder, changes; `None` where there is nothing.

    The time of the inode's change is part of it: it shows a file of the same size whose time was set back.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def are_settled(stamps: Iterable[Stamp], now_ns: int) -> bool:
    """Whether the next change of any of these files is sure to leave another stamp, at a time in ns since the epoch."""
    for one in stamps:
        if one is not None:
            changed = one[1]
            if changed > now_ns - (_TICK_NS if changed % 1_000_000_000 else _COARSE_TICK_NS):
                return False
    return True


def are_same(stamps: Iterable[tuple[str, Stamp]]) -> bool:
    """Whether files have the stamps that they had."""
    return all(stamp(path) == before for path, before in stamps)


class Looks:
    """Remembers how each file was before it was read."""

    def __init__(self) -> None:
        self.started_ns = time.time_ns()
        self.stamps: dict[str, Stamp] = {}

    def at(self, path: str) -> bool:
        """Remember how a file or folder is now; return whether it is there."""
        self.stamps[path] = stamp(path)
        return self.stamps[path] is not None

    def inside(self, path: str) -> None:
        """Remember how a file is now in a folder that is remembered itself, and would show that a file has come."""
        if (now := stamp(path)) is not None:
            self.stamps[path] = now

    @property
    def is_settled(self) -> bool:
        """Whether what was read may be kept."""
        return are_settled(self.stamps.values(), self.started_ns)


def load(kind: str, key: str) -> Any:
    """Return what was kept last under a key; `None` where nothing was, or it cannot be read.

    Args:
        kind: what sort of fact this is; part of the file's name.
        key: which one.
    """
    path = _path(kind, key)
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            content = file.read() if status.st_uid == os.geteuid() else b""
    except OSError:
        return None
    value = _decoded(content, key)
    if value is not None and time.time() - status.st_mtime > _REFRESHED_AFTER_S:
        _touch(path)
    return value


def save(kind: str, key: str, value: Any) -> None:
    """Keep something made of tuples, dictionaries, lists, sets, texts and numbers, if the folder can be written."""
    path = _path(kind, key)
    beside = f"{path}.{os.urandom(6).hex()}.tmp"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        is_new = not os.path.exists(path)
        with open(beside, "xb") as file:
            file.write(_encoded(key, value))
        os.replace(beside, path)
        if is_new:
            _prune(os.path.dirname(path))
    except OSError:
        _remove(beside)  # no room, no permission, no folder: the next process reads the files again


def _path(kind: str, key: str) -> str:
    name = f"{kind}-{zlib.crc32(key.encode(errors='surrogateescape')):08x}.{sys.implementation.cache_tag}"
    return os.path.join(index_cache_folder() or os.devnull, name)


def _encoded(key: str, value: Any) -> bytes:
    body = marshal.dumps((key, value))
    return _HEADER + zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "little") + body


def _decoded(content: bytes, key: str) -> Any:
    """Return the value of an entry, or `None` if these are not the bytes that were written for this key."""
    start = len(_HEADER) + _CHECKSUM_BYTES
    body = memoryview(content)[start:]
    if not content.startswith(_HEADER) or len(content) <= start:
        return None
    if zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "little") != content[len(_HEADER) : start]:
        return None
    found, value = marshal.loads(body)
    return value if found == key else None


def _prune(folder: str) -> None:
    now = time.time()
    with os.scandir(folder) as items:
        ages = sorted((now - item.stat().st_mtime, item.name) for item in items)
    for position, (age_s, name) in enumerate(ages):
        limit_s = _MAX_TEMPORARY_AGE_S if name.endswith(".tmp") else _MAX_AGE_S
        if position >= _MAX_ENTRIES or age_s > limit_s:
            _remove(os.path.join(folder, name))


def _touch(path: str) -> None:
    try:
        os.utime(path)
    except OSError:
        pass  # a folder that may only be read


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # somebody else was quicker, or it was never made
