"""Which waiting call goes to which node, and with how much: list scheduling that learns while it goes. Pure.

    put ──▶ waiting, by category ──place──▶ running ──end──▶ done, and the category is known a little better
                 ▲                            │  ▲ grow: more memory in place, as long as nobody else was promised it
                 └──────────── fail ──────────┘

- What to promise is asked when a call is about to be placed, not when it is put: by then others of its category are
  done.
- One call of each category that nobody knows, its *scout*, goes ahead of all others. The rest of its category goes
  last, into room that would stay empty.
- In between, the category whose calls are expected to take longest goes first: what is long must not be last. Shorter
  calls fill the room that is left (backfilling).
- Categories of a larger priority go before all others.
- A call that needs more memory than it was promised gets more in place while some is free. Only if nobody can give it
  any must it fail; then it waits again, with more.
- A call that too many others have passed goes first, and if it does not fit, room is kept for it: nobody starves.

The waiting are grouped by category, and the categories are kept in order: what a call costs does not grow with the
number of those that wait.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.node import NodeState
from envpack_monitor.predict.rooms import Rooms

Call = Hashable
Ask = Callable[[Call, str], Allocation]
"""From a call and its category to what it should be promised now."""

Rank = tuple[float, int, int, int]

LOOK_AT = 64
"""How many categories that do not fit are looked at before a search for one that does is given up."""

PATIENCE = 256
"""How many calls may pass one at the head of its category, besides twice those that wait with it."""

STEP = math.sqrt(2)
"""Expected times are told apart in such steps, so that categories seldom change places."""


@dataclass(frozen=True, slots=True)
class Start:
    """A decision: this call begins now.

    Args:
        call: which one.
        category: its category.
        node: the name of the node.
        allocation: what it is promised there.
        is_scout: whether it is the first of its category.
    """

    call: Call
    category: str
    node: str
    allocation: Allocation
    is_scout: bool = False


@dataclass(frozen=True, slots=True)
class _Running:
    """A call that was placed."""

    category: _Category
    node: str
    allocation: Allocation


class _Category:
    """The waiting calls of a category, and what is known of its time."""

    def __init__(self, name: str, number: int, priority: float) -> None:
        self.name = name
        self.priority = priority
        self.number = number
        self.fresh: deque[Call] = deque()
        self.failed: deque[tuple[Call, Allocation]] = deque()
        self.done = 0
        self.total_s = 0.0
        self.running = 0
        self.deadline = 0
        self.is_timed = self.is_overdue = False
        self.wanted = Allocation()
        self.asked_at: int | None = None
        self.key: Rank | None = None

    def __len__(self) -> int:
        return len(self.fresh) + len(self.failed)

    def head(self) -> Call:
        """Return the call whose turn it is: those that failed have waited longest."""
        return self.failed[0][0] if self.failed else self.fresh[0]

    def rank(self) -> Rank:
        """Return the place among the categories, the smallest first."""
        first = -self.priority
        if self.is_overdue:
            return (first, -1, 0, self.number)
        if not self.done:
            return (first, 2 if self.running else 0, 0, self.number)
        return (first, 1, -math.floor(math.log(max(self.total_s / self.done, 1e-9), STEP)), self.number)


class Placement:
    """The calls that wait and run, and the nodes; its methods are events, `place` answers with decisions.

    Args:
        nodes: where calls may run.
        ask: what a call should be promised; asked when its turn has come.
    """

    def __init__(self, nodes: Iterable[NodeState], ask: Ask) -> None:
        self._ask = ask
        self._rooms = Rooms(nodes)
        self._categories: dict[str, _Category] = {}
        self._order: list[tuple[Rank, str]] = []
        self._running: dict[Call, _Running] = {}
        self._deadlines: list[tuple[int, int]] = []
        self._by_number: list[_Category] = []
        self._withdrawn: set[Call] = set()
        self._waiting = self._started = self._ended = 0

    def __len__(self) -> int:
        return self._waiting

    @property
    def nodes(self) -> tuple[NodeState, ...]:
        """The nodes as they are now."""
        return tuple(self._rooms.nodes.values())

    def put(self, call: Call, category: str, wanted: Allocation | None = None, priority: float = 0) -> None:
        """Let a call wait.

        Args:
            call: anything that can be a key; no other call that waits or runs may be equal.
            category: which calls it is like.
            wanted: what it needs at least, if it has used up the memory that it was given before.
            priority: of the whole category; those of a larger one go first, whatever else is true.
        """
        known = self._categories.get(category)
        if known is None:
            known = self._categories[category] = _Category(category, len(self._by_number), priority)
            self._by_number.append(known)
        self._waiting += 1
        if wanted is None:
            known.fresh.append(call)
        else:
            known.failed.append((call, wanted))
        if len(known.fresh if wanted is None else known.failed) == 1 and known.head() == call:
            self._new_head(known)

    def next_of(self, category: str) -> Call | None:
        """Return the call whose turn it is in a category; `None` if none waits, or if one that failed goes first."""
        known = self._categories.get(category)
        return known.fresh[0] if known is not None and known.fresh and not known.failed else None

    def waits_beside(self, category: str) -> bool:
        """Tell whether calls of any other category wait."""
        known = self._categories.get(category)
        return len(self._order) > (known is not None and known.key is not None)

    def waiting(self) -> list[tuple[str, int, Allocation]]:
        """Return the categories that wait, the next one first: name, calls, and what the first of them wants.

        Before it is asked, that is nothing.
        """
        waiting = [self._categories[name] for _, name in list(self._order)]
        return [(known.name, len(known), known.wanted) for known in waiting]

    def place(self) -> list[Start]:
        """Return the calls that begin now, until no room is left or nothing fits into it."""
        self._find_overdue()
        self._rooms.begin_round()
        starts: list[Start] = []
        at = 0
        # The order changes while calls begin, but only behind the place that is looked at.
        while at < min(len(self._order), LOOK_AT) and not self._rooms.are_full:
            known = self._categories[self._order[at][1]]
            if is_new := known.asked_at != (known.done or -self._news):
                self._ask_again(known)
            wanted = known.wanted
            node = self._rooms.find(wanted, is_new)
            if node is not None:
                starts.append(self._start(known, node.name, wanted))
                continue
            if known.is_overdue:
                self._rooms.keep(wanted)
            at += 1
        return starts

    def end(self, call: Call, wall_s: float) -> None:
        """Take note that a call is done.

        Args:
            call: which one.
            wall_s: how long it took; the next calls of its category are expected to take as long.
        """
        known = self._leave(call).category
        known.done += 1
        known.total_s += wall_s
        self._ended += 1
        self._keep_order(known)

    def quit(self, call: Call) -> None:
        """Take note that a call is over without having shown what its category needs: an error, a cancellation."""
        self._keep_order(self._leave(call).category)

    def grow(self, call: Call, wanted_bytes: int) -> Allocation | None:
        """Return what a running call may use from now on, or `None`: nobody can give it more memory.

        Args:
            call: which one.
            wanted_bytes: the memory that it should have. It gets less where less is free.
        """
        running = self._running[call]
        if running.node not in self._rooms.nodes:
            return None
        larger = self._rooms.nodes[running.node].grown(running.allocation, wanted_bytes)
        if larger is not None:
            more = Allocation(
                cores=0.0, memory_bytes=(larger.memory_bytes or 0) - (running.allocation.memory_bytes or 0)
            )
            self._rooms.take(running.node, more)
            self._running[call] = replace(running, allocation=larger)
        return larger

    def fail(self, call: Call, wanted: Allocation) -> None:
        """Let a call that used up its memory wait again.

        Args:
            call: which one.
            wanted: what it needs at least.
        """
        known = self._leave(call).category
        self._keep_order(known)
        self.put(call, known.name, wanted)

    def withdraw(self, call: Call, category: str) -> None:
        """Forget a call that waits.

        Args:
            call: which one.
            category: its category.
        """
        self._withdrawn.add(call)
        self._waiting -= 1
        known = self._categories[category]
        if known.head() == call:
            self._new_head(known)

    def hand_over(self, call: Call, other: Call) -> None:
        """Let what was promised to a running call be the promise of another one of its category, which waits nowhere.

        Args:
            call: which one; it neither waits nor runs afterwards.
            other: runs from now on.
        """
        self._running[other] = self._running.pop(call)

    def add_node(self, node: NodeState) -> None:
        """Use one more node from now on."""
        self._rooms.add(node)
        self._forget_answers()

    def lose_node(self, name: str) -> list[Call]:
        """Return the calls that ran on a node that is gone; they are forgotten, and may be put again."""
        lost = [call for call, running in self._running.items() if running.node == name]
        for call in lost:
            self.quit(call)
        self.close_node(name)
        return lost

    def close_node(self, name: str) -> None:
        """Place nothing on a node any more; what runs there may end."""
        if name in self._rooms.nodes:
            self._rooms.remove(name)
            self._forget_answers()

    def _start(self, known: _Category, node: str, wanted: Allocation) -> Start:
        call = known.failed.popleft()[0] if known.failed else known.fresh.popleft()
        self._rooms.take(node, wanted)
        self._running[call] = _Running(known, node, wanted)
        is_scout = not known.done and not known.running
        known.running += 1
        self._waiting -= 1
        self._started += 1
        self._new_head(known)
        return Start(call, known.name, node, wanted, is_scout)

    def _leave(self, call: Call) -> _Running:
        running = self._running.pop(call)
        if running.node in self._rooms.nodes:
            self._rooms.give(running.node, running.allocation)
        running.category.running -= 1
        return running

    @property
    def _news(self) -> int:
        """A number that changes when enough calls are done to ask about unknown categories once more."""
        return 1 + (self._ended if self._ended < 32 else 8 * self._ended.bit_length())

    def _ask_again(self, known: _Category) -> None:
        """Ask what the head of a category should have: it is another one, or there is something new to know."""
        wanted = self._ask(known.head(), known.name)
        if known.failed and (known.failed[0][1].memory_bytes or 0) > (wanted.memory_bytes or 0):
            wanted = replace(known.failed[0][1], cores=wanted.cores)
        known.wanted = self._rooms.cut(wanted)
        known.asked_at = known.done or -self._news

    def _forget_answers(self) -> None:
        """Ask again what all should have: the largest node, to which large answers are cut, is perhaps another one."""
        for known in self._by_number:
            known.asked_at = None

    def _new_head(self, known: _Category) -> None:
        """Another call has come to the head of its category: from now on it may be passed so many times."""
        self._drop_withdrawn(known)
        known.asked_at = None
        known.is_overdue = False
        known.deadline = self._started + PATIENCE + 2 * self._waiting
        if known and not known.is_timed:
            known.is_timed = True
            heapq.heappush(self._deadlines, (known.deadline, known.number))
        self._keep_order(known)

    def _find_overdue(self) -> None:
        """Find the categories whose head has waited for too long. Each is timed once, and again if its head is new."""
        while self._deadlines and self._deadlines[0][0] <= self._started:
            known = self._by_number[heapq.heappop(self._deadlines)[1]]
            known.is_timed = False
            if known and known.deadline <= self._started:
                known.is_overdue = True
                self._keep_order(known)
            elif known:
                known.is_timed = True
                heapq.heappush(self._deadlines, (known.deadline, known.number))

    def _drop_withdrawn(self, known: _Category) -> None:
        while known and known.head() in self._withdrawn:
            self._withdrawn.discard(known.failed.popleft()[0] if known.failed else known.fresh.popleft())

    def _keep_order(self, known: _Category) -> None:
        """Bring a category to its place among those that wait."""
        key = known.rank() if known else None
        if key == known.key:
            return
        if known.key is not None:
            del self._order[bisect.bisect_left(self._order, (known.key, known.name))]
        if key is not None:
            bisect.insort(self._order, (key, known.name))
        known.key = key
