"""Taking the calls of another history in, each of them once.

Every file writes under a name of its own, a copy of a file under another one; every row that came from elsewhere keeps
the name and the number that it had where it was written. A history remembers up to which number it has each of them.
Numbers only grow, so what is merged again, or comes by way of a third file, is known. A source is only read, and what
is damaged in it is left out and counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envpack_monitor.errors import FormatError, HistoryError
from envpack_monitor.history.rows import Row
from envpack_monitor.history.storage import columns_of, insert, is_damage, open_to_read
from envpack_monitor.usage import FIELDS

if TYPE_CHECKING:
    import sqlite3

CHUNK = 10_000
"""So many rows are read and written at a time; other writers wait for no longer than that takes."""

_Read = tuple[Any, ...]
"""Number, origin, number there, and the fields."""

_STORED = ("origin", "origin_id", *FIELDS)
_SOUND = tuple(
    (3 + FIELDS.index(name), kind)
    for name, kind in (("category", str), ("wall_s", (int, float)), ("started_at", (int, float)), ("calls", int))
)


@dataclass(frozen=True, slots=True)
class Merged:
    """What merging one file brought.

    Args:
        path: the file.
        added: how many rows came.
        known: how many had come before, or were written here.
        unreadable: at most how many rows were lost to damage; 0 if there is none.
    """

    path: str
    added: int
    known: int
    unreadable: int

    def to_dict(self) -> dict[str, Any]:
        """Return an object that JSON can hold."""
        return {name: getattr(self, name) for name in self.__slots__}


class Source:
    """Another history, read from its first row to its last, past what is damaged.

    Raises:
        HistoryError: there is no such file, it is no history, or a newer version made it.
    """

    def __init__(self, path: Path) -> None:
        import sqlite3

        self.path = path
        self.unreadable = 0
        try:
            self._connection = open_to_read(path)
            there = columns_of(self._connection)
            self._writers = _writers(self._connection) if "category" in there else []
        except sqlite3.DatabaseError as error:
            raise HistoryError(f"merge {path}: {error}", "name a file that envpack has written") from error
        if not self._writers:
            self._connection.close()
            raise FormatError(f"merge {path}: a history expected, a database without calls met")
        wanted = ("id", "origin", "origin_id", *FIELDS)
        columns = ", ".join(f'"{name}"' if name in there else "NULL" for name in wanted)
        self._select = f"SELECT {columns} FROM calls WHERE id > ? ORDER BY id LIMIT {CHUNK}"

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def name(self) -> str:
        """Under which name the file is written now."""
        return self._writers[0][0]

    def count(self, until: float) -> int:
        """Return how many rows there are up to a number; 0 where damage keeps that secret."""
        import sqlite3

        last = min(until, 1 << 62)
        try:
            count: int = self._connection.execute("SELECT count(*) FROM calls WHERE id <= ?", (last,)).fetchone()[0]
        except sqlite3.DatabaseError:
            return 0
        return count

    def chunks(self, after: float) -> Iterator[list[_Read]]:
        """Give the rows after a number in their order; one that came from nowhere else has this file as its origin."""
        if after == float("inf"):
            return
        seen, jump = int(after), 0
        while True:
            rows, is_whole = self._read(seen + jump)
            if rows:
                self._count_gap(seen, rows[0][0], jump)
                seen, jump = rows[-1][0], 0
                sound = [self._with_origin(row) for row in rows if _is_sound(row)]
                self.unreadable += len(rows) - len(sound)
                yield sound
            elif is_whole:
                return
            if not is_whole:
                # Look further on, farther each time: what is damaged is whole pages of many rows.
                jump = max(1, 2 * jump)
                if jump > 1 << 40:
                    self.unreadable = max(self.unreadable, 1)
                    return

    def _read(self, after: int) -> tuple[list[_Read], bool]:
        import sqlite3

        rows: list[_Read] = []
        try:
            # One by one, so that what comes before the damage is kept.
            for row in self._connection.execute(self._select, (after,)):
                rows.append(row)
        except sqlite3.DatabaseError as error:
            if not is_damage(error) and not isinstance(error, sqlite3.OperationalError):
                raise HistoryError(f"merge {self.path}: {error}") from error
            return rows, False
        return rows, True

    def _count_gap(self, seen: int, first: int, jump: int) -> None:
        if jump:
            self.unreadable += first - seen - 1

    def _with_origin(self, row: _Read) -> _Read:
        number, origin, origin_number, *values = row
        if origin is None:
            origin, origin_number = next(name for name, after in self._writers if number > after), number
        return (number, origin, origin_number, *values)


def seen_of(connection: sqlite3.Connection) -> dict[str, float]:
    """Return up to which number a history has the rows of each file; of those that it writes itself it has all."""
    seen: dict[str, float] = dict(connection.execute("SELECT origin, seen_id FROM origins"))
    until = float("inf")
    for name, after in _writers(connection):
        seen[name], until = max(until, seen.get(name, 0)), after
    return seen


def write_chunk(connection: sqlite3.Connection, source: str, rows: list[_Read]) -> int:
    """Add those rows that the history does not have yet, and remember that it has them; return how many.

    Args:
        connection: of the history.
        source: the name of the file that they were read from; all that it holds up to the last of them is known then.
        rows: as `Source.chunks` gives them.
    """
    connection.execute("BEGIN IMMEDIATE")
    seen = seen_of(connection)
    new = [row for row in rows if row[2] > seen.get(row[1], 0)]
    insert(connection, [_to_row(row) for row in new])
    newest = {row[1]: row[2] for row in new}
    if rows:
        newest[source] = max(newest.get(source, 0), rows[-1][0])
    connection.executemany("INSERT OR REPLACE INTO origins VALUES (?, ?)", newest.items())
    connection.execute("COMMIT")
    return len(new)


def _to_row(row: _Read) -> Row:
    return {name: value for name, value in zip(_STORED, row[1:], strict=True) if value is not None}


def _writers(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    """Return under which names a file was written, each with the number of the row before its first; newest first.

    A file that is older than names has one that is made from its first call.
    """
    if columns_of(connection, "writers"):
        return connection.execute("SELECT name, after_id FROM writers ORDER BY rowid DESC").fetchall()
    first = connection.execute("SELECT * FROM calls ORDER BY id LIMIT 1").fetchone()
    return [(hashlib.blake2b(repr(first).encode(), digest_size=16).hexdigest(), 0)]


def _is_sound(row: _Read) -> bool:
    """Tell whether what was read is a call; random bytes may look like a row to SQLite."""
    return all(isinstance(row[at], kind) for at, kind in _SOUND)
