"""Reading in the output of a run what it could not import, and where."""

from __future__ import annotations

import re
from collections.abc import Iterator

_PLACE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)|^(?P<short>\S+\.py):(?P<number>\d+): ', re.M)
_MISS = re.compile(r"No module named \W{0,2}(?P<module>[\w.]+)|No package metadata was found for (?P<name>[\w.-]+)")


def misses(output: str, folder: str) -> list[str]:
    """Return `FILE:LINE: MODULE` for each module that a run missed.

    Args:
        output: what pytest printed; tracebacks of child processes may stand in it as literals.
        folder: where the run's own files lie: the innermost of them is the place, else the innermost of all.
    """
    return list(dict.fromkeys(_found(output.replace("\\n", "\n").replace('\\"', '"'), folder)))


def _found(text: str, folder: str) -> Iterator[str]:
    start = 0
    for miss in _MISS.finditer(text):
        places = [_place(match) for match in _PLACE.finditer(text, start, miss.start())]
        ours = [place for place in places if not place.startswith("/") or place.startswith(folder)]
        place = ((ours or places)[-1:] or ["unknown place"])[0]
        yield f"{place.removeprefix(folder).lstrip('/')}: {miss['module'] or miss['name']}"
        start = miss.end()


def _place(match: re.Match[str]) -> str:
    return f"{match['file'] or match['short']}:{match['line'] or match['number']}"
