"""Traces: calls that are over, one per line of a CSV file, in the order of their submission. Reading them is pure.

The columns are found by their names in the first line; others are left alone. Empty means unknown.

| column | meaning |
|---|---|
| `category` | which calls this one is like (needed) |
| `peak_mb` | its peak, in MB of 10^6 bytes (needed) |
| `wall_s` | its seconds (needed) |
| `input_bytes` | the size of its input, a feature |
| `preset_mb` | what the user asked for, in MB: the feature `HINT` |
| `cores` | how many it was given; 1 if unknown |
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from envpack_monitor.errors import FormatError
from envpack_monitor.predict.protocol import HINT
from envpack_monitor.usage import Usage

NEEDED = ("category", "peak_mb", "wall_s")
NUMBERS = ("peak_mb", "wall_s", "input_bytes", "preset_mb", "cores")
MB = 1e6
PROBLEMS_TOLD = 20


@dataclass(frozen=True, slots=True)
class TracedCall:
    """One line of a trace.

    Args:
        usage: what the call used, with its features.
        cores: how many cores it was given.
    """

    usage: Usage
    cores: float = 1.0


@dataclass(frozen=True, slots=True)
class Trace:
    """What a trace holds.

    Args:
        name: what it is called in messages.
        calls: those whose peak and time are known, in the order of the file.
        left_out: how many others there are.
    """

    name: str
    calls: Sequence[TracedCall]
    left_out: int = 0

    @property
    def usages(self) -> list[Usage]:
        """The usages of the calls."""
        return [call.usage for call in self.calls]

    @property
    def largest_peak_bytes(self) -> int:
        """The largest peak: so large must a node be."""
        return max((usage.peak_memory_bytes or 0 for usage in self.usages), default=0)

    @property
    def largest_bytes(self) -> int:
        """The largest peak or hint: so large is the node that the users had in mind."""
        hints = (math.ceil(usage.features.get(HINT, 0.0)) for usage in self.usages)
        return max(self.largest_peak_bytes, *hints, 0)

    def without_features(self) -> Trace:
        """Return the trace without the features of its calls, the users' hints among them."""
        calls = [replace(call, usage=replace(call.usage, features={})) for call in self.calls]
        return replace(self, calls=calls)


def read_trace(lines: Iterable[str], name: str) -> Trace:
    """Return the calls of a trace.

    Args:
        lines: of the file, the names of the columns first.
        name: of the file, for messages.

    Raises:
        FormatError: a column is missing or a value is wrong; the first twenty are named with line, column and value.
    """
    reader = csv.DictReader(lines)
    problems: list[str] = []
    calls, left_out = [], 0
    try:
        _check_columns(reader.fieldnames or (), name)
        for row in reader:
            call = _read_row(row, f"{name}:{reader.line_num}", problems)
            if call is not None:
                calls.append(call)
            left_out += call is None
    except (csv.Error, UnicodeDecodeError) as error:
        raise FormatError(f"{name}:{reader.line_num + 1}: not a line of CSV: {error}") from error
    if problems:
        more = f"; and {len(problems) - PROBLEMS_TOLD} more" if len(problems) > PROBLEMS_TOLD else ""
        raise FormatError("; ".join(problems[:PROBLEMS_TOLD]) + more)
    return Trace(name, calls, left_out)


def _check_columns(columns: Sequence[str], name: str) -> None:
    missing = [column for column in NEEDED if column not in columns]
    if missing:
        hint = f"the first line names the columns: {','.join(NEEDED)} and perhaps input_bytes, preset_mb, cores"
        raise FormatError(f"{name}:1: column missing: {', '.join(missing)}", hint)


def _read_row(row: dict[str, str], place: str, problems: list[str]) -> TracedCall | None:
    """Return the call, or `None` if nobody knows what it needed; what is wrong is added to the problems."""
    if None in row or None in row.values():
        problems.append(f"{place}: as many values as columns expected, {'more' if None in row else 'fewer'} met")
        return None
    if not row["category"]:
        problems.append(f"{place}: column category: a name expected, nothing met")
    numbers = {column: _number(row.get(column, ""), f"{place}: column {column}", problems) for column in NUMBERS}
    peak_mb, wall_s = numbers["peak_mb"], numbers["wall_s"]
    if not peak_mb or wall_s is None:
        return None
    features = {}
    if numbers["input_bytes"] is not None:
        features["input_bytes"] = numbers["input_bytes"]
    if numbers["preset_mb"]:
        features[HINT] = numbers["preset_mb"] * MB
    usage = Usage(category=row["category"], wall_s=wall_s, peak_memory_bytes=math.ceil(peak_mb * MB), features=features)
    return TracedCall(usage, numbers["cores"] or 1.0)


def _number(text: str, place: str, problems: list[str]) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        problems.append(f"{place}: a number from 0 on expected, {text!r} met")
        return None
    return value
