"""The file of the history: opening it, its schema, what is damage, and setting a damaged file aside.

Guarantees: a file is set aside together with its journal by one process, while nobody opens it; those who have it open
notice by `has_moved` and go on in the new one. A file that a newer version made is left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envpack_monitor.errors import HistoryError
from envpack_monitor.filesystems import is_shared
from envpack_monitor.usage import FIELDS

if TYPE_CHECKING:
    import sqlite3

SCHEMA = 5
BUSY_TIMEOUT_S = 60.0
COLUMNS = ", ".join(f'"{name}"' for name in FIELDS)

_log = logging.getLogger(__name__)
_DAMAGE = ("malformed", "not a database", "encrypted", "no such table", "no such column", "no column named")
_TABLES = (
    f"CREATE TABLE IF NOT EXISTS calls (id INTEGER PRIMARY KEY, {COLUMNS}, origin, origin_id)",
    # Every index of SQLite ends with the row's own id, so this one finds the newest calls of a category.
    "CREATE INDEX IF NOT EXISTS calls_by_category ON calls (category)",
    "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, version INTEGER, data BLOB, seen_id INTEGER)",
    # Up to which of its calls the history of this name has been merged into this one.
    "CREATE TABLE IF NOT EXISTS origins (origin TEXT PRIMARY KEY, seen_id INTEGER)",
    # Who wrote the calls after which number: a copy of a file is another writer, and the calls of both have numbers.
    "CREATE TABLE IF NOT EXISTS writers (name TEXT PRIMARY KEY, after_id INTEGER, holder TEXT)",
)
_WAL_HEADER, _FRAME_HEADER = 32, 24


def open_file(path: Path) -> sqlite3.Connection:
    """Open a history, made when missing, for reading and writing; where it may not be written, for reading.

    Raises:
        HistoryError: it cannot be opened, or a newer version made it.
        sqlite3.DatabaseError: it is damaged, or something else is wrong with it.
    """
    if path.is_dir():
        raise HistoryError(f"history {path}: a file expected, a folder met", "set ENVPACK_HISTORY to a file")
    if path.exists() and not _may_write(path):
        return open_to_read(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HistoryError(f"history {path}: {error.strerror}", "set ENVPACK_HISTORY to another file") from error
    with _no_setting_aside(path, fcntl.LOCK_SH):
        journal = _Journal(path)
        connection = _connect(path, "")
        try:
            _choose_journal(connection, path)
            journal.check(connection)
            _complete_schema(connection, path)
            _know_copies(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a history that is only read, in a folder that may forbid writing.

    Raises:
        HistoryError: there is none, or a newer version made it.
        sqlite3.DatabaseError: it is damaged, or something else is wrong with it.
    """
    if not path.is_file():
        raise HistoryError(f"history {path}: {'a file expected, a folder met' if path.is_dir() else 'no such file'}")
    # Without a journal nobody is writing, and then SQLite needs to make no file beside it.
    has_journal = any(Path(f"{path}{suffix}").exists() for suffix in ("-wal", "-journal"))
    connection = _connect(path, "mode=ro" if has_journal or _may_write(path) else "mode=ro&immutable=1")
    try:
        _check_schema(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def columns_of(connection: sqlite3.Connection, table: str = "calls") -> set[str]:
    """Return the names of a table's columns; none if there is no such table."""
    return {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells one file from another under the same name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_damage(error: Exception) -> bool:
    """Tell whether an error of SQLite means that the file is damaged: not busy, full or forbidden."""
    return any(words in str(error) for words in _DAMAGE)


def set_aside(path: Path, error: Exception) -> None:
    """Rename a damaged file and say so. Of many processes that find it damaged one does it; the others see a new file.

    Raises:
        HistoryError: it may not be renamed.
    """
    found = identity(path)
    try:
        with _no_setting_aside(path, fcntl.LOCK_EX):
            if found is None or identity(path) != found:
                return
            number = 1
            while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
                number += 1
            # Its journal goes with it: beside a new file it would damage that one too.
            for suffix in ("-wal", "-shm", "-journal", ""):
                _rename_if_there(f"{path}{suffix}", f"{target}{suffix}")
    except OSError as problem:
        hint = "set ENVPACK_HISTORY to another file"
        raise HistoryError(f"history {path}: {error}; and it cannot be set aside: {problem.strerror}", hint) from error
    hint = f"what can still be read of it comes back by: envpack history merge {target}"
    _log.warning("the history was damaged (%s); it was set aside: %s (%s)", error, target, hint)


class _Journal:
    """What the write-ahead log held before it was opened: SQLite drops without a word what follows damage in it."""

    def __init__(self, path: Path) -> None:
        self._path = Path(f"{path}-wal")
        self._salt, self._committed = self._read()

    def check(self, connection: sqlite3.Connection) -> None:
        """Say so, and keep a copy, when transactions that were committed are no longer taken for such."""
        if not self._committed or not self._lacks(connection):
            return
        number = 1
        while (copy := self._path.with_name(f"{self._path.name}.damaged-{number}")).exists():
            number += 1
        copy.write_bytes(self._path.read_bytes())
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _log.warning("the journal of the history was damaged: the newest calls are lost; a copy was kept: %s", copy)

    def _lacks(self, connection: sqlite3.Connection) -> bool:
        # A writer that has written a transaction and not yet announced it is done once the lock can be had.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
        _, valid, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        salt, _ = self._read()
        return salt == self._salt and 0 <= valid < self._committed

    def _read(self) -> tuple[bytes, int]:
        """Return the salt of the log, and the number of its last frame that ends a transaction."""
        try:
            with self._path.open("rb") as file:
                header = file.read(_WAL_HEADER)
                if len(header) < _WAL_HEADER:
                    return b"", 0
                salt, frame_size = header[16:24], _FRAME_HEADER + struct.unpack_from(">I", header, 8)[0]
                frames = (os.fstat(file.fileno()).st_size - _WAL_HEADER) // frame_size
                for number in range(frames, 0, -1):
                    frame = os.pread(file.fileno(), _FRAME_HEADER, _WAL_HEADER + (number - 1) * frame_size)
                    if frame[8:16] == salt and frame[4:8] != b"\0\0\0\0":
                        return salt, number
                return salt, 0
        except (FileNotFoundError, PermissionError):
            return b"", 0


def _connect(path: Path, options: str) -> sqlite3.Connection:
    import sqlite3

    where = f"{path.as_uri()}?{options}" if options else path.as_uri()
    return sqlite3.connect(
        where, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, uri=True, cached_statements=256
    )


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _choose_journal(connection: sqlite3.Connection, path: Path) -> None:
    if is_shared(path):
        _retry_while_locked(lambda: connection.execute("PRAGMA journal_mode = DELETE"))
        return
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        # Takes effect only before the first table is made.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    # A file with a rollback journal stays so if somebody has decided it: another machine, which sees it by another
    # name of the same file system.
    elif connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        return
    _retry_while_locked(lambda: connection.execute("PRAGMA journal_mode = WAL"))
    # In WAL mode NORMAL loses nothing when a process dies; only a power cut may cost the last transactions.
    connection.execute("PRAGMA synchronous = NORMAL")


def _complete_schema(connection: sqlite3.Connection, path: Path) -> None:
    if _check_schema(connection, path) == SCHEMA:
        return
    connection.execute("BEGIN IMMEDIATE")
    there = columns_of(connection)
    for name in (*FIELDS, "origin", "origin_id"):
        # What was remembered before has nothing in the new fields.
        if there and name not in there:
            connection.execute(f'ALTER TABLE calls ADD COLUMN "{name}"')
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.execute("COMMIT")


def _know_copies(connection: sqlite3.Connection, path: Path) -> None:
    """Give the file a name, and another one if it is a copy: what two files write under one name nobody tells apart."""
    holder = _holder(path)
    if _last_holder(connection) == holder:
        return
    connection.execute("BEGIN IMMEDIATE")
    if _last_holder(connection) != holder:
        insert = "INSERT INTO writers SELECT ?, coalesce(max(id), 0), ? FROM calls"
        connection.execute(insert, (uuid.uuid4().hex, holder))
    connection.execute("COMMIT")


def _last_holder(connection: sqlite3.Connection) -> str | None:
    row = connection.execute("SELECT holder FROM writers ORDER BY rowid DESC LIMIT 1").fetchone()
    return None if row is None else row[0]


def _holder(path: Path) -> str:
    """Return what a copy does not share with its original; of a file that machines share, what they agree on."""
    found = path.stat()
    return f"{found.st_ino}" if is_shared(path) else f"{os.uname().nodename}:{found.st_dev}:{found.st_ino}"


def _check_schema(connection: sqlite3.Connection, path: Path) -> int:
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > SCHEMA:
        raise HistoryError(f"history {path}: schema {SCHEMA} expected, {found} met", "a newer envpack wrote it")
    return found


def _retry_while_locked(action: Callable[[], Any]) -> None:
    """Changing the journal mode does not wait for other processes by itself as other statements do."""
    import sqlite3

    deadline = time.monotonic() + BUSY_TIMEOUT_S
    pause_s = 0.001
    while True:
        try:
            action()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.05)


@contextlib.contextmanager
def _no_setting_aside(path: Path, kind: int) -> Iterator[None]:
    """Keep a file from being opened by one process while another one renames it and its journal, one by one.

    The lock is on the folder: one on the file itself would end SQLite's own locks when it is closed.
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            # Network file systems may have no locks for folders; there, damage found by two at once stays a risk.
            fcntl.flock(folder, kind)
        yield
    finally:
        os.close(folder)


def _rename_if_there(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        pass
