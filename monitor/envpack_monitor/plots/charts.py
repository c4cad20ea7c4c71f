"""What a plot of a history shows, however it is drawn: values with their names, their bins and their units. Pure."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from envpack_monitor.errors import FormatError
from envpack_monitor.units import format_bytes, format_seconds
from envpack_monitor.usage import FIELDS, Usage

BINS = 12
DERIVED = ("cores", "cpu_s", "memory_difference_bytes")
SERIES_DEFAULT = ("memory_bytes", "cores", "processes", "threads", "bytes_read", "bytes_written", "disk_bytes")

_NO_NUMBERS = ("category", "exception", "limit_exceeded", "quality", "peak_times", "features", "calls")
FIGURES = (*(name for name in FIELDS if name not in _NO_NUMBERS), *DERIVED)
"""What can be plotted of the calls of a category."""


@dataclass(frozen=True, slots=True)
class Line:
    """One figure over time.

    Args:
        name: of the figure; tells its unit (`_bytes`, `_s`).
        times_s: seconds, ascending.
        values: as many.
    """

    name: str
    times_s: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Bins:
    """How often values lie between edges.

    Args:
        edges: ascending, one more than there are counts; steps or factors apart.
        counts: the last bin includes its upper edge.
        is_log: whether the edges are factors apart.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    is_log: bool


def line_of_calls(calls: Iterable[Usage], figure: str) -> Line:
    """Return a figure of calls by the time at which they began, since the first; what was not measured is left out.

    Raises:
        FormatError: there is no such figure.
    """
    if figure not in FIGURES:
        raise FormatError(f"figure {figure!r}: one of {', '.join(FIGURES)} expected")
    measured = sorted((call.started_at, value) for call in calls if (value := getattr(call, figure)) is not None)
    first = measured[0][0] if measured else 0.0
    return Line(figure, tuple(at - first for at, _ in measured), tuple(float(value) for _, value in measured))


def lines_of_series(texts: Iterable[str], where: str, figures: Sequence[str] = ()) -> list[Line]:
    """Return the lines of a series, as `envpack monitor --series` writes it.

    Args:
        texts: the lines of the file, CSV with a head or one JSON object per line.
        where: what the file is called in messages.
        figures: which columns; by default the usual ones that hold something.

    Raises:
        FormatError: it is neither, has no times, or not these columns.
    """
    rows = _read_series(texts, where)
    if not rows or "time_s" not in rows[0]:
        raise FormatError(f"{where}: a column time_s expected, {', '.join(rows[0]) if rows else 'nothing'} met")
    if unknown := [name for name in figures if name not in rows[0]]:
        there = ", ".join(name for name in rows[0] if name != "time_s")
        raise FormatError(f"{where}: no column {', '.join(unknown)}", f"there are {there}")
    lines = [_line_of(rows, name) for name in figures or SERIES_DEFAULT if name in rows[0]]
    return lines if figures else [line for line in lines if any(line.values)]


def bins_of(values: Sequence[float], count: int = BINS) -> Bins:
    """Return a histogram; values that spread over more than a factor of 100 get bins that are factors apart.

    Args:
        values: at least one.
        count: how many bins; one if all values are the same.
    """
    low, high = min(values), max(values)
    if low == high:
        return Bins((low, high), (len(values),), False)
    is_log = low > 0 and high / low > 100
    if is_log:
        step = math.log(high / low) / count
        edges = [low * math.exp(step * number) for number in range(count)]
    else:
        edges = [low + (high - low) / count * number for number in range(count)]
    edges.append(high)
    counts = [0] * count
    for value in values:
        share = math.log(value / low) / math.log(high / low) if is_log else (value - low) / (high - low)
        counts[min(count - 1, int(share * count))] += 1
    return Bins(tuple(edges), tuple(counts), is_log)


def format_value(name: str, value: float) -> str:
    """Return a value with the unit that the name of its figure tells."""
    if name.endswith("_bytes") or name.startswith("bytes_"):
        return format_bytes(value)
    if name.endswith("_s"):
        return format_seconds(value) if value >= 0 else f"-{format_seconds(-value)}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _read_series(texts: Iterable[str], where: str) -> list[dict[str, object]]:
    lines = [line for line in texts if line.strip()]
    if not lines or not lines[0].lstrip().startswith("{"):
        return [dict(row) for row in csv.DictReader(lines)]
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(dict(json.loads(line)))
        except (ValueError, TypeError) as error:
            # The last line of a series whose writer was killed may be a part of one.
            if number == len(lines) and number > 1:
                break
            raise FormatError(f"{where}, line {number}: an object expected, {line.strip()[:40]!r} met") from error
    return rows


def _line_of(rows: list[dict[str, object]], name: str) -> Line:
    points = []
    for row in rows:
        at, value = _number(row.get("time_s")), _number(row.get(name))
        if at is not None and value is not None:
            points.append((at, value))
    return Line(name, tuple(at for at, _ in points), tuple(value for _, value in points))


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]  # what is no number is none
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
