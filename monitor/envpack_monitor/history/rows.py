"""Rows of the history: from a usage to what SQLite stores and back, and the exact aggregate of many rows. Pure.

A row is a mapping of the fields that were measured to values of SQLite. What nobody measured is left out: binding a
`None` costs as much as ten numbers, and most calls leave the same half of the fields empty.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Mapping
from typing import Any

from envpack_monitor.usage import FIELDS, Usage

Row = dict[str, Any]
"""Fields that were measured, as values of SQLite."""

DEFAULTS: Row = {"category": "", "started_at": 0.0, "quality": "exact", "calls": 1}
"""What a row has at least."""

SUMMED = (
    "wall_s",
    "cpu_user_s",
    "cpu_system_s",
    "bytes_read",
    "bytes_written",
    "voluntary_switches",
    "involuntary_switches",
    "minor_faults",
    "major_faults",
    "processes_total",
    "calls",
)
LARGEST = (
    "started_at",
    "memory_before_bytes",
    "peak_memory_bytes",
    "shared_out_bytes",
    "disk_bytes",
    "gpu_memory_bytes",
    "processes_max",
    "threads_max",
)
ALIKE = ("category", "exit_status", "signal", "exception", "limit_exceeded", "quality")
"""Only rows that agree in these are put together, so that an aggregate hides no failure and no doubt."""

OF_ONE_CALL = ("peak_times", "features")
"""Objects that say something about one call only; stored as JSON."""

_all_fields = operator.attrgetter(*FIELDS)
_PUT = tuple(getattr(Usage, name).__set__ for name in FIELDS)
_AS_JSON = tuple((FIELDS.index(name), getattr(Usage, name).__set__) for name in OF_ONE_CALL)
_NOT_EMPTY = tuple((FIELDS.index(name), getattr(Usage, name).__set__, value) for name, value in DEFAULTS.items())


def to_row(usage: Usage | Mapping[str, Any]) -> Row:
    """Return the row of a usage.

    Args:
        usage: a usage, or the fields of one as `Bracket.stop` returns them (not checked again).
    """
    row = dict(zip(FIELDS, _all_fields(usage), strict=True)) if isinstance(usage, Usage) else {**DEFAULTS, **usage}
    for name in OF_ONE_CALL:
        if name in row:
            row[name] = json.dumps(row[name], sort_keys=True) if row[name] else None
    if None in row.values():
        return {name: value for name, value in row.items() if value is not None}
    return row


def from_values(values: tuple[Any, ...]) -> Usage:
    """Return the usage whose fields were read in the order of `FIELDS`."""
    # A frozen dataclass makes itself through a dictionary and a check per field, at thrice the cost: a predictor reads
    # thousands of calls before it can begin.
    usage = object.__new__(Usage)
    for put, value in zip(_PUT, values, strict=True):
        put(usage, value)
    for put, value in ((put, values[at]) for at, put in _AS_JSON):
        put(usage, json.loads(value) if value else {})
    for at, put, default in _NOT_EMPTY:
        if values[at] is None:
            put(usage, default)
    return usage


def alike(row: Row) -> tuple[Any, ...]:
    """Return what rows must have in common to be put together."""
    return tuple(map(row.get, ALIKE))


def aggregate(rows: list[Row]) -> Row:
    """Return the exact aggregate of rows that are alike: the sums, the largest peaks, the newest start.

    Args:
        rows: at least one.
    """
    total: Row = {name: rows[0][name] for name in ALIKE if name in rows[0]}
    for name in SUMMED:
        if measured := _values(rows, name):
            total[name] = sum(measured)
    for name in LARGEST:
        if measured := _values(rows, name):
            total[name] = max(measured)
    return {**DEFAULTS, **total}


def _values(rows: Iterable[Row], name: str) -> list[Any]:
    return [row[name] for row in rows if name in row]
