"""The closure of distributions over what they say they require (`Requires-Dist`), with markers and extras.

Pure: takes the index and the marker environment, gives the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envpack.discover.distributions import DistributionIndex


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
    pending = [Requirement(root) for root in roots]
    while pending:
        requirement = pending.pop()
        name = str(canonicalize_name(requirement.name))
        distribution = index.get(name)
        if distribution is None:
            continue
        names.add(name)
        for extra in ("", *requirement.extras):
            if (name, extra) in done:
                continue
            done.add((name, extra))
            for needed in distribution.requires:
                needed_name = str(canonicalize_name(needed.name))
                if needed_name in excluded or not _applies(needed, markers, extra):
                    continue
                if index.get(needed_name) is None:
                    absent.add((needed_name, name))
                    continue
                if needed_name != name:
                    required_by.setdefault(needed_name, set()).add(name)
                pending.append(needed)
    return Closure(frozenset(names), {name: frozenset(by) for name, by in required_by.items()}, tuple(sorted(absent)))


def _applies(requirement: Requirement, markers: Mapping[str, str], extra: str) -> bool:
    if requirement.marker is None:
        return not extra
    environment = {**markers, "extra": extra}
    if not requirement.marker.evaluate(environment):
        return False
    # With an extra asked for, only what the extra adds: the rest has been followed without it.
    return not extra or not requirement.marker.evaluate({**markers, "extra": ""})
