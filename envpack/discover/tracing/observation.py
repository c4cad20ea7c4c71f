"""Adds to what the text says what one run of the program shows, and verifies the whole by another run."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from envpack.discover.dependencies import Dependencies, Unresolved
from envpack.discover.environment.finder import ModuleFinder
from envpack.discover.findings import Finding
from envpack.discover.kinds import UnresolvedKind
from envpack.discover.live.travel import leave_behind
from envpack.discover.merge import Choices, Part, needed_roots
from envpack.discover.reach import Reach
from envpack.discover.tracing.attribution import Attribution, Harness
from envpack.discover.tracing.events import Place, Trace
from envpack.discover.tracing.session import Outcome, Program, Session
from envpack.discover.tracing.softness import Softness
from envpack.discover.tracing.verification import Verification

Merge = Callable[[Sequence[Part]], Dependencies]


@dataclass(frozen=True, slots=True)
class Launch:
    """How a target is run.

    Attributes:
        program: makes the command line in a session.
        stand_in: where things count that only the way of running did.
        within: for each part by name the functions (file and first line) to which its answer is limited; empty where
            everything counts that happens.
        taken: gives the modules of what was pickled for a sample call; `None` where nothing was.
    """

    program: Callable[[Session], Program]
    stand_in: Place
    within: Mapping[str, frozenset[tuple[str, int]]]
    taken: Callable[[Session], frozenset[str]] | None = None


def observe(
    parts: Sequence[Part], launch: Launch, finder: ModuleFinder, choices: Choices, merge: Merge, *, verify: bool
) -> Dependencies:
    """Run a target and return the answer for its parts with what the run showed.

    Args:
        parts: what the text says.
        launch: how the target is run.
        finder: where the modules of the asked environment are.
        choices: what the caller settled beforehand.
        merge: puts the answer for parts together.
        verify: whether the program is run a second time, with nothing but the answer. Functions that were only watched
            in a run of their script cannot be run alone: they are not verified.

    Raises:
        SampleError: the sample call cannot be made.
        InterpreterError: the interpreter cannot be started.
    """
    interpreter = finder.interpreter
    watched = [*interpreter.sys_path, interpreter.prefix, *finder.local_folders]
    attribution = Attribution(finder, dict(interpreter.markers))
    with Session(watched) as session:
        program = launch.program(session)
        outcome = session.run(interpreter.executable, program, quiet=False)
        if launch.taken is not None:
            executed = {name for event in outcome.trace.events if event.kind == "load" for name in event.names}
            for part in parts:
                leave_behind(part.reach, launch.taken(session), launch.stand_in.file, executed, finder)
        is_alone = len(parts) == 1 and not launch.within and not outcome.exit_code
        will_verify = verify and is_alone
        # Without a second run that could tell, what is doubtful counts.
        limit = Softness.HARD if will_verify else Softness.DOUBTFUL
        seen = [_seen(part, launch, outcome, session, attribution, choices, finder, limit) for part in parts]
        parts = [part for part, _ in seen]
        if outcome.exit_code:
            _note(parts, "run", launch.stand_in, f"it {outcome.reason}: what it needs after that was not seen")
        if not will_verify:
            return merge(parts)
        part, candidates = seen[0]
        harness = _harness(session, launch, part.name)
        verification = Verification(session, program, outcome, finder, attribution, harness)

        def answer(found: Sequence[Finding]) -> Dependencies:
            return merge([dataclasses.replace(part, extra=(*part.extra, *found))])

        added = list(verification.settle(answer, candidates, choices.excluded))
        if not verification.passed and verification.last is not None:
            text = f"with nothing but this answer it {verification.last.reason}"
            _note(parts, "verification", launch.stand_in, text)
        return dataclasses.replace(answer(added), verified=verification.passed)


def _seen(
    part: Part,
    launch: Launch,
    outcome: Outcome,
    session: Session,
    attribution: Attribution,
    choices: Choices,
    finder: ModuleFinder,
    limit: Softness,
) -> tuple[Part, dict[str, Finding]]:
    harness = _harness(session, launch, part.name)
    roots = needed_roots(part, choices, dict(finder.interpreter.markers))
    seen = attribution.observe(outcome.trace, harness, part.reach.findings, roots, choices.excluded, limit)
    if not seen.entered:
        _note([part], "uncalled", launch.stand_in, f"{part.name} was not called in the run: give a sample call of it")
    _settle_names(part.reach, outcome.trace)
    for path, root in seen.files.items():
        part.reach.add_observed_file(path, root, seen.evidence[path])
    return dataclasses.replace(part, extra=(*part.extra, *seen.findings)), seen.candidates


def _settle_names(reach: Reach, trace: Trace) -> None:
    """Say of imports by a computed name which names the run had."""
    for item in [one for one in reach.unresolved if one.kind == "dynamic"]:
        names = {
            event.names[0]
            for event in trace.events
            if event.kind == "import"
            and event.chain
            and (event.chain[0].file, event.chain[0].line) == (item.file, item.line)
        }
        if names:
            hint = f"the run imported {', '.join(sorted(names))}; if there are others, name them with --include DIST"
            del reach.unresolved[item]
            reach.add_unresolved(dataclasses.replace(item, hint=hint))


def _harness(session: Session, launch: Launch, name: str) -> Harness:
    folders = [session.own]
    spec = importlib.util.find_spec("cloudpickle")
    if spec is not None and spec.origin is not None:
        folders.append(os.path.dirname(spec.origin))
    within = launch.within.get(name, frozenset())
    return Harness(tuple(folder + os.sep for folder in folders), launch.stand_in, within)


def _note(parts: Sequence[Part], kind: UnresolvedKind, place: Place, hint: str) -> None:
    for part in parts:
        part.reach.add_unresolved(Unresolved("", place.file, place.line, kind, hint))
