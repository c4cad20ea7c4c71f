"""The file of the history: opening it, its schema, what is damage, and setting a damaged file aside.

Guarantees: a file is set aside together with its journal by one process, while nobody opens it; those who have it open
notice by `has_moved` and go on in the new one. A file that a newer version made is left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from envpack_monitor.errors import HistoryError
from envpack_monitor.history.filesystems import is_shared
from envpack_monitor.history.journal import BUSY_TIMEOUT_S, Journal, choose_journal
from envpack_monitor.history.rows import Row
from envpack_monitor.usage import FIELDS

if TYPE_CHECKING:
    import sqlite3

SCHEMA = 5
ROWS_PER_STATEMENT = 64
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
        journal = Journal(path)
        connection = _connect(path, "")
        try:
            choose_journal(connection, path)
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


def insert(connection: sqlite3.Connection, rows: list[Row]) -> None:
    """Insert rows of calls in their order; neighbours that have the same fields share a statement.

    Python lets other threads run at each step of SQLite, and a busy one does not give the lock back for milliseconds:
    many rows per step keep a batch from taking as long as the calls that it describes.
    """
    for names, group in groupby(rows, tuple):
        values = [tuple(row.values()) for row in group]
        whole = len(values) - len(values) % ROWS_PER_STATEMENT
        for at in range(0, whole, ROWS_PER_STATEMENT):
            flat = [value for row in values[at : at + ROWS_PER_STATEMENT] for value in row]
            connection.execute(_insert_statement(names, ROWS_PER_STATEMENT), flat)
        connection.executemany(_insert_statement(names, 1), values[whole:])


def begin_name(connection: sqlite3.Connection) -> None:
    """Let what is written from now on be known under a new name; within a transaction."""
    last = "(SELECT holder FROM writers ORDER BY rowid DESC LIMIT 1)"
    connection.execute(
        f"INSERT INTO writers SELECT lower(hex(randomblob(16))), coalesce(max(id), 0), {last} FROM calls"
    )


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


def set_aside(path: Path, error: Exception, found: tuple[int, int] | None) -> None:
    """Rename a damaged file and say so. Of many processes that find it damaged one does it; the others see a new file.

    Args:
        path: its name.
        error: what showed the damage.
        found: the identity of the file that is damaged; another one of this name stays.

    Raises:
        HistoryError: it may not be renamed.
    """
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


@functools.lru_cache(maxsize=64)
def _insert_statement(names: tuple[str, ...], count: int) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    places = f"({', '.join('?' * len(names))})"
    return f"INSERT INTO calls ({columns}) VALUES {', '.join([places] * count)}"


def _connect(path: Path, options: str) -> sqlite3.Connection:
    import sqlite3

    where = f"{path.as_uri()}?{options}" if options else path.as_uri()
    return sqlite3.connect(
        where, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, uri=True, cached_statements=256
    )


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


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
        begin_name(connection)
        connection.execute("UPDATE writers SET holder = ? WHERE rowid = (SELECT max(rowid) FROM writers)", (holder,))
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
