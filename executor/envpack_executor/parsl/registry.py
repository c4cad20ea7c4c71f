"""Which workers and blocks there are and have been, and which block is the one to do without.

Guarantees: a block is known from the moment its first worker joins, however short that stays; everything here may be
asked from any thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envpack_executor.manager.loop import ManagerLoop
    from envpack_executor.manager.overview import NodeStatus
    from envpack_executor.nodes import NodeSource
    from envpack_executor.parsl.monitoring import Reporter

Watcher = Callable[["NodeStatus", bool], None]
CallWatcher = Callable[[str, Sequence[Any]], None]


class Registry:
    """Remembers the nodes of one executor."""

    def __init__(self) -> None:
        self._blocks: dict[str, None] = {}
        self._slots = 0
        self._reporter: Reporter | None = None

    def watching(self, source: NodeSource) -> NodeSource:
        """Return a source of the same nodes that tells us about each."""
        return _Watched(source, self._note, None if self._reporter is None else self._reporter.calls_sent)

    def report_to(self, reporter: Reporter) -> None:
        """Tell Parsl's monitoring about the nodes to come, and which calls they are given."""
        self._reporter = reporter

    def blocks(self) -> list[str]:
        """Return the blocks of which a worker has ever joined."""
        return list(self._blocks)

    def slots_per_node(self) -> int:
        """Return how many calls run at once on the node that joined last; 0 before."""
        return self._slots

    def least_busy(
        self, blocks: Iterable[str], nodes: Sequence[NodeStatus], idle_longer_than_s: float | None = None
    ) -> list[str]:
        """Return blocks in the order in which they can be done without: idle for longest first, busy ones last.

        Args:
            blocks: that stand; of one that nobody has joined yet nothing is lost.
            nodes: how each stands.
            idle_longer_than_s: leave out those that were not idle for so long; None for all.
        """
        ranks = {block: _rank([node for node in nodes if node.block == block]) for block in blocks}
        wanted = [
            block
            for block, (idle_s, running) in ranks.items()
            if idle_longer_than_s is None or (idle_s > idle_longer_than_s and not running)
        ]
        return sorted(wanted, key=lambda block: (-ranks[block][0], ranks[block][1]))

    def _note(self, node: NodeStatus, is_there: bool) -> None:
        if is_there:
            self._blocks[node.block] = None
            self._slots = node.cores
        if self._reporter is not None:
            self._reporter.node_changed(node, is_there)


class _Watched:
    """A source of nodes that are watched.

    Args:
        source: where they come from.
        watcher: is told of each that comes or goes.
        call_watcher: is told of calls that were sent to one; None where nobody wants to know.
    """

    def __init__(self, source: NodeSource, watcher: Watcher, call_watcher: CallWatcher | None) -> None:
        self._source = source
        self._watcher = watcher
        self._call_watcher = call_watcher

    def open(self, loop: ManagerLoop, resident: Callable[[int], int]) -> None:
        """Begin, see `NodeSource`."""
        loop.add_node_watcher(self._watcher)
        if self._call_watcher is not None:
            loop.watch_calls(self._call_watcher)
        self._source.open(loop, resident)


def _rank(nodes: Sequence[NodeStatus]) -> tuple[float, int]:
    """Return for how long all nodes of a block have been idle, and how many calls run there."""
    return min((node.idle_s for node in nodes), default=math.inf), sum(node.running for node in nodes)
