"""Runs a program in an environment of nothing but the answer, and adds what it misses until it ends as before.

What is missed is taken, in this order, from the exception that ended the program, from the imports that failed (the
last one first), and from what the first run took only because it was there. What turns out not to have been the cause
is taken out again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence

from envpack.discover.dependencies import Dependencies
from envpack.discover.environment.finder import Location, ModuleFinder
from envpack.discover.findings import Finding
from envpack.discover.tracing.attribution import Attribution, Harness
from envpack.discover.tracing.events import Place, Trace
from envpack.discover.tracing.replica import make_replica
from envpack.discover.tracing.session import Outcome, Program, Session, user_path

_MAX_RUNS = 24

Answer = Callable[[Sequence[Finding]], Dependencies]


class Verification:
    """Verifies one program in one environment.

    Args:
        session: where it is run.
        program: what is run.
        expected: how it ended in the full environment.
        finder: where the modules of that environment are.
        attribution: tells to which distribution a file belongs.
        harness: what belongs to the way in which the program is run.
    """

    def __init__(
        self,
        session: Session,
        program: Program,
        expected: Outcome,
        finder: ModuleFinder,
        attribution: Attribution,
        harness: Harness,
    ) -> None:
        self._session = session
        self._program = program
        self._expected = expected
        self._finder = finder
        self._attribution = attribution
        self._harness = harness
        self._locations = {item.location for item in finder.index}
        self._runs = 0
        self.last: Outcome | None = None

    def settle(self, answer: Answer, candidates: dict[str, Finding], excluded: frozenset[str]) -> Iterator[Finding]:
        """Give what has to be added to the answer; `passed` says afterwards whether that was enough."""
        added: dict[str, Finding] = {}
        while not self._passes(answer([*added.values()])) and self._runs < _MAX_RUNS:
            assert self.last is not None
            known = {
                item.name for item in answer([*added.values()]).distributions if item.role != "optional"
            } | excluded
            found = self._missed(self.last, known) or {
                name: finding for name, finding in candidates.items() if name not in known
            }
            if not found:
                return
            added.update(found)
        if self.passed and len(added) > 1:
            added = self._without_needless(answer, added)
        yield from added.values()

    @property
    def passed(self) -> bool:
        """Whether the program ended in the last answer as it did before."""
        return self.last is not None and self._same(self.last)

    def _without_needless(self, answer: Answer, added: dict[str, Finding]) -> dict[str, Finding]:
        last = self.last
        for name in list(added):
            fewer = {key: finding for key, finding in added.items() if key != name}
            if self._runs < _MAX_RUNS and self._passes(answer([*fewer.values()])):
                added, last = fewer, self.last
        self.last = last
        return added

    def _passes(self, answer: Dependencies) -> bool:
        names = [item.name for item in answer.distributions if item.role != "optional"]
        folder = os.path.join(self._session.folder, f"replica-{self._runs}")
        python = make_replica(folder, self._finder.interpreter, self._finder.index, names)
        self._runs += 1
        try:
            path = user_path(self._locations)
            self.last = self._session.run(python, self._program, extra_watched=[folder], path=path, quiet=True)
        finally:
            shutil.rmtree(folder)
        return self.passed and not self._escaped(self.last.trace, set(names))

    def _same(self, outcome: Outcome) -> bool:
        kinds = [failure.kind for failure in outcome.trace.failures[-1:]]
        expected = [failure.kind for failure in self._expected.trace.failures[-1:]]
        return outcome.exit_code == self._expected.exit_code and kinds == expected

    def _missed(self, outcome: Outcome, known: set[str]) -> dict[str, Finding]:
        """Return the distribution that a run in the answer lacked most probably."""
        if escaped := self._escaped(outcome.trace, known):
            return escaped
        names = [failure.missing for failure in reversed(outcome.trace.failures) if failure.missing]
        failed = [event for event in reversed(outcome.trace.events) if event.kind == "failed"]
        for name in [*names, *(event.names[0] for event in failed)]:
            location = self._location(name)
            if location is not None and location.distribution is not None and location.distribution.name not in known:
                chain = next((event.chain for event in failed if event.names[0] == name), ())
                return {location.distribution.name: self._finding(name, chain, location)}
        return {}

    def _finding(self, name: str, chain: tuple[Place, ...], location: Location) -> Finding:
        inside = tuple(place for place in chain if not place.file.startswith(self._harness.folders))
        place = next((place for place in chain if self._is_users(place.file)), self._harness.stand_in)
        is_direct = not inside or self._is_users(inside[0].file)
        return Finding(name, place.file, place.line, "runtime" if is_direct else "hidden", location)

    def _is_users(self, file: str) -> bool:
        ours = (*self._harness.folders, self._session.folder + os.sep)
        return not file.startswith(ours) and self._attribution.is_users(file)

    def _location(self, name: str) -> Location | None:
        location = self._finder.find(name)
        if location.distribution is None and (named := self._finder.index.get(name)) is not None:
            return Location("", "distribution", distribution=named)
        return location

    def _escaped(self, trace: Trace, known: set[str]) -> dict[str, Finding]:
        """Return what was loaded from the full environment itself, past the replica."""
        files = {name for event in trace.events if event.kind == "load" for name in event.names} | trace.libraries
        found: dict[str, Finding] = {}
        for file in sorted(files):
            if file.startswith(self._harness.folders):
                continue
            owner = self._attribution.owner(os.path.normpath(file))
            if owner is not None and owner.name not in known:
                location = Location("", "distribution", distribution=owner)
                found[owner.name] = self._finding(owner.name, (), location)
        return found
