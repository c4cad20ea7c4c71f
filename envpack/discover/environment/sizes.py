"""How much room an installed distribution takes: the bytes of its files, as its installer wrote them down.

Bytecode does not count: installers make it or leave it out as they like. Nor does the code of a development install,
which lies outside the environment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator

from envpack.discover.environment.archives import read_text
from envpack.discover.environment.cache import Stamp, are_settled, load, save, stamp
from envpack.discover.environment.metadata import InstalledDistribution

_BYTECODE = (".pyc", ".pyo")

# Of a RECORD: its stamp, the sizes that it states, and the files of which it states none.
_Stated = tuple[Stamp, int, tuple[str, ...]]


class Sizes:
    """The sizes of distributions, each list of files read once and only again when it has changed."""

    def __init__(self) -> None:
        self._now_ns = time.time_ns()
        self._known: dict[str, dict[str, _Stated]] = {}
        self._sizes: dict[str, int] = {}
        self._new: set[str] = set()

    def of(self, installed: InstalledDistribution) -> int:
        """Return the bytes of a distribution's files: the sizes in its RECORD, those on disk where it has none."""
        if installed.metadata not in self._sizes:
            self._sizes[installed.metadata] = self._size(installed)
        return self._sizes[installed.metadata]

    def keep(self) -> None:
        """Keep what was read for other processes."""
        for location in self._new:
            settled = {name: row for name, row in self._known[location].items() if are_settled([row[0]], self._now_ns)}
            save("sizes", location, settled)
        self._new.clear()

    def _size(self, installed: InstalledDistribution) -> int:
        location, name = installed.location, installed.metadata
        if location not in self._known:
            self._known[location] = load("sizes", location) or {}
        now = stamp(os.path.join(name, "RECORD"))
        if now is None:
            return _on_disk(installed.files or _modules(installed))
        row = self._known[location].get(name)
        if row is None or row[0] != now:
            row = self._known[location][name] = (now, *_stated(os.path.join(name, "RECORD")))
            self._new.add(location)
        return row[1] + _on_disk(os.path.join(location, path) for path in row[2])


def _stated(record: str) -> tuple[int, tuple[str, ...]]:
    stated, unstated = 0, []
    for path, size in _rows(read_text(record).splitlines()):
        if size.isdecimal():
            stated += int(size)
        elif not path.endswith(_BYTECODE):
            unstated.append(path)
    return stated, tuple(unstated)


def _rows(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        # Three fields without quotes are the rule, and splitting them costs a fifth of reading them as CSV.
        row = line.split(",") if '"' not in line else _quoted(line)
        if len(row) == 3:
            yield row[0], row[2]


def _quoted(line: str) -> list[str]:
    import csv

    return next(csv.reader([line]), [])


def _modules(installed: InstalledDistribution) -> Iterator[str]:
    """Give the files of what was installed without a list: its metadata and the modules that it names."""
    roots = [installed.metadata, *(os.path.join(installed.location, name) for name in sorted(installed.top_level))]
    for root in roots:
        yield from (root, f"{root}.py")
        for folder, _, names in os.walk(root):
            yield from (os.path.join(folder, name) for name in names if not name.endswith(_BYTECODE))


def _on_disk(files: Iterable[str]) -> int:
    return sum(_file_size(file) for file in files)


def _file_size(file: str) -> int:
    try:
        return os.stat(file).st_size if os.path.isfile(file) else 0
    except OSError:
        return 0  # listed, but no longer there
