"""Times at which the manager's reactor wants to be asked again, each with what it does then. Pure: no clock.

Setting, dropping and looking for the next one cost next to nothing, so that one may be set per process or per batch.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Hashable

from envpack_executor.manager.events import Instruction

Action = Callable[[list[Instruction]], None]


class Alarms:
    """Alarms by key; a key has one alarm at most."""

    def __init__(self) -> None:
        self._set: dict[Hashable, tuple[float, int]] = {}
        self._actions: dict[Hashable, Action] = {}
        # An alarm that was dropped or moved stays in here until its time has come.
        self._queue: list[tuple[float, int, Hashable]] = []
        self._numbers = itertools.count()

    def __contains__(self, key: object) -> bool:
        return key in self._set

    def set(self, key: Hashable, at_s: float, action: Action) -> None:
        """Run `action` when it is `at_s`, on the clock of the events; a former alarm of this key is dropped."""
        mark = at_s, next(self._numbers)
        self._set[key] = mark
        self._actions[key] = action
        heapq.heappush(self._queue, (*mark, key))
        self._clean()

    def drop(self, key: Hashable) -> None:
        """Forget the alarm of a key, if it has one."""
        if self._set.pop(key, None) is not None:
            del self._actions[key]
            self._clean()

    @property
    def next_s(self) -> float | None:
        """When the next alarm is due; None without one."""
        return self._queue[0][0] if self._queue else None

    def ring(self, now_s: float, todo: list[Instruction]) -> None:
        """Run what is due."""
        while self._queue and self._queue[0][0] <= now_s:
            at_s, number, key = heapq.heappop(self._queue)
            if self._set.get(key) == (at_s, number):
                del self._set[key]
                self._actions.pop(key)(todo)
        self._clean()

    def _clean(self) -> None:
        """Let the first alarm in the queue be one that is set."""
        while self._queue and self._set.get(self._queue[0][2]) != self._queue[0][:2]:
            heapq.heappop(self._queue)
