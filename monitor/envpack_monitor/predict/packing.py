"""Pack a trace onto one node and see how long it takes: all calls submitted at once, events in order of time. Pure.

Calls are placed as the executor places them (`envpack_monitor.predict.placement`). A call that crosses its allocation
goes on where memory is free, or is killed and waits again with more. Beside it stands an *oracle* that knows all peaks,
and tries several orders, one of them by the true times; and the bound that nobody can pass.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.failed import FailedRun, killed_at_end
from envpack_monitor.predict.node import NodeState
from envpack_monitor.predict.placement import Call, Placement
from envpack_monitor.predict.protocol import Predictor
from envpack_monitor.predict.trace import TracedCall

Ask = Literal["dispatch", "submit"]

LOOK_AT = 2000
"""How many calls that do not fit the oracle passes, in search of one that does."""

TOLERANCE = 1e-6
"""Cores that are less than this apart are equal: thirds must add up to wholes."""

MOST_ATTEMPTS = 20
"""After so many attempts a call gets the whole node: a policy may raise its allocations by a byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How a trace was packed.

    Args:
        makespan_s: seconds until the last call was done.
        failures: attempts that were killed.
        grown: how often a call got more memory while it ran.
        busy_core_s: cores times seconds of all attempts.
    """

    makespan_s: float
    failures: int = 0
    grown: int = 0
    busy_core_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return an object that JSON can hold."""
        return {name: getattr(self, name) for name in self.__slots__}


def pack(
    calls: Sequence[TracedCall],
    predictor: Predictor,
    node: Allocation,
    failed: FailedRun = killed_at_end,
    ask: Ask = "dispatch",
    *,
    grow: bool = True,
) -> Packing:
    """Return how long a node takes with a policy.

    Args:
        calls: all of them are submitted at once, in this order.
        predictor: the policy; it observes each call when that is done.
        node: cores and memory of the node.
        failed: from allocated and needed bytes to the share of its run after which an attempt exceeds it.
        ask: whether the policy is asked when a call is placed, or for all calls when they are submitted.
        grow: whether an attempt that exceeds its allocation may go on where memory is free.
    """
    return _Simulation(calls, predictor, node, failed, ask, grow).run()


class _Simulation:
    """The state of one run: time, events, and what each running attempt has."""

    def __init__(
        self,
        calls: Sequence[TracedCall],
        predictor: Predictor,
        node: Allocation,
        failed: FailedRun,
        ask: Ask,
        grow: bool,
    ) -> None:
        self.calls = calls
        self.predictor = predictor
        self.node = node
        self.failed = failed
        self.may_grow = grow
        self.placement = Placement([NodeState("node", node)], self._ask)
        self.promised: dict[int, Allocation] = {}
        self.began_s: dict[int, float] = {}
        self.events: list[tuple[float, int]] = []
        self.failures = self.grown = 0
        self.busy_core_s = 0.0
        if ask == "submit":
            self.promised = {number: self._predict(number) for number in range(len(calls))}

    def run(self) -> Packing:
        now_s = 0.0
        for number, call in enumerate(self.calls):
            self.placement.put(number, call.usage.category)
        self._place(now_s)
        while self.events:
            now_s, number = heapq.heappop(self.events)
            self._turn(now_s, number)
            if not self.events or self.events[0][0] > now_s:
                self._place(now_s)
        return Packing(makespan_s=now_s, failures=self.failures, grown=self.grown, busy_core_s=self.busy_core_s)

    def _ask(self, call: Call, category: str) -> Allocation:
        assert isinstance(call, int)
        return self.promised.get(call) or self._predict(call)

    def _predict(self, number: int) -> Allocation:
        usage = self.calls[number].usage
        allocation = self.predictor.predict(usage.category, usage.features)
        return replace(allocation, cores=self.calls[number].cores)

    def _place(self, now_s: float) -> None:
        for start in self.placement.place():
            assert isinstance(start.call, int)
            self.began_s[start.call] = now_s
            self._schedule(start.call, start.allocation, now_s)

    def _schedule(self, number: int, promised: Allocation, now_s: float) -> None:
        """Note when an attempt is done or crosses what it was promised."""
        usage = self.calls[number].usage
        self.promised[number] = promised
        share = 1.0
        if (promised.memory_bytes or 0) < (usage.peak_memory_bytes or 0):
            share = self.failed(promised.memory_bytes or 0, usage.peak_memory_bytes or 0)
        heapq.heappush(self.events, (max(now_s, self.began_s[number] + share * usage.wall_s), number))

    def _turn(self, now_s: float, number: int) -> None:
        """An attempt is done, or goes on with more memory, or is killed."""
        usage, promised = self.calls[number].usage, self.promised[number]
        if (promised.memory_bytes or 0) >= (usage.peak_memory_bytes or 0):
            self.busy_core_s += promised.cores * usage.wall_s
            self.predictor.observe(usage.category, usage.features, usage)
            self.placement.end(number, usage.wall_s)
            return
        wanted = self.predictor.retry(usage.category, usage.features, promised)
        if wanted.attempt > MOST_ATTEMPTS:
            wanted = replace(wanted, memory_bytes=self.node.memory_bytes)
        larger = self.placement.grow(number, wanted.memory_bytes or 0) if self.may_grow else None
        if larger is not None:
            self.grown += 1
            self._schedule(number, replace(larger, attempt=wanted.attempt), now_s)
            return
        self.failures += 1
        self.busy_core_s += promised.cores * (now_s - self.began_s[number])
        self.promised.pop(number)
        self.placement.fail(number, wanted)


def oracle(calls: Sequence[TracedCall], node: Allocation) -> float:
    """Return the shortest makespan of several list schedules that know every peak, one of them every time too."""
    orders: tuple[Callable[[TracedCall], float], ...] = (
        lambda call: 0.0,
        lambda call: -call.usage.wall_s,
        lambda call: -call.usage.wall_s * call.cores,
        lambda call: -call.usage.wall_s * (call.usage.peak_memory_bytes or 0),
        lambda call: -call.cores,
    )
    return min(_list_schedule(sorted(calls, key=order), node) for order in orders)


def lower_bound(calls: Sequence[TracedCall], node: Allocation) -> float:
    """Return what no schedule can beat: the cores' work, the memory's work and the longest call."""
    cores = sum(min(call.cores, node.cores) * call.usage.wall_s for call in calls) / node.cores
    memory = sum((call.usage.peak_memory_bytes or 0) * call.usage.wall_s for call in calls) / (node.memory_bytes or 1)
    return max(cores, memory, max((call.usage.wall_s for call in calls), default=0.0))


def _list_schedule(calls: Sequence[TracedCall], node: Allocation) -> float:
    """Return the makespan when whatever fits begins, the first of the list before the others."""
    state = NodeState("node", node)
    needs = [state.cut(Allocation(cores=call.cores, memory_bytes=call.usage.peak_memory_bytes)) for call in calls]
    sizes = [(need.cores - TOLERANCE, need.memory_bytes or 0) for need in needs]
    cores, memory, now_s = node.cores, node.memory_bytes or math.inf, 0.0
    running: list[tuple[float, int]] = []
    waiting = list(range(len(calls)))
    while waiting or running:
        passed: list[int] = []
        seen = 0
        for number in waiting:
            if cores <= TOLERANCE or len(passed) == LOOK_AT:
                break
            seen += 1
            if sizes[number][0] <= cores and sizes[number][1] <= memory:
                cores -= needs[number].cores
                memory -= sizes[number][1]
                heapq.heappush(running, (now_s + calls[number].usage.wall_s, number))
            else:
                passed.append(number)
        waiting[:seen] = passed
        now_s = running[0][0]
        while running and running[0][0] <= now_s:
            number = heapq.heappop(running)[1]
            cores += needs[number].cores
            memory += sizes[number][1]
    return now_s
