"""`NodeState`: what a node has and what of it is free. A value: what is taken or given back makes a new one. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from envpack_monitor.allocation import Allocation

CORES_DIGITS = 6
"""Cores are compared and added to so many digits: thirds must add up to wholes again."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node.

    Args:
        name: what it is called.
        capacity: what it has; `None` where there is no bound.
        free: what nobody has been promised; all of it by default.
    """

    name: str
    capacity: Allocation
    free: Allocation | None = None

    @property
    def room(self) -> Allocation:
        """What is free."""
        return self.capacity if self.free is None else self.free

    def holds(self, wanted: Allocation) -> bool:
        """Tell whether so much is free. What is not promised fits everywhere."""
        return _fits(wanted, self.room)

    def could_hold(self, wanted: Allocation) -> bool:
        """Tell whether so much is free when the node is empty."""
        return _fits(wanted, self.capacity)

    def cut(self, wanted: Allocation) -> Allocation:
        """Return what is wanted, but no more than the node has: so much an empty node can always hold."""
        has = self.capacity
        return replace(
            wanted,
            cores=min(wanted.cores, has.cores),
            memory_bytes=_least(wanted.memory_bytes, has.memory_bytes),
            disk_bytes=_least(wanted.disk_bytes, has.disk_bytes),
            gpu_memory_bytes=_least(wanted.gpu_memory_bytes, has.gpu_memory_bytes),
        )

    def take(self, promised: Allocation) -> NodeState:
        """Return the node with so much less of it free."""
        return self._changed(promised, -1)

    def give(self, promised: Allocation) -> NodeState:
        """Return the node with so much more of it free."""
        return self._changed(promised, 1)

    def grown(self, promised: Allocation, wanted_bytes: int) -> Allocation | None:
        """Return a promise with more memory, as far as memory is free that nobody else was promised.

        Args:
            promised: what the call has on this node.
            wanted_bytes: the memory that it should have.

        Returns:
            The larger promise: what is wanted, or else all that is there; `None` if nothing is.
        """
        has, free = promised.memory_bytes or 0, self.room.memory_bytes
        gets = wanted_bytes if free is None else min(wanted_bytes, has + free)
        return replace(promised, memory_bytes=gets) if gets > has else None

    def _changed(self, promised: Allocation, sign: int) -> NodeState:
        room = self.room
        return NodeState(
            self.name,
            self.capacity,
            Allocation(
                cores=round(room.cores + sign * promised.cores, CORES_DIGITS),
                memory_bytes=_sum(room.memory_bytes, sign, promised.memory_bytes),
                disk_bytes=_sum(room.disk_bytes, sign, promised.disk_bytes),
                gpu_memory_bytes=_sum(room.gpu_memory_bytes, sign, promised.gpu_memory_bytes),
                gpus=_rounded_sum(room.gpus, sign, promised.gpus),
            ),
        )


def _fits(wanted: Allocation, room: Allocation) -> bool:
    return (
        round(wanted.cores, CORES_DIGITS) <= room.cores
        and _is_at_most(wanted.memory_bytes, room.memory_bytes)
        and _is_at_most(wanted.disk_bytes, room.disk_bytes)
        and _is_at_most(wanted.gpu_memory_bytes, room.gpu_memory_bytes)
        and _is_at_most(wanted.gpus, room.gpus)
    )


def _is_at_most(wanted: float | None, room: float | None) -> bool:
    return wanted is None or room is None or wanted <= room


def _least(wanted: int | None, has: int | None) -> int | None:
    return wanted if has is None or wanted is None else min(wanted, has)


def _sum(room: int | None, sign: int, promised: int | None) -> int | None:
    return room if room is None or promised is None else room + sign * promised


def _rounded_sum(room: float | None, sign: int, promised: float | None) -> float | None:
    return room if room is None or promised is None else round(room + sign * promised, CORES_DIGITS)
