"""A time series of what a tree uses, written into a file while it runs, so that it is whole whenever it ends.

One row per interval: CSV with a head, or one JSON object per line, by the end of the file's name (`.csv`; `.jsonl`,
`.ndjson`, `.json`). The columns are `COLUMNS`; what nobody measured is empty, or `null`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO, Any, Self

from envpack_monitor.errors import FormatError
from envpack_monitor.trees.looks import Sight

COLUMNS = (
    "time_s",
    "memory_bytes",
    "cpu_s",
    "cores",
    "processes",
    "threads",
    "bytes_read",
    "bytes_written",
    "disk_bytes",
)
INTERVAL_S = 0.1
SHORTEST_INTERVAL_S = 0.005
_LINES = (".jsonl", ".ndjson", ".json")


class Series:
    """One file that grows while something runs; a context manager that closes it.

    Args:
        path: the file; one that is there already is replaced.
        interval_s: seconds between rows.

    Raises:
        FormatError: another end of the name, an interval that is too short, or a file that cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], interval_s: float = INTERVAL_S) -> None:
        self.path = Path(path)
        self.interval_s = interval_s
        self._as_lines = self.path.suffix in _LINES
        if self.path.suffix != ".csv" and not self._as_lines:
            raise FormatError(f"series: a name that ends in .csv or .jsonl expected, {self.path.name!r} met")
        if not interval_s >= SHORTEST_INTERVAL_S:
            raise FormatError(f"series: an interval of at least {SHORTEST_INTERVAL_S} s expected, {interval_s} met")
        self._file: IO[str] | None = None
        self._due_s = 0.0
        self._last: tuple[float, float] = (0.0, 0.0)

    def __enter__(self) -> Self:
        try:
            self._file = self.path.open("w", encoding="utf-8")
        except OSError as error:
            raise FormatError(f"cannot write {self.path}: {error.strerror}") from error
        if not self._as_lines:
            self._write(",".join(COLUMNS))
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def until_due_s(self, time_s: float) -> float:
        """Return how long it is until the next row, in seconds."""
        return max(0.0, self._due_s - time_s)

    def add(self, sight: Sight, cpu_s: float, is_last: bool = False) -> None:
        """Write a row, if one is due.

        Args:
            sight: what was seen.
            cpu_s: processor seconds so far, of all that ever ran.
            is_last: it is due in any case.
        """
        if sight.time_s < self._due_s and not is_last:
            return
        self._due_s = max(self._due_s + self.interval_s, sight.time_s)
        since_s, used_s = sight.time_s - self._last[0], cpu_s - self._last[1]
        self._last = (sight.time_s, cpu_s)
        row: dict[str, Any] = {
            "time_s": round(sight.time_s, 6),
            "memory_bytes": sight.memory_bytes,
            "cpu_s": round(cpu_s, 6),
            "cores": round(max(0.0, used_s) / since_s, 4) if since_s > 0 else 0.0,
            "processes": sight.processes,
            "threads": sight.threads,
            "bytes_read": sight.bytes_read,
            "bytes_written": sight.bytes_written,
            "disk_bytes": sight.disk_bytes,
        }
        if self._as_lines:
            self._write(json.dumps(row))
        else:
            self._write(",".join("" if row[name] is None else str(row[name]) for name in COLUMNS))

    def _write(self, line: str) -> None:
        assert self._file is not None
        self._file.write(f"{line}\n")
        self._file.flush()
