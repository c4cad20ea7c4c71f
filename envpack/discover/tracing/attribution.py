"""From what a traced program did to the distributions and local files that it needs.

What the user's own code imports is needed. What a library imports is needed if the library is, unless it is *implied*
(the library's own requirements bring it) or *opportunistic*: imported only because it happens to be there, which shows
in a handler that goes on without it. Reading metadata and scanning entry points is no use; the agent leaves it out.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from envpack.discover.dependencies import Evidence
from envpack.discover.environment.closure import closure
from envpack.discover.environment.finder import Location, ModuleFinder, root_of
from envpack.discover.environment.metadata import InstalledDistribution
from envpack.discover.findings import Finding
from envpack.discover.kinds import EvidenceKind
from envpack.discover.tracing.events import Event, Place, Trace
from envpack.discover.tracing.softness import Side, Softness, softness


@dataclass(frozen=True, slots=True)
class Harness:
    """What belongs to the way in which a program was run, and not to it.

    Attributes:
        folders: files below these are no part of the program.
        stand_in: the place that stands for them, such as the function that was called.
        within: the functions (file and first line) to which the answer is limited; empty for no limit.
    """

    folders: tuple[str, ...]
    stand_in: Place
    within: frozenset[tuple[str, int]] = frozenset()


@dataclass(slots=True)
class Observed:
    """What a run showed.

    Attributes:
        findings: what is needed.
        candidates: by distribution, what was taken because it was there, the last one first.
        files: the user's own files that were executed, and the folder from which each is importable.
        evidence: for each of these files where it was imported.
        entered: whether one of the functions was called to which the answer is limited.
    """

    findings: list[Finding] = field(default_factory=list)
    candidates: dict[str, Finding] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    entered: bool = True


@dataclass(frozen=True, slots=True)
class _Edge:
    """One distribution that one piece of code used."""

    by: str | None
    target: InstalledDistribution
    module: str
    place: Place
    kind: str
    chain: Sequence[Place]


class Attribution:
    """Tells what traced events say about one environment.

    Args:
        finder: where its modules are.
        markers: the environment in which requirement markers are evaluated.
    """

    def __init__(self, finder: ModuleFinder, markers: Mapping[str, str]) -> None:
        self._finder = finder
        self._markers = markers
        self._owners: dict[str, InstalledDistribution | None] = {}
        interpreter = finder.interpreter
        self._standard = interpreter.stdlib.rstrip(os.sep) + os.sep
        self._roots = sorted(interpreter.sys_path, key=len, reverse=True)
        self._commands = os.path.join(interpreter.prefix, "bin")

    def observe(
        self,
        trace: Trace,
        harness: Harness,
        static: Iterable[Finding],
        needed: Iterable[str],
        excluded: frozenset[str],
        limit: Softness = Softness.HARD,
    ) -> Observed:
        """Judge a trace.

        Args:
            trace: what the agent noted.
            harness: how the program was run.
            static: what its text says; an import that is optional there stays so.
            needed: requirement strings of the distributions that are needed anyway.
            excluded: normalized names that the caller leaves out.
            limit: the softest that is needed; what is softer is a candidate.
        """
        seen = Observed(entered=not harness.within)
        modules = {file: name for name, file in [*trace.files.items()][::-1]}
        optional = {(one.file, one.line) for one in static if one.kind == "optional"}
        edges: list[_Edge] = []
        for event in trace.events:
            chain = _program_chain(event, harness)
            if harness.within:
                inside = [place for place in chain if (place.file, place.first_line) in harness.within]
                if not inside:
                    continue
                seen.entered = True
            if event.kind != "failed":
                edges += self._edges(event, chain, self._targets(event, trace, harness), modules, optional)
            if not event.names[0].startswith(harness.folders):
                self._add_local(event, chain, modules, seen)
        edges += self._library_edges(trace, harness)
        stated = {(edge.chain[0], edge.target.name) for edge in edges if edge.kind == "import"}
        edges = [self._as_native(edge, stated) for edge in edges]
        self._decide(edges, seen, list(needed), excluded, limit)
        return seen

    # From events to edges

    def _edges(
        self,
        event: Event,
        chain: Sequence[Place],
        targets: Iterable[tuple[str, str]],
        modules: Mapping[str, str],
        optional: set[tuple[str, int]],
    ) -> Iterator[_Edge]:
        nearest = chain[0]
        by = self.owner(nearest.file)
        user_place = next((place for place in chain if self.is_users(place.file)), chain[-1])
        for name, file in targets:
            target = self.owner(file)
            if target is None or target is by:
                continue
            if by is None and (nearest.file, nearest.line) in optional:
                continue
            module = name or modules.get(file, "")
            yield _Edge(by.name if by is not None else None, target, module, user_place, event.kind, chain)

    def _targets(self, event: Event, trace: Trace, harness: Harness) -> Iterator[tuple[str, str]]:
        """Give what an event concerns: modules with their files, or only files."""
        by_harness = all(place.file.startswith(harness.folders) for place in event.chain)
        for name in event.names:
            if event.kind == "import":
                module, file = name, trace.files.get(name, "")
            elif event.kind == "start" and os.sep not in name:
                module, file = "", os.path.join(self._commands, name)
            else:
                module, file = "", name
            if file and not (by_harness and file.startswith(harness.folders)):
                yield module, os.path.normpath(file)

    @staticmethod
    def _as_native(edge: _Edge, stated: Set[tuple[Place, str]]) -> _Edge:
        """Mark what an extension module imported: the line from which that was called says nothing of the other."""
        if edge.kind != "load" or edge.by is None or (edge.chain[0], edge.target.name) in stated:
            return edge
        return dataclasses.replace(edge, kind="native")

    def _library_edges(self, trace: Trace, harness: Harness) -> Iterator[_Edge]:
        """Give the distributions of which nothing but shared libraries is used: something links to them."""
        executed = {self.owner(name) for event in trace.events if event.kind == "load" for name in event.names}
        for path in sorted(trace.libraries):
            target = self.owner(path)
            if target is not None and target not in executed:
                yield _Edge(None, target, "", harness.stand_in, "library", ())

    # From edges to what is needed

    def _decide(
        self, edges: Sequence[_Edge], seen: Observed, needed: list[str], excluded: frozenset[str], limit: Softness
    ) -> None:
        edges = [edge for edge in _first_of_pairs(edges) if edge.target.name not in excluded]
        while True:
            known = closure(self._finder.index, needed, self._markers, excluded).names
            added = next((edge for edge in edges if _counts(edge, known) and self._softness(edge) <= limit), None)
            if added is None:
                break
            seen.findings.append(_finding(added))
            needed.append(added.target.name)
        for edge in reversed(edges):
            if _counts(edge, known):
                seen.candidates.setdefault(edge.target.name, _finding(edge))

    def _softness(self, edge: _Edge) -> Softness:
        if edge.kind in ("library", "native"):
            return Softness.DOUBTFUL
        if edge.kind in ("open", "start") and edge.by is not None:
            return Softness.SOFT  # libraries look into many files of which they need none
        return softness(edge.chain, self._side)

    # Files

    def _add_local(self, event: Event, chain: Sequence[Place], modules: Mapping[str, str], seen: Observed) -> None:
        """Count a file of the user's own that was imported."""
        if event.kind != "load":
            return
        file = os.path.normpath(event.names[0])
        module = modules.get(file)
        if module is None or module == "__main__" or not os.path.isfile(file) or not self.is_users(file):
            return
        if file not in seen.files:
            seen.files[file] = root_of(module, file)
            seen.evidence[file] = Evidence(chain[0].file, chain[0].line, "runtime", module)

    def is_users(self, file: str) -> bool:
        """Whether a file belongs neither to the standard library nor to a distribution."""
        return self._side(file) == "user"

    def _side(self, file: str) -> Side:
        if self.owner(file) is not None:
            return "library"
        return "standard" if file.startswith(self._standard) else "user"

    def owner(self, file: str) -> InstalledDistribution | None:
        """Return the distribution that a file belongs to: a module, a library, a data file or a command."""
        if file not in self._owners:
            self._owners[file] = self._find_owner(file)
        return self._owners[file]

    def _find_owner(self, file: str) -> InstalledDistribution | None:
        index = self._finder.index
        if file.startswith(self._commands + os.sep):
            return next((item for item in index if file in item.files), None)
        for root in self._roots:
            if file.startswith(root + os.sep):
                relative = os.path.relpath(file, root)
                return index.owner(file, relative.split(os.sep)[0].partition(".")[0], root)
        for mapped in index:
            if any(file == place or file.startswith(place + os.sep) for place in mapped.editable.values()):
                return mapped
        return None


def _program_chain(event: Event, harness: Harness) -> tuple[Place, ...]:
    """Return the chain without the harness; what only the harness did stands where it stands in for."""
    chain = tuple(place for place in event.chain if not place.file.startswith(harness.folders))
    return chain or (harness.stand_in,)


def _first_of_pairs(edges: Iterable[_Edge]) -> list[_Edge]:
    """Keep of each library's uses of a distribution the first: after `try: import b`, `if has_b` guards others."""
    first: dict[tuple[str, str], _Edge] = {}
    return [edge for edge in edges if edge.by is None or first.setdefault((edge.by, edge.target.name), edge) is edge]


def _counts(edge: _Edge, known: frozenset[str]) -> bool:
    return edge.target.name not in known and (edge.by is None or edge.by in known)


def _finding(edge: _Edge) -> Finding:
    kind: EvidenceKind = "runtime" if edge.by is None else "hidden"
    # Of some only a file is used: a command, data, a library to link with.
    location = Location(edge.module, "distribution", distribution=edge.target)
    return Finding(edge.module or edge.target.name, edge.place.file, edge.place.line, kind, location)
