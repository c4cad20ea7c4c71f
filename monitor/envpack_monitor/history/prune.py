"""Removing old calls from a history without losing what they add up to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envpack_monitor.history.rows import ALIKE, LARGEST, SUMMED
from envpack_monitor.history.storage import begin_name

if TYPE_CHECKING:
    import sqlite3

CHUNK = 20_000
"""So many rows are removed in one transaction; other writers wait for no longer than that takes."""

_GROUP = ("origin", *ALIKE)
_KEPT = (*_GROUP, *SUMMED, *LARGEST, "origin_id", "id")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning did to one category, or would do.

    Args:
        category: its name.
        removed: how many rows have gone.
        calls: how many calls they stood for.
        summaries: how many rows hold what they add up to.
    """

    category: str
    removed: int
    calls: int
    summaries: int

    def to_dict(self) -> dict[str, Any]:
        """Return an object that JSON can hold."""
        return {name: getattr(self, name) for name in self.__slots__}


def count(connection: sqlite3.Connection, category: str, before: float | None, keep: int) -> Pruned:
    """Return what `prune` would do."""
    if (last := _newest_to_go(connection, category, keep)) is None:
        return Pruned(category, 0, 0, 0)
    groups = f"SELECT count(*) AS rows, sum(calls) AS calls FROM calls WHERE {_GOES} GROUP BY {', '.join(_GROUP)}"
    select = f"SELECT sum(rows), sum(calls), count(*) FROM ({groups})"
    rows, calls, summaries = connection.execute(select, _values(category, before, 0, last)).fetchone()
    return Pruned(category, rows or 0, calls or 0, summaries)


def prune(
    connection: sqlite3.Connection, category: str, before: float | None, keep: int, has_summary: bool = True
) -> Pruned:
    """Remove calls of a category; an exact aggregate of each group of calls that are alike stays in their place.

    An aggregate has the number of the newest row that it stands for, so that nobody takes it for a new call.

    Args:
        connection: of the history.
        category: whose.
        before: only those that began earlier, in seconds since the epoch.
        keep: so many of the newest rows stay in any case.
        has_summary: whether aggregates stay; without, what was learned from the history is dropped too.
    """
    total = count(connection, category, before, keep)
    if not has_summary:
        total = Pruned(category, total.removed, total.calls, 0)
    if total.removed <= total.summaries:
        # Nothing but earlier aggregates.
        return Pruned(category, 0, 0, total.summaries)
    newest = _newest_to_go(connection, category, keep)
    chunk = f"SELECT max(id) FROM (SELECT id FROM calls WHERE {_GOES} ORDER BY id LIMIT {CHUNK})"
    seen = 0
    while (last := connection.execute(chunk, _values(category, before, seen, newest)).fetchone()[0]) is not None:
        _transact(connection, functools.partial(_replace, connection, category, before, last, has_summary))
        seen = last
    return total


def give_back_pages(connection: sqlite3.Connection) -> None:
    """Let the file shrink, a few MB per transaction; one made before files could shrink uses its pages again."""
    before = 0
    while (free := connection.execute("PRAGMA freelist_count").fetchone()[0]) and free != before:
        before = free
        # A page is given back per row that is fetched.
        connection.execute("PRAGMA incremental_vacuum(2000)").fetchall()


_GOES = "category = ? AND (? IS NULL OR started_at < ?) AND id > ? AND id <= ?"


def _values(category: str, before: float | None, after: int, last: int | None) -> tuple[Any, ...]:
    return category, before, before, after, last


def _newest_to_go(connection: sqlite3.Connection, category: str, keep: int) -> int | None:
    select = "SELECT id FROM calls WHERE category = ? ORDER BY id DESC LIMIT 1 OFFSET ?"
    row = connection.execute(select, (category, keep)).fetchone()
    return None if row is None else row[0]


def _replace(connection: sqlite3.Connection, category: str, before: float | None, last: int, has_summary: bool) -> None:
    """Put aggregates in the place of all rows that go, up to one; those of the chunks before are among them."""
    values = _values(category, before, 0, last)
    largest = ", ".join(f"max({name})" for name in (*LARGEST, "origin_id", "id"))
    select = f"SELECT {', '.join(_GROUP)}, {', '.join(f'sum({name})' for name in SUMMED)}, {largest} FROM calls"
    rows = connection.execute(f"{select} WHERE {_GOES} GROUP BY {', '.join(_GROUP)}", values).fetchall()
    connection.execute(f"DELETE FROM calls WHERE {_GOES}", values)
    if has_summary:
        places = ", ".join("?" * len(_KEPT))
        connection.executemany(f"INSERT INTO calls ({', '.join(_KEPT)}) VALUES ({places})", rows)
    else:
        connection.execute("DELETE FROM state")
        # The numbers of what has gone are given again.
        begin_name(connection)


def _transact(connection: sqlite3.Connection, work: Callable[[], None]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        work()
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
