"""`Rooms`: the nodes of a placement, and on which of them something fits. It does not look twice. Pure.

What did not fit fits no better while rooms only shrink. So what was refused everywhere is tried, in later rounds, only
where room was gained since; and what is larger than the largest room is refused unseen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.node import NodeState


class Rooms:
    """Nodes by name.

    Args:
        nodes: what there is.
    """

    def __init__(self, nodes: Iterable[NodeState]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self._gained = set(self.nodes)
        self._searched: set[str] = set()
        self._largest: dict[bool, tuple[float, float]] = {}
        self._kept: str | None = None

    def begin_round(self) -> None:
        """From now on search where room was gained since the last round."""
        self._searched = {name for name in self._gained if self.nodes[name].room.cores > 0}
        self._gained = set()
        self._kept = None
        self._measure()

    def find(self, wanted: Allocation, is_new: bool) -> NodeState | None:
        """Return the node on which the least memory would remain: large rooms are for large calls.

        Args:
            wanted: what must be free.
            is_new: whether it was not yet refused by the nodes without new room.
        """
        cores, memory = self._largest[is_new]
        if wanted.cores > cores or (wanted.memory_bytes or 0) > memory:
            return None
        names = self.nodes if is_new else self._searched
        fitting = [self.nodes[name] for name in names if name != self._kept and self.nodes[name].holds(wanted)]
        return min(fitting, key=lambda node: (node.room.memory_bytes or 0, node.name), default=None)

    def keep(self, wanted: Allocation) -> None:
        """Keep the room of a node, in this round, for something that waits for it: the one where it may fit soonest."""
        if self._kept is None:
            best = max(
                self.nodes.values(), key=lambda node: (node.could_hold(wanted), node.room.memory_bytes or 0, node.name)
            )
            self._kept = best.name

    def cut(self, wanted: Allocation) -> Allocation:
        """Return what is wanted, or what the largest node has if no node could ever hold that."""
        if not self.nodes or any(node.could_hold(wanted) for node in self.nodes.values()):
            return wanted
        return max(self.nodes.values(), key=lambda node: node.capacity.memory_bytes or 0).cut(wanted)

    def take(self, name: str, promised: Allocation) -> None:
        """Promise room on a node."""
        node = self.nodes[name] = self.nodes[name].take(promised)
        if node.room.cores <= 0:
            self._searched.discard(name)
        self._measure()

    def give(self, name: str, promised: Allocation) -> None:
        """Take a promise back."""
        self.nodes[name] = self.nodes[name].give(promised)
        self._gained.add(name)

    def add(self, node: NodeState) -> None:
        """Use one more node."""
        self.nodes[node.name] = node
        self._gained.add(node.name)

    def remove(self, name: str) -> None:
        """Use a node no more."""
        del self.nodes[name]
        self._gained.discard(name)
        self._searched.discard(name)

    @property
    def are_full(self) -> bool:
        """Whether no node has any core free."""
        return self._largest[True][0] <= 0

    def _measure(self) -> None:
        """Note the most cores and the most memory that are free on any node, and on any of those that are searched."""
        for is_new, names in ((True, self.nodes.keys()), (False, self._searched)):
            rooms = [self.nodes[name].room for name in names]
            cores = max((room.cores for room in rooms), default=0.0)
            memory = max((math.inf if room.memory_bytes is None else room.memory_bytes for room in rooms), default=0)
            self._largest[is_new] = (cores + 1e-6, memory) if cores > 0 else (0.0, memory)
