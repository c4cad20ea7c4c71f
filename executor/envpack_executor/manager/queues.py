"""Queues of calls for contexts to which a plain `deque` does not do; all have its methods. Pure.

| a queue | for | what it costs |
|---|---|---|
| `deque` | calls that come and go in order | nothing |
| `CallQueue` | calls that are taken out of the middle | a hash each |
| `PriorityQueue` | calls of which some go first | a look at the priority each |
"""

from __future__ import annotations

import bisect
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envpack_executor.manager.state import Call


class CallQueue:
    """A queue of calls from whose middle a call can be taken at once; otherwise as a `deque`."""

    def __init__(self, calls: Iterable[Call] = ()) -> None:
        self._calls: OrderedDict[Call, None] = OrderedDict.fromkeys(calls)

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls)

    def __contains__(self, call: object) -> bool:
        return call in self._calls

    def __getitem__(self, index: int) -> Call:
        assert index == 0, "only the first call of a queue can be looked at"
        return next(iter(self._calls))

    def append(self, call: Call) -> None:
        """Put a call at the end."""
        self._calls[call] = None

    def extend(self, calls: Iterable[Call]) -> None:
        """Put calls at the end."""
        self._calls.update(OrderedDict.fromkeys(calls))

    def extendleft(self, calls: Iterable[Call]) -> None:
        """Put calls at the front, one after another."""
        for call in calls:
            self._calls[call] = None
            self._calls.move_to_end(call, last=False)

    def popleft(self) -> Call:
        """Take the first call."""
        return self._calls.popitem(last=False)[0]

    def remove(self, call: Call) -> None:
        """Take a call out."""
        del self._calls[call]

    def clear(self) -> None:
        """Take all calls out."""
        self._calls.clear()


class PriorityQueue:
    """A queue whose calls of larger priority go first, and those of equal priority in their order."""

    def __init__(self, calls: Iterable[Call] = ()) -> None:
        self._levels: dict[float, deque[Call]] = {}
        self._order: list[float] = []  # the negative priorities of the levels that are not empty, sorted
        self._size = 0
        self.extend(calls)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Call]:
        return (call for level in self._order for call in self._levels[level])

    def __contains__(self, call: object) -> bool:
        return any(call in level for level in self._levels.values())

    def __getitem__(self, index: int) -> Call:
        assert index == 0, "only the first call of a queue can be looked at"
        return self._levels[self._order[0]][0]

    def append(self, call: Call) -> None:
        """Put a call behind all others of its priority."""
        self._level(call).append(call)

    def extend(self, calls: Iterable[Call]) -> None:
        """Put calls behind all others of their priorities."""
        for call in calls:
            self.append(call)

    def extendleft(self, calls: Iterable[Call]) -> None:
        """Put calls, one after another, before all others of their priorities."""
        for call in calls:
            self._level(call).appendleft(call)

    def popleft(self) -> Call:
        """Take the first call of the largest priority."""
        level = self._order[0]
        call = self._levels[level].popleft()
        self._took_from(level)
        return call

    def remove(self, call: Call) -> None:
        """Take a call out."""
        level = -call.function.options.priority
        self._levels[level].remove(call)
        self._took_from(level)

    def clear(self) -> None:
        """Take all calls out."""
        self._levels.clear()
        self._order.clear()
        self._size = 0

    def _level(self, call: Call) -> deque[Call]:
        """Return the calls that `call` is about to join."""
        level = -call.function.options.priority
        self._size += 1
        if level not in self._levels:
            self._levels[level] = deque()
            bisect.insort(self._order, level)
        return self._levels[level]

    def _took_from(self, level: float) -> None:
        self._size -= 1
        if not self._levels[level]:
            del self._levels[level]
            self._order.remove(level)
