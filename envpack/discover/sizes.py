"""How much room an installed distribution takes: the bytes of its files, as its installer wrote them down.

Bytecode does not count: installers make it or leave it out as they like. Nor does the code of a development install,
which lies outside the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from envpack.discover.metadata import InstalledDistribution

# A row is path, hash and size. Searching the whole text costs a tenth of reading it as CSV.
_SIZE = re.compile(r"^(?:\"(?:[^\"\n]|\"\")*\"|[^\",\n]*),[^,\n]*,(\d+)\r?$", re.MULTILINE)
_NO_SIZE = re.compile(r"^(\"(?:[^\"\n]|\"\")*\"|[^\",\n]*),[^,\n]*,\r?$", re.MULTILINE)
_BYTECODE = (".pyc", ".pyo")


def size_bytes(installed: InstalledDistribution) -> int:
    """Return the bytes of a distribution's files: the sizes in its RECORD, those on disk where it has none."""
    try:
        with open(os.path.join(installed.metadata, "RECORD"), encoding="utf-8", errors="replace") as file:
            record = file.read()
    except OSError:
        return _on_disk(installed.files or _modules(installed))
    unstated = [path for path in _without_size(record) if not path.endswith(_BYTECODE)]
    return sum(map(int, _SIZE.findall(record))) + _on_disk(os.path.join(installed.location, path) for path in unstated)


def _without_size(record: str) -> Iterator[str]:
    for path in _NO_SIZE.findall(record):
        if not path.startswith('"'):
            yield path
            continue
        import csv

        yield next(csv.reader([path]))[0]


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
