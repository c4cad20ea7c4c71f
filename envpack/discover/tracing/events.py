"""What the agent of a traced program noted, as values."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

EventKind = Literal["import", "load", "failed", "open", "start"]
_KINDS = ("import", "load", "failed", "open", "start")


@dataclass(frozen=True, slots=True)
class Place:
    """A frame of the traced program.

    Attributes:
        file: path of its source, as the traced program names it.
        line: the line that was being run.
        first_line: the line on which its function starts.
        function: plain name of its function; `<module>` at the top level of a file.
    """

    file: str
    line: int
    first_line: int
    function: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a traced program.

    Attributes:
        kind: `import` (a statement or `importlib.import_module`), `load` (the code of a file was executed, or a shared
            library loaded), `failed` (an import that raised), `open` (a data file was opened for reading), `start` (a
            program was started).
        names: the modules of `import` and `failed`; the path of the others.
        chain: the places that led there, the nearest first; empty where no file did, as under `python -c`.
    """

    kind: EventKind
    names: tuple[str, ...]
    chain: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """The exception that ended a traced process.

    Attributes:
        kind: name of its class.
        text: what it says.
        missing: the module or distribution that it names, or an empty string.
    """

    kind: str
    text: str
    missing: str


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything that was noted.

    Attributes:
        events: in the order in which they were written, of all processes.
        files: the file of each imported module that has one.
        libraries: the shared libraries that were mapped when processes ended.
        failures: exceptions that ended processes.
        problems: what went wrong in the agent itself.
    """

    events: tuple[Event, ...]
    files: Mapping[str, str]
    libraries: frozenset[str]
    failures: tuple[Failure, ...]
    problems: tuple[str, ...] = ()


def read_trace(log: str) -> Trace:
    """Read the file that an agent wrote; a last line that was cut off by a signal is left out."""
    events: list[Event] = []
    files: dict[str, str] = {}
    libraries: set[str] = set()
    failures: list[Failure] = []
    problems: list[str] = []
    for kind, *facts in _lines(log):
        if kind in _KINDS:
            names = tuple(facts[0]) if isinstance(facts[0], list) else (facts[0],)
            events.append(Event(kind, names, _chain(facts[1])))
        elif kind == "module":
            files.setdefault(facts[0], facts[1])
        elif kind == "libraries":
            libraries.update(facts[0])
        elif kind == "error":
            failures.append(Failure(*facts))
        else:
            problems.append(f"{facts[0]}: {facts[1]}")
    return Trace(tuple(events), files, frozenset(libraries), tuple(failures), tuple(problems))


def _lines(log: str) -> Iterable[list[Any]]:
    if not os.path.exists(log):
        return
    with open(log, encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                _, *event = json.loads(line)
                yield event


def _chain(places: Iterable[list[Any]]) -> tuple[Place, ...]:
    return tuple(Place(os.path.normpath(file), line, first, function) for file, line, first, function in places)
