"""The closure of distributions over what they say they require (`Requires-Dist`), with markers and extras."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from envpack.discover.environment.distributions import DistributionIndex
from envpack.discover.environment.requirements import requirements_in
from envpack.values import dataclass


@dataclass(frozen=True, slots=True)
class Closure:
    """What follows from a set of distributions.

    Attributes:
        names: normalized names of all of them, the given ones included.
        required_by: for each name the members that require it.
        absent: requirements of members that are not installed, with the member that has them.
    """

    names: frozenset[str]
    required_by: Mapping[str, frozenset[str]]
    absent: tuple[tuple[str, str], ...]


def closure(
    index: DistributionIndex, roots: Iterable[str], markers: Mapping[str, str], excluded: frozenset[str] = frozenset()
) -> Closure:
    """Follow requirements from some installed distributions.

    Args:
        index: the installed distributions.
        roots: requirement strings to start from; a name with extras (`dask[array]`) asks for these.
        markers: the environment in which markers are evaluated.
        excluded: normalized names that are neither entered nor reported.

    Returns:
        The closure; what is required but not installed is in `absent`.
    """
    required_by: dict[str, set[str]] = {}
    absent: set[tuple[str, str]] = set()
    done: set[tuple[str, str]] = set()
    names: set[str] = set()
    requirements = requirements_in(markers)
    pending = [asked for root in roots if (asked := requirements.needs(root)) is not None]
    while pending:
        name, extras = pending.pop()
        distribution = index.get(name)
        if distribution is None:
            continue
        names.add(name)
        for extra in ("", *extras):
            if (name, extra) in done:
                continue
            done.add((name, extra))
            for line in distribution.requires:
                needed = requirements.needs(line, extra)
                if needed is None or needed[0] in excluded:
                    continue
                if index.get(needed[0]) is None:
                    absent.add((needed[0], name))
                    continue
                if needed[0] != name:
                    required_by.setdefault(needed[0], set()).add(name)
                pending.append(needed)
    requirements.keep()
    return Closure(frozenset(names), {name: frozenset(by) for name, by in required_by.items()}, tuple(sorted(absent)))
