"""What a collection takes away: decided from what lies in a store, when it was last used, and what is in use. Pure.

What was used longest ago goes first, and whatever is in use, or is needed by what stays, does not go. Files are hard
links, so a size is that of the inodes: an environment and the unpacked layers that it was made from count once, and
only the last one of them to go frees the space.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

PartKind = Literal["file", "environment", "manifest", "layer"]


@dataclass(frozen=True, slots=True)
class Part:
    """Something in a store that can go by itself.

    Attributes:
        kind: `file` of a layer, `layer` unpacked, `environment` ready to run, or `manifest`.
        name: digest, name of the folder, or id.
        label: for people, such as `numpy 2.4.6`.
        last_used_s: seconds since the epoch.
        inodes: bytes on the disk by inode.
        layers: of a manifest: the digests that it names.
        removable: whether this user may remove it.
    """

    kind: PartKind
    name: str
    label: str
    last_used_s: float
    inodes: Mapping[int, int] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    removable: bool = True


@dataclass(frozen=True, slots=True)
class Removal:
    """One thing that goes.

    Attributes:
        part: what it is.
        freed_bytes: what it gives back, given that those before it have gone; 0 where others still hold its content.
    """

    part: Part
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes.

    Attributes:
        removals: in the order in which they go.
        before_bytes: size of the store.
        after_bytes: its size when they are gone.
    """

    removals: tuple[Removal, ...]
    before_bytes: int
    after_bytes: int


def plan(
    parts: Collection[Part],
    held: Mapping[str, bool],
    *,
    max_size_bytes: float | None = None,
    unused_since_s: float | None = None,
) -> Plan:
    """Decide what goes.

    Args:
        parts: what the store holds.
        held: names of what is in use, and whether a layer is needed as a file.
        max_size_bytes: the store shall not be larger; None: its size does not matter.
        unused_since_s: what was last used before goes; None: age does not matter.
    """
    decision = _Decision(parts, held)
    before = size = decision.size_bytes
    limit = math.inf if max_size_bytes is None else max_size_bytes
    oldest = -math.inf if unused_since_s is None else unused_since_s
    removals: list[Removal] = []
    for used_s, part in decision.order():
        if (used_s < oldest or size > limit) and decision.may_go(part):
            freed = decision.take(part)
            size -= freed
            removals.append(Removal(part, freed))
    return Plan(tuple(removals), before, size)


class _Decision:
    """What is still there while it is decided what goes."""

    def __init__(self, parts: Collection[Part], held: Mapping[str, bool]) -> None:
        self._held = held
        self._there = {(part.kind, part.name): part for part in parts}
        self._links = Counter(inode for part in parts for inode in part.inodes)
        self._bytes = {inode: size for part in parts for inode, size in part.inodes.items()}
        self._environments = Counter(_group(part.name) for part in parts if part.kind == "environment")
        self._named = Counter(digest for part in parts for digest in part.layers)
        self.size_bytes = sum(self._bytes.values())

    def order(self) -> Iterator[tuple[float, Part]]:
        """Yield everything with its last use; what something else needs is as young as that."""
        groups: dict[str, float] = {}
        layers: dict[str, float] = {}
        for part in self._of("environment", "manifest"):
            used_s = self._used_s(part)
            groups[_group(part.name)] = max(used_s, groups.get(_group(part.name), 0.0))
        for part in self._of("manifest"):
            for digest in part.layers:
                layers[digest] = max(groups[_group(part.name)], layers.get(digest, 0.0))
        for part in self._of("layer", "file"):
            layers[part.name] = max(self._used_s(part), layers.get(part.name, 0.0))

        def used(part: Part) -> float:
            if part.kind == "manifest":
                return groups[_group(part.name)]
            return self._used_s(part) if part.kind == "environment" else layers[part.name]

        pairs = [(used(part), part) for part in self._there.values()]
        yield from sorted(pairs, key=lambda pair: (pair[0], self._rank(pair[1]), pair[1].name))

    def may_go(self, part: Part) -> bool:
        """Tell whether nothing that stays needs it."""
        if not part.removable or (part.kind, part.name) not in self._there:
            return False
        if part.kind == "file" and ("layer", part.name) in self._there:
            return not self._held.get(part.name, False)  # it is unpacked: what is lost is that it can be sent
        if part.name in self._held:
            return False
        if part.kind == "manifest":
            return not self._environments[_group(part.name)]
        return part.kind == "environment" or not self._named[part.name]

    def take(self, part: Part) -> int:
        """Take it away and return the bytes that this frees."""
        del self._there[part.kind, part.name]
        if part.kind == "environment":
            self._environments[_group(part.name)] -= 1
        self._named.subtract(part.layers)
        self._links.subtract(part.inodes.keys())
        return sum(size for inode, size in part.inodes.items() if not self._links[inode])

    def _rank(self, part: Part) -> int:
        """Order what was last used at the same time: what is missed least first, and nothing before what needs it."""
        if part.kind == "file":
            return 0 if ("layer", part.name) in self._there else 3
        return {"environment": 1, "manifest": 2}.get(part.kind, 3)

    def _of(self, *kinds: PartKind) -> Iterator[Part]:
        return (part for part in self._there.values() if part.kind in kinds)

    def _used_s(self, part: Part) -> float:
        return math.inf if part.name in self._held else part.last_used_s


def _group(name: str) -> str:
    """Return what the name of a manifest and those of its environments have in common."""
    return name[:32]
