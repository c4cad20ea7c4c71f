"""The history: every usage, per category, in one SQLite file.

Guarantees: what `add_many` returned from is in the file, even if the process is killed then. Many processes write at
once; each waits for its turn. A damaged file is renamed to `NAME.damaged-N`, the log says so, and a new one begins.
The background thread that keeps this off the path of calls is `envpack_monitor.history.writer`; the file itself is
opened, completed and set aside by `envpack_monitor.history.storage`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from envpack_monitor.errors import HistoryError, UnknownCategoryError
from envpack_monitor.history import prune as pruning
from envpack_monitor.history import storage
from envpack_monitor.history.remembered import CategorySummary, SavedState
from envpack_monitor.history.rows import Row, from_values, to_row
from envpack_monitor.history.storage import COLUMNS
from envpack_monitor.settings import history_path
from envpack_monitor.usage import Usage

if TYPE_CHECKING:
    import sqlite3

    from envpack_monitor.history.merge import Merged
    from envpack_monitor.history.prune import Pruned

PAGE = 2_000

_T = TypeVar("_T")
_SUMMARY = (
    "SELECT category, sum(calls), count(*), sum(wall_s), coalesce(sum(cpu_user_s + cpu_system_s), 0.0), "
    "max(peak_memory_bytes), max(started_at) FROM calls "
)

_inherited: list[sqlite3.Connection] = []
"""Connections that came through a fork. SQLite allows a child neither to use nor to close them: they are only kept."""


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
        # SQLite keeps its journal beside the file itself, not beside a link to it.
        self.path = chosen.resolve() if chosen.is_symlink() else chosen.absolute()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._identity: tuple[int, int] | None = None
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
        return self.add_rows([to_row(usage) for usage in rows])

    def add_rows(self, rows: list[Row]) -> int:
        """Write rows in one transaction; when this returns they are in the file.

        Args:
            rows: as `envpack_monitor.history.rows.to_row` makes them.

        Returns:
            How many there were.

        Raises:
            HistoryError: the file cannot be written.
        """

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            storage.insert(connection, rows)
            connection.execute("COMMIT")

        if rows:
            self._work(insert, writes=True)
        return len(rows)

    def categories(self) -> list[CategorySummary]:
        """Return a summary of each category, by name.

        Raises:
            HistoryError: the file cannot be read.
        """
        # The index would lead from row to row all over the file.
        rows = self._page(f"{_SUMMARY} NOT INDEXED GROUP BY category ORDER BY category", ())
        return [CategorySummary(*row) for row in rows]

    def summary(self, category: str) -> CategorySummary:
        """Return the summary of one category.

        Raises:
            UnknownCategoryError: there is no call of it.
            HistoryError: the file cannot be read.
        """
        rows = self._page(f"{_SUMMARY} WHERE category = ? GROUP BY category", (category,))
        if not rows:
            raise self._unknown(category)
        return CategorySummary(*rows[0])

    def calls(self, category: str, last: int | None = None) -> list[Usage]:
        """Return the usages of a category in the order in which they were written.

        Args:
            category: its name.
            last: only so many of the newest; all by default.

        Raises:
            UnknownCategoryError: there is none; the hint names similar ones.
            HistoryError: the file cannot be read.
        """
        select = f"SELECT {COLUMNS} FROM calls WHERE category = ? ORDER BY id DESC LIMIT ?"
        wanted = (category, -1 if last is None else last)
        rows = self._work(lambda connection: connection.execute(select, wanted).fetchall())
        if not rows:
            raise self._unknown(category)
        return [from_values(row) for row in reversed(rows)]

    def names(self) -> list[str]:
        """Return the names of all categories, sorted; the rows themselves are not read.

        Raises:
            HistoryError: the file cannot be read.
        """
        select = (
            "WITH RECURSIVE names(name) AS (SELECT min(category) FROM calls UNION ALL "
            "SELECT (SELECT min(category) FROM calls WHERE category > name) FROM names WHERE name IS NOT NULL) "
            "SELECT name FROM names WHERE name IS NOT NULL"
        )
        return [name for (name,) in self._work(lambda connection: connection.execute(select).fetchall())]

    def iterate(self, category: str | None = None) -> Iterator[Usage]:
        """Give all usages, or those of one category, in the order in which they were written, a page at a time.

        Others may write meanwhile; what they write is given too.

        Raises:
            HistoryError: the file cannot be read.
        """
        which = "" if category is None else "category = ? AND "
        select = f"SELECT id, {COLUMNS} FROM calls WHERE {which}id > ? ORDER BY id LIMIT {PAGE}"
        chosen, seen = () if category is None else (category,), 0
        while rows := self._page(select, (*chosen, seen)):
            yield from (from_values(row[1:]) for row in rows)
            seen = rows[-1][0]

    def prune(
        self,
        category: str | None = None,
        *,
        older_than_s: float | None = None,
        keep: int = 0,
        has_summary: bool = True,
        is_trial: bool = False,
    ) -> list[Pruned]:
        """Remove old calls; what they add up to stays, as aggregates. Safe while others write.

        Args:
            category: only of this one.
            older_than_s: only calls that began so many seconds ago or earlier.
            keep: so many of the newest rows of each category stay in any case.
            has_summary: whether the sums and largest peaks of what goes are kept; without, saved states are dropped.
            is_trial: say what would go, and change nothing.

        Raises:
            UnknownCategoryError: there is no such category.
            HistoryError: the file cannot be written.
        """
        before = None if older_than_s is None else time.time() - older_than_s
        names = self.names()
        if category is not None and category not in names:
            raise self._unknown(category)
        chosen = names if category is None else [category]

        def work(connection: sqlite3.Connection) -> list[Pruned]:
            if is_trial:
                return [pruning.count(connection, name, before, keep) for name in chosen]
            done = [pruning.prune(connection, name, before, keep, has_summary) for name in chosen]
            pruning.give_back_pages(connection)
            return done

        return self._work(work)

    def merge(self, path: str | os.PathLike[str]) -> Merged:
        """Take the calls of another history in, those that have not come before. Safe while others write to either.

        Args:
            path: the other file; a damaged one gives what can be read of it.

        Raises:
            HistoryError: it cannot be read, or this one cannot be written.
            FormatError: it is a database of something else.
        """
        from envpack_monitor.history.merge import Merged, Source, seen_of, write_chunk

        with Source(Path(path).absolute()) as source:
            after = self._work(lambda connection: seen_of(connection).get(source.name, 0))
            added, known = 0, source.count(after)
            for rows in source.chunks(after):
                new = self._work(partial(write_chunk, source=source.name, rows=rows), writes=True)
                added, known = added + new, known + len(rows) - new
            return Merged(str(path), added, known, source.unreadable)

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
        select = f"SELECT id, {COLUMNS} FROM calls WHERE id > ? ORDER BY id DESC LIMIT ?"

        def read(connection: sqlite3.Connection) -> tuple[list[tuple[Any, ...]], int]:
            newest: int = connection.execute("SELECT coalesce(max(id), 0) FROM calls").fetchone()[0]
            rows = connection.execute(select, (seen_id if seen_id <= newest else 0, last)).fetchall()
            return rows, rows[0][0] if rows else newest

        rows, newest_id = self._work(read)
        return [from_values(row[1:]) for row in reversed(rows)], newest_id

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
        self._work(lambda connection: connection.execute(insert, (name, version, data, seen_id)))

    def load_state(self, name: str) -> SavedState | None:
        """Return what was saved last under a name, or `None`.

        Raises:
            HistoryError: the file cannot be read.
        """
        select = "SELECT version, data, seen_id FROM state WHERE name = ?"
        row = self._work(lambda connection: connection.execute(select, (name,)).fetchone())
        return None if row is None else SavedState(*row)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            self._disconnect()

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None:
            self._leave_to_parent()
            self._disconnect()

    def _page(self, select: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self._work(lambda connection: connection.execute(select, values).fetchall())

    def _unknown(self, category: str) -> UnknownCategoryError:
        return UnknownCategoryError(f"no calls of category {category!r} in {self.path}", self._similar(category))

    def _similar(self, category: str) -> str:
        import difflib

        names = self.names()
        close = difflib.get_close_matches(category, names, n=3, cutoff=0.5)
        close = close or [name for name in names if name.endswith((f".{category}", f":{category}"))][:3]
        if close:
            return f"did you mean {' or '.join(map(repr, close))}?"
        return f"there are {len(names)}: envpack history ls" if names else "the history is empty"

    def _work(self, work: Callable[[sqlite3.Connection], _T], writes: bool = False) -> _T:
        """Do one piece of work; if the file proves damaged, or has been set aside meanwhile, once more on a new one."""
        import sqlite3

        with self._lock:
            for may_retry in (True, True, False):
                try:
                    result = work(self._connect())
                    # What was written into a file that somebody set aside meanwhile is written again.
                    if not (writes and may_retry and self._has_moved()):
                        return result
                except sqlite3.DatabaseError as error:
                    self._disconnect()
                    if not (may_retry and storage.is_damage(error)):
                        hint = "set ENVPACK_HISTORY to a file that may be written"
                        raise HistoryError(f"history {self.path}: {error}", hint) from error
                    storage.set_aside(self.path, error, self._identity)
                except BaseException:
                    # Half a transaction must not be found by the next piece of work.
                    self._disconnect()
                    raise
        raise AssertionError("the last attempt neither returned nor raised")

    def _connect(self) -> sqlite3.Connection:
        self._leave_to_parent()
        if self._connection is not None and self._has_moved():
            self._disconnect()
        if self._connection is None:
            # Taken before: if this file proves damaged, another one may stand in its place by then.
            self._identity = storage.identity(self.path)
            self._connection, self._pid = storage.open_file(self.path), os.getpid()
            self._identity = storage.identity(self.path)
        return self._connection

    def _has_moved(self) -> bool:
        """Tell whether the open file is no longer the one of this name: set aside, or removed."""
        return storage.identity(self.path) != self._identity

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
