"""The calls of one category where they come fast: exact sums instead of rows, and every so many calls a row.

Up to `SHARE` of the rows that the process may write (100 a second by default) each call of a category becomes a row.
Above, one call in so many still does, such that half as many rows a second come together. The others are added up, and
once a second there is one row more for all of them, with `calls` > 1, sums of what can be added, and the largest peak.

```
 a call that ended ──record──▶ up to FOLD of them ──fold──▶ sums of this second ──take──▶ the history's writer
```

Adding up 64 at once costs a quarter of a microsecond a call; one by one it would cost a microsecond. What the writer
itself thins (`envpack_monitor.history.thinning`) is what still comes together from many categories.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any

from envpack_monitor.calls.bracket import COUNTED, Bracket, Record
from envpack_monitor.calls.counters import NOISE, settle
from envpack_monitor.history.rows import Row, aggregate, to_row

SHARE = 0.1
FOLD = 64

_TRUSTED = "exact"
_UNTRUSTED = "; ".join(["exact", *(f"{name}: lower bound" for name in COUNTED)])

_all: weakref.WeakSet[CallSums] = weakref.WeakSet()


class CallSums:
    """Decides which calls become rows, and adds up the others.

    Args:
        common: what all these calls have in common: fields of `Usage`, among them the category.

    Attributes:
        skip: how many calls are to be added up before the next row; whoever adds one counts it down. Two threads may
            count one down together: then the next row comes a call later.
        records: of calls that wait to be added up.
        is_watched: somebody will `take` the sums.
    """

    __slots__ = (
        "__weakref__",
        "_common",
        "_lock",
        "_on_trust",
        "_parts",
        "_rows",
        "_rows_per_s",
        "_seen",
        "_since",
        "_stride",
        "_until",
        "is_watched",
        "records",
        "skip",
    )

    def __init__(self, common: Mapping[str, Any]) -> None:
        self._common = dict(common)
        self.records: list[Record] = []
        self.forget()
        _all.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # What was added up belongs to this process.
        return CallSums, (self._common,)

    def forget(self) -> None:
        """Begin anew, as in a forked child: what was added up is the parent's to tell."""
        self._lock = threading.Lock()
        self.skip = 0
        self.is_watched = False
        self.records.clear()
        self._parts: dict[str, list[Row]] = {}
        self._rows = self._seen = 0
        self._since = self._until = self._rows_per_s = 0.0
        self._stride = 1
        self._on_trust: list[Bracket] = []

    def count_row(self, rows_per_s: float | None) -> None:
        """Note that a call becomes a row, and decide how many of the next do not.

        Args:
            rows_per_s: how many rows the process may write; `None` for a row for each call.
        """
        if rows_per_s is None:
            return
        self._rows_per_s = rows_per_s * SHARE
        now = time.perf_counter()
        if now >= self._until:
            is_fast = self._seen > self._rows_per_s and now < self._until + 1
            self._stride = int(2 * self._seen / self._rows_per_s) if is_fast else 1
            self._until = now + 1
            self._rows = self._seen = 0
        self._rows += 1
        if self._rows > self._rows_per_s:
            self._stride *= 2
        self._seen += self._stride
        self.skip = self._stride - 1

    def add(self, figures: Mapping[str, Any]) -> None:
        """Add the figures of one call."""
        with self._lock:
            self._add(to_row({name: value for name, value in figures.items() if name != "features"}))

    def fold(self) -> None:
        """Add up the records that wait, when it is known what they are worth."""
        settle()
        self._fold(_TRUSTED)

    def _fold(self, quality: str) -> None:
        with self._lock:
            # Other threads append meanwhile: what is taken out is exactly what was seen.
            records = self.records[:]
            del self.records[: len(records)]
            if records:
                self._add({**_added_up(records), "quality": quality})

    def answer_for(self, bracket: Bracket) -> None:
        """Remember a bracket that becomes a row, until it is known whether its counters stood still."""
        self._on_trust.append(bracket)

    def trust(self) -> None:
        """Note that the counters stood still."""
        self._on_trust.clear()

    def distrust(self) -> None:
        """Note that bytes were moved or children ended around the calls since the last time, perhaps in one of them."""
        for bracket in self._on_trust:
            bracket.distrust()
        self._on_trust.clear()
        self._fold(_UNTRUSTED)

    def take(self) -> list[Row]:
        """Return the rows for all calls since the last time, one for each quality.

        From here on nobody watches, until somebody says so again.
        """
        self.is_watched = False
        self.fold()
        with self._lock:
            parts, self._parts = self._parts, {}
        rows = [aggregate(part) for part in parts.values()]
        if sum(row["calls"] for row in rows) <= self._rows_per_s * (time.time() - self._since):
            # It has become slow: the next call is a row.
            self.skip, self._stride = 0, 1
        return [{**row, **self._common} for row in rows]

    def _add(self, row: Row) -> None:
        if not self._parts:
            self._since = time.time()
        part = self._parts.setdefault(row["quality"], [])
        part.append(row)
        if len(part) >= FOLD:
            part[:] = [aggregate(part)]


def _added_up(records: list[Record]) -> Row:
    """Return the row for records; column by column, so that the work is done by the interpreter's own loops."""
    before, after, wall, read, written = zip(*records, strict=True)
    first, last = tuple(zip(*before, strict=True)), tuple(zip(*after, strict=True))
    peak_kib = max(last[2])
    row = {name: max(0, sum(last[at]) - sum(first[at])) for name, at in NOISE.items()}
    wall_s = sum(wall)
    row |= {"started_at": time.time() - wall_s, "wall_s": wall_s, "calls": len(records)}
    # What was there before the call with the largest peak: their difference is what that call needed.
    before_kib = first[2][last[2].index(peak_kib)]
    row |= {"peak_memory_bytes": peak_kib * 1024, "memory_before_bytes": before_kib * 1024}
    row |= {"bytes_read": sum(read), "bytes_written": sum(written)}
    return row


def _forget_all_in_child() -> None:
    for sums in list(_all):
        sums.forget()


os.register_at_fork(after_in_child=_forget_all_in_child)
