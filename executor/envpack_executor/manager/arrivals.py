"""Large results that come from workers elsewhere, piece by piece, ahead of the outcomes that name them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from envpack_executor.messages import NodeId, ResultPiece
from envpack_executor.process import kept


@dataclass(slots=True)
class _Arriving:
    descriptor: int
    size: int
    arrived: int = 0


class Arrivals:
    """The large results of all nodes elsewhere; used from the loop's thread.

    Results are taken when their outcomes are unpickled. What is left of a node that is lost, is freed.
    """

    def __init__(self) -> None:
        self._arriving: dict[tuple[NodeId, str], _Arriving] = {}
        self._whole: dict[NodeId, set[str]] = {}

    def take(self, node: NodeId, piece: ResultPiece) -> None:
        """Take the next piece of a result; one that cannot be had here fails the call that it is of."""
        key = node, piece.name
        try:
            if piece.offset == 0 and key not in self._arriving:
                self._arriving[key] = _Arriving(kept.memory_file(piece.total), piece.total)
            result = self._arriving.get(key)
            if result is None or piece.offset != result.arrived or len(piece.data) > result.size - result.arrived:
                return  # after one that could not be had
            kept.write(result.descriptor, piece.offset, [(0, piece.data)])
            result.arrived += len(piece.data)
        except (MemoryError, OSError) as error:
            self._fail(key, f"{type(error).__name__}: {error}")
            return
        if result.arrived == result.size:
            self.put(node, piece.name, self._arriving.pop(key).descriptor, result.size)

    def put(self, node: NodeId, name: str, descriptor: int, size: int) -> None:
        """Take over the memory file of a result that is whole."""
        mine = self._whole.setdefault(node, set())
        mine.intersection_update(kept.arrivals)
        mine.add(name)
        kept.arrivals[name] = descriptor, size

    def forget(self, node: NodeId) -> None:
        """Free the results of a node that nobody has taken."""
        for key in [key for key in self._arriving if key[0] == node]:
            os.close(self._arriving.pop(key).descriptor)
        for name in self._whole.pop(node, ()):
            kept.free_arrival(name)

    def close(self) -> None:
        """Free the results of all nodes."""
        for node in {*self._whole, *(node for node, _ in self._arriving)}:
            self.forget(node)

    def _fail(self, key: tuple[NodeId, str], reason: str) -> None:
        if (arriving := self._arriving.pop(key, None)) is not None:
            os.close(arriving.descriptor)
        kept.arrivals[key[1]] = reason
        self._whole.setdefault(key[0], set()).add(key[1])
