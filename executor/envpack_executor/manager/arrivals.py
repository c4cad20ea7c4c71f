"""Large results that come from workers elsewhere, ahead of the outcomes that name them.

    worker ──ResultComing──▶ loop: a memory file of that size
           ──pieces────────▶ thread of the bulk channel, or the loop: into the file ──whole──▶ `kept.arrivals`

Guarantees: nothing is taken that was not announced on the encrypted connection, nor more of it than was announced;
what nobody has taken of a node that is lost is freed.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field

from envpack_executor.messages import NodeId, ResultComing, ResultPiece
from envpack_executor.process import kept

# The announcement may still be on its way when the first piece comes by the other channel.
_ANNOUNCED_WITHIN_S = 10.0


@dataclass(slots=True)
class _Arriving:
    node: NodeId
    descriptor: int
    size: int
    pieces: dict[int, int] = field(default_factory=dict)  # offset -> length of those that are there


class Arrivals:
    """The large results of all nodes elsewhere."""

    def __init__(self) -> None:
        self._arriving: dict[str, _Arriving] = {}
        self._whole: dict[NodeId, set[str]] = {}
        self._changed = threading.Condition()

    # --- in the loop's thread

    def expect(self, node: NodeId, message: ResultComing) -> None:
        """Make room for a result; one that has no room here fails the call that it is of."""
        with self._changed:
            try:
                descriptor = kept.memory_file(message.size)
                self._arriving[message.name] = _Arriving(node, descriptor, message.size)
            except (MemoryError, OSError) as error:
                self._put(node, message.name, f"{type(error).__name__}: {error}")
            self._changed.notify_all()

    def take(self, node: NodeId, piece: ResultPiece) -> None:
        """Take a piece that came by the encrypted connection."""
        descriptor = self.room(piece.name, len(piece.data), piece.offset)
        if descriptor is None:
            return
        try:
            kept.write(descriptor, piece.offset, [(0, piece.data)])
        finally:
            os.close(descriptor)
        self.arrived(piece.name, piece.offset, len(piece.data))

    def forget(self, node: NodeId) -> None:
        """Free the results of a node that nobody has taken."""
        with self._changed:
            for name in [name for name, each in self._arriving.items() if each.node == node]:
                os.close(self._arriving.pop(name).descriptor)
            for name in self._whole.pop(node, ()):
                kept.free_arrival(name)

    def close(self) -> None:
        """Free the results of all nodes."""
        for node in {*self._whole, *(each.node for each in self._arriving.values())}:
            self.forget(node)

    # --- from any thread

    def room(self, name: str, length: int, offset: int) -> int | None:
        """Return a descriptor where a piece may be written, to be closed; None when it is not expected."""
        with self._changed:
            self._changed.wait_for(lambda: name in self._arriving or name in kept.arrivals, _ANNOUNCED_WITHIN_S)
            result = self._arriving.get(name)
            if result is None or offset + length > result.size:
                return None
            return os.dup(result.descriptor)

    def arrived(self, name: str, offset: int, length: int) -> None:
        """Note that a piece is there and right; pieces that are sent again replace what they were."""
        with self._changed:
            result = self._arriving.get(name)
            if result is None:
                return
            result.pieces[offset] = length
            if sum(result.pieces.values()) >= result.size:
                del self._arriving[name]
                kept.seal(result.descriptor)  # a piece that is still under way a second time changes nothing any more
                self._put(result.node, name, (result.descriptor, result.size))

    def _put(self, node: NodeId, name: str, arrival: tuple[int, int] | str) -> None:
        mine = self._whole.setdefault(node, set())
        mine.intersection_update(kept.arrivals)
        mine.add(name)
        kept.arrivals[name] = arrival
