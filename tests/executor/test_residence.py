"""Which contexts stay warm: those that are worth most, as far as the node has memory for them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from envpack_executor import ContextExecutor, ContextUse, task
from envpack_executor.manager.events import EndProcess, NodeJoined, ProcessReady
from envpack_executor.manager.state import ContextRecord
from envpack_executor.messages import MemoryKept, ProcessId
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, MB, wait_until
from tests.executor.test_manager_reactor import HERE, Manager, kinds, make_context


class Node(Manager):
    """A manager of one node whose processes may keep ten bytes."""

    def __init__(self, slots: int = 2, budget: int = 10) -> None:
        super().__init__(slots=0)
        self.handle(NodeJoined(HERE, "here", slots, 100, context_bytes=budget))

    def hold(self, number: int, kept_bytes: int, set_up_s: float = 1.0, calls: int = 1) -> ContextRecord:
        """Let a context have a process that keeps so much, took so long and has served so many calls."""
        context = make_context(number)
        process = ProcessId(self.queue(context)[1][-1].process)
        self.state.now_s += set_up_s
        self.handle(ProcessReady(process))
        self.results(process, 1)
        for _ in range(calls - 1):
            self.queue(context)
            self.results(process, 1)
        self.handle(MemoryKept(process, kept_bytes))
        return context

    def evicted_by(self, number: int) -> set[int]:
        """Return the contexts whose processes leave for one of another context."""
        _, instructions = self.queue(make_context(number))
        assert kinds(instructions)[-1] == "StartContext"
        ended = [each.process for each in instructions if isinstance(each, EndProcess)]
        return {self.state.processes[process].context.number for process in ended}


def test_nothing_leaves_while_everything_fits() -> None:
    node = Node(budget=100)
    for number in range(20):
        node.hold(number, 4, calls=1 + number % 3)
    assert node.evicted_by(30) == set()


def test_the_context_that_is_set_up_fastest_leaves_first() -> None:
    node = Node()
    node.hold(1, 5, set_up_s=60.0)
    node.hold(2, 5, set_up_s=0.1)
    assert node.evicted_by(3) == {2}


def test_the_context_that_is_used_least_leaves_first() -> None:
    node = Node()
    node.hold(1, 5, calls=2)
    node.hold(2, 5, calls=20)
    assert node.evicted_by(3) == {1}


def test_the_context_that_keeps_most_leaves_first() -> None:
    node = Node()
    node.hold(1, 3)
    node.hold(2, 6)
    assert node.evicted_by(3) == {2}


def test_what_was_used_much_long_ago_is_worth_little_now() -> None:
    node = Node()
    node.hold(1, 5, calls=50)
    node.state.now_s += 3000.0
    node.hold(2, 5, calls=2)
    assert node.evicted_by(3) == {1}


def test_no_more_leave_than_must() -> None:
    node = Node()
    for number in range(5):
        node.hold(number, 2, set_up_s=number + 1.0)
    assert node.evicted_by(9) == {0}


def test_a_context_waits_while_those_that_work_need_the_memory_and_is_not_starved_by_them() -> None:
    node = Node()
    busy = node.hold(1, 8)
    node.queue(busy)
    [process] = busy.processes
    other = make_context(2)
    assert node.queue(other)[1] == []
    node.queue(busy, 3)
    instructions = node.results(process, 1)
    assert kinds(instructions) == ["CallsDone", "EndProcess", "StartContext"]
    assert [each.context for each in node.state.processes.values()] == [busy, other]


def test_a_context_larger_than_the_budget_runs_alone() -> None:
    node = Node()
    large = node.hold(1, 50)
    assert large.processes, "the only one may stay"
    assert node.evicted_by(2) == {1}


def test_processes_that_have_grown_beyond_the_budget_leave_when_they_are_idle() -> None:
    node = Node()
    first, second = node.hold(1, 4, set_up_s=5.0), node.hold(2, 4)
    [process] = first.processes
    assert node.handle(MemoryKept(process, 9)) == [EndProcess(HERE, next(iter(second.processes)), False)]
    assert (first.evictions, second.evictions) == (0, 1)


# --- real processes


def holding(name: str, size: int) -> Any:
    return task(context=(functions.hold_memory, name, size))(functions.double)


def uses(executor: ContextExecutor) -> tuple[ContextUse, ...]:
    return executor.stats().contexts


def test_what_a_context_keeps_is_measured_as_its_share_of_memory() -> None:
    with ContextExecutor(max_workers=1) as executor:
        executor.submit(holding("a", 50 * MB), 1).result(GENEROUS_S)
        wait_until(lambda: uses(executor)[0].memory_bytes > 0, "the node has looked")
        [context] = uses(executor)
    assert 50 * MB < context.memory_bytes < 80 * MB
    assert (context.name, context.processes, context.set_ups, context.calls) == ("hold_memory", 1, 1, 1)
    assert context.set_up_s > 0
    assert context.evictions == 0


def test_contexts_that_do_not_fit_together_take_turns_and_those_that_fit_stay() -> None:
    large, other, small = holding("large", 60 * MB), holding("other", 60 * MB), functions.double
    with ContextExecutor(max_workers=1, context_memory="110MB") as executor:
        executor.submit(small, 1).result(GENEROUS_S)
        executor.submit(large, 1).result(GENEROUS_S)
        wait_until(lambda: all(each.memory_bytes for each in uses(executor)), "the node has looked at both")
        executor.submit(small, 1).result(GENEROUS_S)
        assert [each.evictions for each in uses(executor)] == [0, 0]
        executor.submit(other, 1).result(GENEROUS_S)
        wait_until(lambda: sum(each.evictions for each in uses(executor)) > 0, "the node has looked again")
        executor.submit(small, 1).result(GENEROUS_S)
    assert [each.evictions for each in uses(executor)] == [0, 1, 0]
    assert [each.set_ups for each in uses(executor)] == [1, 1, 1]


def test_two_contexts_called_in_turn_with_a_plain_task_between_are_set_up_once_in_each_process() -> None:
    first, second = (task(context=(functions.set_up, name))(functions.double) for name in ("first", "second"))
    with ContextExecutor(max_workers=2) as executor:
        for number in range(100):
            for each in (first, functions.double, second, functions.double):
                assert executor.submit(each, number).result(GENEROUS_S) == 2 * number
        stats = executor.stats()
    assert [each.set_ups for each in stats.contexts] == [1, 1, 1]
    assert stats.set_ups == stats.processes == 3


@pytest.mark.parametrize("size", [0, -1, "0 GB", "much"])
def test_a_budget_that_is_none_is_refused(size: int | str) -> None:
    with pytest.raises(ValueError, match=r"context_memory|much"):
        ContextExecutor(max_workers=1, context_memory=size)


def test_the_time_of_a_set_up_is_known_also_of_the_first_process_of_an_executor() -> None:
    started = time.monotonic()
    with ContextExecutor(1, history=None) as executor:
        executor.submit(functions.pid).result(GENEROUS_S)
        [context] = executor.stats().contexts
    assert 0 < context.set_up_s <= time.monotonic() - started
