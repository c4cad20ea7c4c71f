"""The history: every usage, per category, in one SQLite file.

Guarantees: what `add_many` returned from is in the file, even if the process is killed then. Many processes write at
once; each waits for its turn. A damaged file is renamed to `NAME.damaged-N`, the log says so, and a new one begins.
The background thread that keeps this off the path of calls is `envpack_monitor.writer`.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from envpack_monitor.errors import HistoryError, UnknownCategoryError
from envpack_monitor.settings import history_path
from envpack_monitor.usage import FIELDS, Usage

if TYPE_CHECKING:
    import sqlite3

SCHEMA = 3
BUSY_TIMEOUT_S = 60.0

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_COLUMNS = ", ".join(f'"{name}"' for name in FIELDS)
_INSERT = f"INSERT INTO calls ({_COLUMNS}) VALUES ({', '.join('?' * len(FIELDS))})"
_CREATE_STATE = "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, version INTEGER, data BLOB, seen_id INTEGER)"
_AS_JSON = tuple(FIELDS.index(name) for name in ("peak_times", "features"))
_DEFAULTS: dict[str, Any] = {"category": "", "started_at": 0.0, "quality": "exact", "calls": 1}
_DAMAGE = ("malformed", "not a database", "encrypted", "no such table", "no such column", "no column named")

_inherited: list[sqlite3.Connection] = []
"""Connections that came through a fork. SQLite allows a child neither to use nor to close them: they are only kept."""


@dataclass(frozen=True, slots=True)
class CategorySummary:
    """What the history holds about one category.

    Args:
        category: its name.
        calls: how many calls.
        wall_s: seconds of all calls together.
        cpu_s: processor seconds of all calls together.
        peak_memory_bytes: the largest peak; `None` if none was measured.
        last_at: when the last call began, seconds since the epoch.
    """

    category: str
    calls: int
    wall_s: float
    cpu_s: float
    peak_memory_bytes: int | None
    last_at: float

    def to_dict(self) -> dict[str, Any]:
        """Return an object that JSON can hold."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class SavedState:
    """Something that was learned from the history, kept beside it.

    Args:
        version: of the form of the data; whoever saved it says what it means.
        data: what was saved.
        seen_id: the newest call that it knows; `History.since` tells the later ones.
    """

    version: int
    data: bytes
    seen_id: int


class History:
    """One file of usages; opened when it is first used, safe to use from several threads and processes.

    Args:
        path: the SQLite file, made with its folder when missing; that of the settings by default.

    Raises:
        HistoryError: no path is given and the settings say that no history is kept.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        chosen = Path(path) if path is not None else history_path()
        if chosen is None:
            raise HistoryError("no history is kept: ENVPACK_HISTORY is empty", "set it to a file")
        self.path = chosen
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def add_many(self, rows: Iterable[Usage | Mapping[str, Any]]) -> int:
        """Write usages in one transaction; when this returns they are in the file.

        Args:
            rows: usages, or mappings of the fields of one as `Bracket.stop` returns them (not checked again).

        Returns:
            How many there were.

        Raises:
            HistoryError: the file cannot be written.
        """
        values = [_to_row(usage) for usage in rows]

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, values)
            connection.execute("COMMIT")

        if values:
            self._run(insert)
        return len(values)

    def categories(self) -> list[CategorySummary]:
        """Return a summary of each category, by name.

        Raises:
            HistoryError: the file cannot be read.
        """
        select = (
            "SELECT category, sum(calls), sum(wall_s), coalesce(sum(cpu_user_s + cpu_system_s), 0.0), "
            "max(peak_memory_bytes), max(started_at) FROM calls GROUP BY category ORDER BY category"
        )
        return [CategorySummary(*row) for row in self._run(lambda connection: connection.execute(select).fetchall())]

    def calls(self, category: str, last: int | None = None) -> list[Usage]:
        """Return the usages of a category in the order in which they were written.

        Args:
            category: its name.
            last: only so many of the newest; all by default.

        Raises:
            UnknownCategoryError: there is none; the hint names similar ones.
            HistoryError: the file cannot be read.
        """
        select = f"SELECT {_COLUMNS} FROM calls WHERE category = ? ORDER BY id DESC LIMIT ?"
        wanted = (category, -1 if last is None else last)
        rows = self._run(lambda connection: connection.execute(select, wanted).fetchall())
        if not rows:
            raise UnknownCategoryError(f"no calls of category {category!r} in {self.path}", self._similar(category))
        return [_from_row(row) for row in reversed(rows)]

    def newest(self, last: int) -> list[Usage]:
        """Return the newest usages of all categories in the order in which they were written.

        Args:
            last: at most so many.

        Raises:
            HistoryError: the file cannot be read.
        """
        select = f"SELECT {_COLUMNS} FROM calls ORDER BY id DESC LIMIT ?"
        rows = self._run(lambda connection: connection.execute(select, (last,)).fetchall())
        return [_from_row(row) for row in reversed(rows)]

    def since(self, seen_id: int, last: int) -> tuple[list[Usage], int]:
        """Return what was written after a call that is known, of all categories, in the order of writing.

        A call never becomes visible before one with a smaller number, so nobody who goes on from the number that came
        back misses one.

        Args:
            seen_id: the number that came back the last time; 0 for all. A number that the file does not know, because
                it has begun anew since then, counts as 0.
            last: only so many of the newest.

        Returns:
            The usages, and the number of the newest call in the file.

        Raises:
            HistoryError: the file cannot be read.
        """
        select = f"SELECT id, {_COLUMNS} FROM calls WHERE id > ? ORDER BY id DESC LIMIT ?"

        def read(connection: sqlite3.Connection) -> tuple[list[tuple[Any, ...]], int]:
            newest: int = connection.execute("SELECT coalesce(max(id), 0) FROM calls").fetchone()[0]
            rows = connection.execute(select, (seen_id if seen_id <= newest else 0, last)).fetchall()
            return rows, rows[0][0] if rows else newest

        rows, newest_id = self._run(read)
        return [_from_row(row[1:]) for row in reversed(rows)], newest_id

    def save_state(self, name: str, data: bytes, seen_id: int, version: int = 1) -> None:
        """Keep something that was learned from the calls; it replaces what was kept under this name.

        Args:
            name: of whom it is.
            data: what to keep.
            seen_id: the newest call that it knows, from `since`.
            version: of the form of the data.

        Raises:
            HistoryError: the file cannot be written.
        """
        insert = "INSERT OR REPLACE INTO state (name, version, data, seen_id) VALUES (?, ?, ?, ?)"
        self._run(lambda connection: connection.execute(insert, (name, version, data, seen_id)))

    def load_state(self, name: str) -> SavedState | None:
        """Return what was saved last under a name, or `None`.

        Raises:
            HistoryError: the file cannot be read.
        """
        select = "SELECT version, data, seen_id FROM state WHERE name = ?"
        row = self._run(lambda connection: connection.execute(select, (name,)).fetchone())
        return None if row is None else SavedState(*row)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            self._disconnect()

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None:
            self._leave_to_parent()
            self._disconnect()

    def _similar(self, category: str) -> str:
        import difflib

        names = [summary.category for summary in self.categories()]
        close = difflib.get_close_matches(category, names, n=3, cutoff=0.5)
        close = close or [name for name in names if name.endswith((f".{category}", f":{category}"))][:3]
        if close:
            return f"did you mean {' or '.join(map(repr, close))}?"
        return f"there are {len(names)}: envpack history ls" if names else "the history is empty"

    def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do one piece of work, and if the file proves damaged, once more on a new file."""
        import sqlite3

        with self._lock:
            for may_retry in (True, False):
                try:
                    return work(self._connect())
                except sqlite3.DatabaseError as error:
                    self._disconnect()
                    if not (may_retry and _is_damage(error)):
                        hint = "set ENVPACK_HISTORY to a file that may be written"
                        raise HistoryError(f"history {self.path}: {error}", hint) from error
                    _set_aside(self.path, error)
        raise AssertionError("the second attempt returned nor raised")

    def _connect(self) -> sqlite3.Connection:
        self._leave_to_parent()
        if self._connection is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                hint = "set ENVPACK_HISTORY to another file"
                raise HistoryError(f"history {self.path}: {error.strerror}", hint) from error
            self._connection, self._pid = _open_file(self.path), os.getpid()
        return self._connection

    def _disconnect(self) -> None:
        self._leave_to_parent()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _leave_to_parent(self) -> None:
        """Keep a connection that came through a fork, unused and open."""
        if self._connection is not None and self._pid != os.getpid():
            _inherited.append(self._connection)
            self._connection = None


def _open_file(path: Path) -> sqlite3.Connection:
    """Open the file and bring its tables into being; the one place that knows the schema."""
    import sqlite3

    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        _retry_while_locked(lambda: connection.execute("PRAGMA journal_mode = WAL"))
        # In WAL mode NORMAL loses nothing when a process dies; only a power cut may cost the last transactions.
        connection.execute("PRAGMA synchronous = NORMAL")
        if (found := connection.execute("PRAGMA user_version").fetchone()[0]) > SCHEMA:
            raise HistoryError(f"history {path}: schema {SCHEMA} expected, {found} met", "a newer envpack wrote it")
        if found < SCHEMA:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"CREATE TABLE IF NOT EXISTS calls (id INTEGER PRIMARY KEY, {_COLUMNS})")
            _add_new_columns(connection)
            connection.execute("CREATE INDEX IF NOT EXISTS calls_by_category ON calls (category, id)")
            connection.execute(_CREATE_STATE)
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
            connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _add_new_columns(connection: sqlite3.Connection) -> None:
    """Let a file of an older schema hold every field; what was remembered has nothing in the new ones."""
    there = {name for _, name, *_ in connection.execute("PRAGMA table_info(calls)")}
    for name in FIELDS:
        if name not in there:
            connection.execute(f'ALTER TABLE calls ADD COLUMN "{name}"')


def _retry_while_locked(action: Callable[[], object]) -> None:
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


def _is_damage(error: Exception) -> bool:
    return any(words in str(error) for words in _DAMAGE)


def _set_aside(path: Path, error: Exception) -> None:
    """Rename a damaged file. Of many processes that find it damaged one does it; the others see a new file."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                return
            number = 1
            while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
                number += 1
            # Its journal goes with it: beside a new file it would damage that one too.
            for suffix in ("-wal", "-shm", ""):
                _rename_if_there(f"{path}{suffix}", f"{target}{suffix}")
    except FileNotFoundError:
        return
    _log.warning("the history was damaged (%s); it was set aside: %s", error, target)


def _rename_if_there(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        pass


def _to_row(usage: Usage | Mapping[str, Any]) -> list[Any]:
    if isinstance(usage, Usage):
        usage = {name: getattr(usage, name) for name in FIELDS}
    row = [usage.get(name, _DEFAULTS.get(name)) for name in FIELDS]
    for at in _AS_JSON:
        row[at] = json.dumps(row[at], sort_keys=True) if row[at] else None
    return row


def _from_row(row: tuple[Any, ...]) -> Usage:
    values = list(row)
    for at in _AS_JSON:
        values[at] = json.loads(values[at]) if values[at] else {}
    return Usage(**dict(zip(FIELDS, values, strict=True)))
