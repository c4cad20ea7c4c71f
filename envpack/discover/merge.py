"""From what each function reaches to the answer: distributions with role and evidence, their closure, local files.

A distribution is *direct* if an import of it is needed, *hidden* if only a library imports it, because of how it is
called, *optional* if every import of it can be done without,
*transitive* if it only follows from the requirements of others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from envpack.discover.code.inline import Declared
from envpack.discover.dependencies import (
    Dependencies,
    Distribution,
    Evidence,
    FunctionDependencies,
    Unresolved,
)
from envpack.discover.environment.closure import Closure, closure
from envpack.discover.environment.distributions import DistributionIndex
from envpack.discover.environment.interpreter import Interpreter
from envpack.discover.environment.names import normalized
from envpack.discover.environment.references import direct_reference
from envpack.discover.environment.sizes import Sizes
from envpack.discover.findings import Finding
from envpack.discover.reach import Reach
from envpack.errors import UsageError
from envpack.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from envpack.discover.kinds import Role

_WEAK = frozenset({"optional", "hidden"})


@dataclass(frozen=True, slots=True)
class Part:
    """What one function reaches, or a whole script with an empty `name`.

    Attributes:
        name: of the function.
        reach: what its text, or the live object, reaches.
        declared: what the script declares about itself.
        extra: what a run of it showed.
    """

    name: str
    reach: Reach
    declared: tuple[Declared, ...] = ()
    extra: tuple[Finding, ...] = ()


class Choices:
    """What the caller settled beforehand.

    Args:
        index: the installed distributions.
        include: requirement strings to add.
        exclude: names of distributions or modules to leave out.
        mapping: distribution of a module and of everything in it.

    Raises:
        UsageError: a named distribution is not installed, or a requirement cannot be read.
    """

    def __init__(
        self, index: DistributionIndex, include: Iterable[str], exclude: Iterable[str], mapping: Mapping[str, str]
    ) -> None:
        self.index = index
        self.include = tuple(self._installed(text) for text in include)
        self.mapping = {module: normalized(self._installed(name).name) for module, name in mapping.items()}
        self._excluded_modules = frozenset(exclude)
        self.sizes = Sizes()
        self._closures: dict[tuple[str, ...], Closure] = {}
        self.excluded = frozenset(normalized(name) for name in self._excluded_modules)

    def distribution_of(self, module: str) -> str | None:
        """Return the distribution that the caller named for a module or a package around it."""
        name = module
        while name:
            if name in self.mapping:
                return self.mapping[name]
            name = name.rpartition(".")[0]
        return None

    def closure(self, roots: Iterable[str], markers: Mapping[str, str]) -> Closure:
        """Return what follows from some requirements; many files and functions of one question have the same ones."""
        key = tuple(sorted(roots))
        if key not in self._closures:
            self._closures[key] = closure(self.index, key, markers, self.excluded)
        return self._closures[key]

    def leaves_out(self, module: str) -> bool:
        """Whether the caller excluded a module or a package around it."""
        parts = module.split(".")
        return any(".".join(parts[:length]) in self._excluded_modules for length in range(1, len(parts) + 1))

    def _installed(self, text: str) -> Requirement:
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise UsageError(f"not a distribution name: {text!r}: {str(error).splitlines()[0]}") from None
        if self.index.get(requirement.name) is None:
            import difflib

            names = [item.name for item in self.index]
            alike = difflib.get_close_matches(normalized(requirement.name), names, n=3)
            hint = f"did you mean {' or '.join(alike)}?" if alike else "install it, or name another interpreter"
            raise UsageError(f"distribution not installed in the analysed environment: {requirement.name!r}", hint)
        return requirement


@dataclass(frozen=True, slots=True)
class _Judged:
    """One part with its findings brought down to names of distributions."""

    name: str
    evidence: Mapping[str, tuple[Evidence, ...]]
    modules: tuple[str, ...]
    hidden: frozenset[str]
    needed: Closure
    every: Closure
    extras: Mapping[str, frozenset[str]]
    files: Mapping[str, str]
    unresolved: tuple[Unresolved, ...]


def merge(target: str, interpreter: Interpreter, parts: Sequence[Part], choices: Choices) -> Dependencies:
    """Put together the answer for all parts of a target."""
    judged = [_judge(part, choices, dict(interpreter.markers)) for part in parts]
    files = {path: root for part in judged for path, root in part.files.items()}
    imports = {path: evidence for part in reversed(parts) for path, evidence in part.reach.local_evidence.items()}
    return Dependencies(
        target=target,
        python=interpreter.version,
        platform=interpreter.platform,
        functions=tuple(_function(part) for part in judged),
        distributions=_distributions(judged, choices),
        local_files=tuple(sorted(files)),
        local_roots=tuple(sorted(set(files.values()))),
        unresolved=tuple(sorted({item for part in judged for item in part.unresolved})),
        local_evidence=tuple(imports[path] for path in sorted(files)),
    )


def needed_roots(part: Part, choices: Choices, markers: Mapping[str, str]) -> list[str]:
    """Return requirement strings of the distributions that a part needs by itself, extras included."""
    judged = _judge(part, choices, markers)
    return [_asked(name, judged.extras) for name, items in judged.evidence.items() if not _is_optional(items)]


def _is_optional(items: Iterable[Evidence]) -> bool:
    return all(item.kind == "optional" for item in items)


def _judge(part: Part, choices: Choices, markers: Mapping[str, str]) -> _Judged:
    evidence: dict[str, list[Evidence]] = {}
    modules: set[str] = set()
    for finding in (*part.reach.findings, *part.extra):
        name = _distribution(finding, choices)
        if choices.leaves_out(finding.module) or name in choices.excluded:
            continue
        if finding.location.module:
            modules.add(finding.module)
        if name is not None:
            evidence.setdefault(name, []).append(Evidence(finding.file, finding.line, finding.kind, finding.module))
    unresolved = []
    for item in part.reach.unresolved:
        mapped = choices.distribution_of(item.module)
        if mapped is not None and item.kind in ("missing", "conditional"):
            modules.add(item.module)
            evidence.setdefault(mapped, []).append(Evidence(item.file, item.line, "static", item.module))
        elif not choices.leaves_out(item.module):
            unresolved.append(item)
    extras: dict[str, set[str]] = {}
    for requirement in choices.include:
        extras.setdefault(normalized(requirement.name), set()).update(requirement.extras)
        included = Evidence("", 0, "included", requirement.name)
        evidence.setdefault(normalized(requirement.name), []).append(included)
    for one in _meant(part.declared, choices, markers):
        name = normalized(one.requirement.name)
        if (problem := _unmet(one, choices.index)) is not None:
            unresolved.append(problem)
        if choices.index.get(name) is not None:
            evidence.setdefault(name, []).append(Evidence(one.file, one.line, "declared", one.requirement.name))
            extras.setdefault(name, set()).update(one.requirement.extras)
    needed = [name for name, items in evidence.items() if not _is_optional(items)]
    plain = [name for name, items in evidence.items() if any(item.kind not in _WEAK for item in items)]
    every, certain, unhidden = (
        choices.closure([_asked(name, extras) for name in names], markers) for names in (evidence, needed, plain)
    )
    unresolved += [_absent(name, by, choices.index) for name, by in certain.absent]
    return _Judged(
        name=part.name,
        evidence={name: tuple(sorted(items)) for name, items in evidence.items()},
        modules=tuple(sorted(modules)),
        hidden=_outermost([name for name in needed if name not in unhidden.names], choices, markers),
        needed=certain,
        every=every,
        extras={name: frozenset(asked) for name, asked in extras.items()},
        files=part.reach.local_files,
        unresolved=tuple(sorted(unresolved)),
    )


def _outermost(names: Iterable[str], choices: Choices, markers: Mapping[str, str]) -> frozenset[str]:
    """Return those of some distributions that do not follow from the others: of pandas and numpy only pandas."""
    closures = {name: choices.closure([name], markers).names for name in names}
    found: set[str] = set()
    covered: set[str] = set()
    for name in sorted(closures, key=lambda name: (-len(closures[name]), name)):
        if name not in covered:
            found.add(name)
            covered |= closures[name]
    return frozenset(found)


def _asked(name: str, extras: Mapping[str, Iterable[str]]) -> str:
    return f"{name}[{','.join(sorted(extras.get(name, ())))}]"


def _distribution(finding: Finding, choices: Choices) -> str | None:
    if mapped := choices.distribution_of(finding.module):
        return mapped
    return finding.location.distribution.name if finding.location.distribution is not None else None


def _meant(declared: Iterable[Declared], choices: Choices, markers: Mapping[str, str]) -> Iterator[Declared]:
    """Give the declared dependencies that hold for the asked interpreter and are not excluded."""
    for item in declared:
        marker = item.requirement.marker
        if marker is not None and not marker.evaluate(dict(markers)):
            continue
        if normalized(item.requirement.name) not in choices.excluded:
            yield item


def _unmet(item: Declared, index: DistributionIndex) -> Unresolved | None:
    """Say what is wrong with a declared dependency in the asked environment."""
    name = item.requirement.name
    installed = index.get(name)
    if installed is None:
        hint = f"declared by the script: install it in the analysed environment, or pass --exclude {name}"
        return Unresolved(name, item.file, item.line, "missing", hint)
    if not item.requirement.specifier.contains(installed.version, prereleases=True):
        hint = f"{name} {installed.version} is installed, {item.requirement.specifier} declared: install that version"
        return Unresolved(name, item.file, item.line, "requirement", hint)
    return None


def _absent(name: str, by: str, index: DistributionIndex) -> Unresolved:
    distribution = index.get(by)
    metadata = distribution.metadata if distribution is not None else ""
    hint = f"{by} requires the distribution {name}, which is not installed: install it, or pass --exclude {name}"
    return Unresolved(name, metadata, 0, "requirement", hint)


def _function(part: _Judged) -> FunctionDependencies:
    return FunctionDependencies(
        name=part.name,
        modules=part.modules,
        distributions=tuple(sorted(part.every.names)),
        local_files=tuple(sorted(part.files)),
        unresolved=part.unresolved,
        evidence=tuple(sorted({one for items in part.evidence.values() for one in items})),
    )


def _distributions(parts: Sequence[_Judged], choices: Choices) -> tuple[Distribution, ...]:
    found = []
    for name in sorted({name for part in parts for name in part.every.names}):
        installed = choices.index.get(name)
        assert installed is not None
        evidence = {item for part in parts for item in part.evidence.get(name, ())}
        required_by = {by for part in parts for by in part.every.required_by.get(name, ())}
        found.append(
            Distribution(
                name=name,
                version=installed.version,
                role=_role(name, parts, evidence),
                required_by=tuple(sorted(required_by)),
                source=installed.source,
                evidence=tuple(sorted(evidence)),
                size_bytes=choices.sizes.of(installed),
                extras=tuple(sorted({extra for part in parts for extra in part.extras.get(name, ())})),
                url=direct_reference(installed),
            )
        )
    choices.sizes.keep()
    return tuple(found)


def _role(name: str, parts: Sequence[_Judged], evidence: Iterable[Evidence]) -> Role:
    kinds = {item.kind for item in evidence}
    if kinds - _WEAK:
        return "direct"
    # What others require anyway is there without being named.
    if "hidden" in kinds and any(name in part.hidden for part in parts):
        return "hidden"
    return "transitive" if any(name in part.needed.names for part in parts) else "optional"
