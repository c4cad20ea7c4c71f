"""How calls end, without any process: priorities, further tries, time limits, cancels, calls that are taken back."""

from __future__ import annotations

import pickle
from concurrent.futures import CancelledError
from typing import Any

import pytest

from envpack_executor.errors import CallCancelledError, CallTimeoutError, ProcessExitedError, ProcessLostError
from envpack_executor.manager.ends import CANCELLED, TIMEOUT
from envpack_executor.manager.events import (
    AskBack,
    CallsDone,
    CallsFailed,
    CallsReturned,
    CancelRequested,
    EndProcess,
    KillCall,
    NodeLost,
    ProcessReady,
    ResultsArrived,
    SendCalls,
    StartContext,
    TimePassed,
)
from envpack_executor.manager.queues import PriorityQueue
from envpack_executor.manager.stalls import STALL_S
from envpack_executor.manager.state import Call, CallOptions, FunctionRecord, Phase
from envpack_executor.messages import CallEnded, ProcessGone, ProcessId
from tests.executor.test_manager_reactor import HERE, Manager, kinds, make_context
from tests.executor.test_sized_reactor import SizedManager


def function(number: int, **options: Any) -> FunctionRecord:
    return FunctionRecord(number, b"", f"f{number}", f"f{number}", options=CallOptions(**options))


def batch(count: int = 4, **options: Any) -> tuple[Manager, list[Call], ProcessId]:
    """A process with calls that were thought to be short."""
    world, context = Manager(slots=2), make_context()
    world.function = function(0, **options)
    process = world.warm(context, estimate_s=1e-3)
    calls, [sent] = world.queue(context, count)
    assert (sent.first, sent.calls) == (1, calls)
    return world, calls, process


def failure(instructions: list[Any]) -> tuple[list[Call], BaseException]:
    [failed] = [each for each in instructions if isinstance(each, CallsFailed)]
    return failed.calls, failed.error


# --- priorities


def test_calls_of_larger_priority_go_first_and_equal_ones_in_their_order() -> None:
    world, context = Manager(slots=1), make_context(has_priorities=True)
    plain, urgent = function(1), function(2, priority=5)
    first, [start] = world.queue(context, 2, plain)
    second, _ = world.queue(context, 2, urgent)
    served = []
    instructions: Any = world.handle(ProcessReady(start.process))
    for _ in range(4):
        served += instructions[-1].calls
        instructions = world.results(start.process, 1)
    assert served == second + first


def test_the_context_whose_call_is_most_important_gets_the_next_slot() -> None:
    world, context, urgent = Manager(slots=1), make_context(1), make_context(2, has_priorities=True)
    process = world.warm(context)
    world.queue(context, 5)
    calls, [start] = world.queue(urgent, 1, function(2, priority=1))
    world.handle(ProcessReady(start.process))
    [_, sent] = world.results(process, 1)
    assert isinstance(sent, SendCalls)
    assert (sent.process, sent.calls) == (start.process, calls)


def test_calls_without_priorities_wait_in_a_plain_queue() -> None:
    world, context = Manager(slots=0), make_context()
    world.queue(context, 3)
    assert type(context.queue).__name__ == "deque"


def test_the_order_of_priorities_survives_everything_that_is_done_to_a_queue() -> None:
    context = make_context()
    low, high = function(1, priority=-1), function(2, priority=7)
    a, b, c, d, e = (
        Call(number, each, context, b"") for number, each in enumerate([low, high, low, high, function(3)])
    )
    queue = PriorityQueue([a, b, c])
    queue.extendleft([d, e])
    assert list(queue) == [d, b, e, a, c]
    assert (queue[0], len(queue), a in queue) == (d, 5, True)
    queue.remove(e)
    assert [queue.popleft() for _ in range(3)] == [d, b, a]
    assert e not in queue
    queue.clear()
    assert (len(queue), list(queue)) == (0, [])


def test_calls_of_larger_priority_are_promised_memory_first() -> None:
    world, context = SizedManager(slots=1, cores=1.0, work=3), make_context()
    _, [start] = world.queue(context, 1, FunctionRecord(1, b"", "work", "work", estimate_s=1.0))
    world.handle(ProcessReady(start.process))
    plain, _ = world.queue(context, 2, FunctionRecord(2, b"", "work", "work", estimate_s=1.0))
    urgent, _ = world.queue(
        context, 1, FunctionRecord(3, b"", "work", "work", options=CallOptions(priority=1), estimate_s=1.0)
    )
    [_, sent] = world.handle(ResultsArrived(start.process, [0], []))
    assert isinstance(sent, SendCalls)
    assert sent.calls == urgent
    assert [wait.category for wait in world.sized.waits()] == ["work"]
    assert list(context.queue) == plain


# --- further tries


def test_a_call_that_raises_is_run_again_and_its_result_counts() -> None:
    world, calls, process = batch(1, retries=2)
    instructions = world.handle(ResultsArrived(process, [("failure",)], [], [(0, "raised", "ValueError: bad")]))
    assert instructions == [CallsDone([], []), SendCalls(HERE, process, [], 2, calls)]
    assert world.results(process, 1) == [CallsDone(calls, [0])]
    assert calls[0].troubles is not None
    assert calls[0].troubles.failures == ("ValueError: bad (on here)",)
    assert calls[0].losses == ()


def test_after_the_last_try_the_exception_is_the_end() -> None:
    world, calls, process = batch(1, retries=1)
    raised = [(0, "raised", "ValueError: bad")]
    world.handle(ResultsArrived(process, ["first"], [], raised))
    assert world.handle(ResultsArrived(process, ["second"], [], raised)) == [CallsDone(calls, ["second"])]


def test_those_that_raise_are_run_again_and_the_others_of_their_batch_are_done() -> None:
    world, calls, process = batch(4, retries=1)
    raised = [(1, "raised", "E: e"), (2, "raised", "E: e")]
    [done, sent] = world.handle(ResultsArrived(process, list("abcd"), [], raised))
    assert done == CallsDone([calls[0], calls[3]], ["a", "d"])
    assert isinstance(sent, SendCalls)
    assert sent.calls == calls[1:3]


def test_a_call_that_ends_its_process_is_run_again_only_if_retries_say_so() -> None:
    world, calls, process = batch(1)
    ended, error = failure(world.handle(ProcessGone(process, 3, 1)))
    assert (ended, type(error)) == (calls, ProcessExitedError)
    world, calls, process = batch(1, retries=1)
    [start] = world.handle(ProcessGone(process, 3, 1))
    assert isinstance(start, StartContext)
    assert calls[0].losses == ()


def test_losses_are_counted_apart_from_retries() -> None:
    world, calls, process = batch(1, retries=5)
    for _ in range(2):
        [start] = world.handle(ProcessGone(process, -9, world.state.processes[process].first))
        assert isinstance(start, StartContext)
        process = start.process
        world.handle(ProcessReady(process))
    ended, error = failure(world.handle(ProcessGone(process, -9, 0)))
    assert (ended, type(error)) == (calls, ProcessLostError)


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ((3, "", 0.1), ProcessExitedError),
        ((-9, TIMEOUT, 2.5), CallTimeoutError),
        ((-9, CANCELLED, 0.1), CancelledError),
    ],
)
def test_a_lost_fork_child_is_the_end_of_its_call_and_of_nothing_else(detail: Any, expected: type) -> None:
    world, calls, process = batch(3, mode="fork", timeout_s=2.0)
    instructions = world.handle(ResultsArrived(process, list("abc"), [], [(1, "lost", detail)]))
    ended, error = failure(instructions)
    assert (ended, isinstance(error, expected)) == ([calls[1]], True)
    assert CallsDone([calls[0], calls[2]], ["a", "c"]) in instructions
    assert world.state.processes[process].is_idle


def test_a_fork_child_that_was_killed_is_a_loss_of_its_call() -> None:
    world, calls, process = batch(1, mode="fork")
    [done, sent] = world.handle(ResultsArrived(process, [None], [], [(0, "lost", (-9, "", 0.1))]))
    assert done == CallsDone([], [])
    assert isinstance(sent, SendCalls)
    assert calls[0].losses == ("killed by signal 9 on here",)


# --- time limits


def test_a_call_over_its_time_ends_with_the_figures_and_those_behind_it_are_not_blamed() -> None:
    world, calls, process = batch(3, timeout_s=2.0)
    assert world.handle(CallEnded(process, 1, TIMEOUT, 2.25)) == []
    instructions = world.handle(ProcessGone(process, -9, 1))
    ended, error = failure(instructions)
    assert ended == calls[:1]
    assert isinstance(error, CallTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.name, error.limit_s, error.ran_s, error.exit_code) == ("f0", 2.0, 2.25, 3)
    assert str(error) == "time limit exceeded: 2 s allowed, 2.25 s used by 'f0'"
    assert list(calls[0].context.queue) == calls[1:]
    assert not any(call.losses or call.troubles for call in calls[1:])
    assert "StartContext" in kinds(instructions)


def test_a_process_that_was_killed_for_its_call_is_replaced_only_if_a_call_needs_it() -> None:
    world, _, process = batch(1, timeout_s=2.0)
    world.handle(CallEnded(process, 1, TIMEOUT, 2.25))
    assert kinds(world.handle(ProcessGone(process, -9, 1))) == ["CallsFailed"]
    assert not world.state.processes


def test_a_result_that_came_before_the_kill_counts_and_the_next_call_is_not_blamed() -> None:
    world, calls, process = batch(3, timeout_s=2.0)
    world.handle(CallEnded(process, 1, TIMEOUT, 2.0))
    assert world.results(process, 1)[0] == CallsDone(calls[:1], [0])
    instructions = world.handle(ProcessGone(process, -9, 2))
    assert "CallsFailed" not in kinds(instructions)
    assert not any(call.losses for call in calls)
    assert list(calls[0].context.queue) == calls[1:]


def test_a_killed_process_takes_no_further_call_after_its_last_result() -> None:
    world, calls, process = batch(1, timeout_s=2.0)
    world.handle(CallEnded(process, 1, TIMEOUT, 2.0))
    world.results(process, 1)
    assert world.state.processes[process].phase is Phase.STOPPING
    assert kinds(world.queue(calls[0].context)[1]) == ["StartContext"]


def test_a_call_over_its_time_is_tried_again_if_retries_say_so() -> None:
    world, calls, process = batch(1, timeout_s=2.0, retries=1)
    world.handle(CallEnded(process, 1, TIMEOUT, 2.25))
    assert kinds(world.handle(ProcessGone(process, -9, 1))) == ["StartContext"]
    assert calls[0].troubles is not None
    assert "time limit exceeded: 2 s allowed, 2.25 s used" in calls[0].troubles.failures[0]


# --- cancelling


def cancel(world: Manager, call: Call) -> list[Any]:
    return list(world.handle(CancelRequested(call)))


def test_a_call_cancelled_in_the_queue_ends_at_once() -> None:
    world, context = Manager(slots=0), make_context()
    calls, _ = world.queue(context, 2)
    ended, error = failure(cancel(world, calls[0]))
    assert ended == calls[:1]
    assert isinstance(error, CallCancelledError)
    assert isinstance(error, CancelledError)
    assert list(context.queue) == calls[1:]
    assert cancel(world, calls[0]) == [], "it has its end"


def test_a_call_cancelled_behind_another_is_asked_back_and_only_the_others_run() -> None:
    world, calls, process = batch(4)
    assert cancel(world, calls[2]) == [AskBack(HERE, process, 5)]
    instructions = world.handle(CallsReturned(process, 2))
    assert failure(instructions)[0] == [calls[2]]
    assert kinds(instructions) == ["CallsFailed", "StartContext"]
    assert list(calls[0].context.queue) == [calls[1], calls[3]]


def test_a_call_that_began_before_it_could_be_asked_back_is_killed() -> None:
    world, calls, process = batch(4)
    cancel(world, calls[1])
    assert KillCall(HERE, process, 2, CANCELLED) in world.handle(CallsReturned(process, 3))
    world.handle(CallEnded(process, 2, CANCELLED, 0.5))
    ended, error = failure(world.handle(ProcessGone(process, -9, 2)))
    assert ended == [calls[1]]
    assert isinstance(error, CallCancelledError)
    assert error.ran_s == 0.5
    assert list(calls[0].context.queue) == [calls[0], *calls[2:]]
    assert not any(call.losses for call in calls)


def test_the_running_call_is_killed_at_once_when_it_is_cancelled() -> None:
    world, calls, process = batch(2)
    assert cancel(world, calls[0]) == [AskBack(HERE, process, 3), KillCall(HERE, process, 1, CANCELLED)]


def test_a_cancelled_call_that_returns_first_has_its_result() -> None:
    world, calls, process = batch(1)
    cancel(world, calls[0])
    assert world.results(process, 1) == [CallsDone(calls, [0])]


def test_a_cancelled_call_is_never_run_again() -> None:
    world, calls, process = batch(2, retries=3)
    cancel(world, calls[0])
    assert world.handle(ResultsArrived(process, ["a"], [], [(0, "raised", "E: e")])) == [CallsDone(calls[:1], ["a"])]
    world, calls, process = batch(2)
    cancel(world, calls[0])
    ended, error = failure(world.handle(NodeLost(HERE, "silent")))
    assert (ended, type(error)) == (calls[:1], CallCancelledError)


# --- taking back


def stalled() -> tuple[Manager, list[Call], ProcessId, ProcessId]:
    """Two processes of a context; one has nothing to do, the other is with the first of four calls."""
    world, context = Manager(slots=2), make_context()
    world.queue(context, 2)
    for process in (1, 2):
        world.handle(ProcessReady(ProcessId(process)))
    for process in (1, 2):
        world.results(ProcessId(process), 1)
    world.function.estimate_s = 1e-3
    _, sends = world.queue(context, 8)
    assert [len(sent.calls) for sent in sends] == [4, 4]
    mine, theirs = sends
    world.results(theirs.process, 4, 1e-3)
    return world, mine.calls, mine.process, theirs.process


def pass_time(world: Manager, seconds: float) -> list[Any]:
    world.state.now_s += seconds
    return list(world.handle(TimePassed()))


def test_calls_behind_a_long_one_are_given_to_a_process_that_is_idle() -> None:
    world, calls, slow, idle = stalled()
    assert pass_time(world, STALL_S) == [AskBack(HERE, slow, 5)]
    [sent] = world.handle(CallsReturned(slow, 2))
    assert isinstance(sent, SendCalls)
    assert (sent.process, sent.calls) == (idle, calls[1:])
    assert world.results(slow, 1) == [CallsDone(calls[:1], [0])]
    _, [sent] = world.queue(calls[0].context)
    assert (sent.process, sent.first) == (slow, 5), "numbers are never used again"


def test_calls_are_left_where_they_are_while_their_process_goes_on() -> None:
    world, _, slow, _ = stalled()
    world.results(slow, 1, 1e-3)
    assert pass_time(world, STALL_S) == []
    assert pass_time(world, STALL_S) == [AskBack(HERE, slow, 5)], "until it stops"


def test_calls_are_left_where_they_are_when_nobody_else_could_run_them() -> None:
    world, context = Manager(slots=1), make_context()
    world.warm(context, estimate_s=1e-3)
    world.queue(context, 4)
    assert pass_time(world, STALL_S) == []
    assert world.reactor.alarms.next_s is None, "nobody is woken for nothing"


def test_a_free_slot_is_enough_to_take_calls_back_for() -> None:
    world, calls, slow = batch(4)
    assert pass_time(world, STALL_S) == [AskBack(HERE, slow, 5)]
    [start] = world.handle(CallsReturned(slow, 2))
    assert isinstance(start, StartContext)
    assert list(calls[0].context.queue) == calls[1:]


def test_nothing_is_sent_to_a_process_that_has_not_answered_and_its_slot_is_not_lost() -> None:
    world, calls, slow, idle = stalled()
    pass_time(world, STALL_S)
    world.results(slow, 4, 1e-3)
    _, [sent] = world.queue(calls[0].context, 2)
    assert sent.process == idle
    assert not world.state.processes[slow].is_idle
    assert world.handle(CallsReturned(slow, 5)) == []
    assert world.state.processes[slow].is_idle
    assert world.handle(CallsReturned(slow, 5)) == [], "an answer that comes twice"


def test_the_call_that_ran_is_blamed_also_after_others_were_taken_back() -> None:
    world, calls, slow, _ = stalled()
    pass_time(world, STALL_S)
    world.handle(CallsReturned(slow, 2))
    world.handle(ProcessGone(slow, -9, 1))
    assert [len(call.losses) for call in calls] == [1, 0, 0, 0]


def test_a_call_is_not_asked_back_by_a_process_that_has_given_back_all_it_could() -> None:
    world, calls, slow, _ = stalled()
    pass_time(world, STALL_S)
    world.handle(CallsReturned(slow, 3))
    assert cancel(world, calls[1]) == [KillCall(HERE, slow, 2, CANCELLED)], "it has begun"
    assert list(world.state.processes[slow].outstanding) == calls[:2]


def test_a_promise_passes_to_the_next_call_when_the_first_is_tried_again() -> None:
    world, context = SizedManager(work=6), make_context()
    work = FunctionRecord(1, b"", "work", "work", options=CallOptions(retries=1), estimate_s=1e-4)
    calls, [start, *_] = world.queue(context, 3, work)
    world.handle(ProcessReady(start.process))
    world.handle(ResultsArrived(start.process, ["a"], [], [(0, "raised", "E: e")]))
    assert world.sized.lanes[start.process].leader is not calls[0]
    assert calls[0] in context.queue or calls[0] in world.state.processes[start.process].outstanding


def test_a_promise_ends_with_the_last_call_that_is_taken_back() -> None:
    world, context = SizedManager(work=6), make_context()
    work = FunctionRecord(1, b"", "work", "work", estimate_s=1e-4)
    _, [start, *_] = world.queue(context, 12, work)
    world.handle(ProcessReady(start.process))
    first, *others = list(world.state.processes[start.process].outstanding)
    assert len(others) == 2
    lane = world.sized.lanes[start.process]
    world.handle(CancelRequested(first))
    instructions = world.handle(CallsReturned(start.process, 0))
    assert failure(instructions)[0] == [first]
    assert world.sized.lanes[start.process] is not lane
    assert all(call in context.queue for call in others)


@pytest.mark.parametrize(
    "error", [CallCancelledError("f", 1.5), CallCancelledError("f"), CallTimeoutError("f", 1.0, 1.5)]
)
def test_errors_of_ended_calls_survive_pickling(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_a_process_that_is_killed_for_a_call_is_ended_once() -> None:
    world, _, process = batch(1, timeout_s=1.0)
    world.handle(CallEnded(process, 1, TIMEOUT, 1.0))
    world.results(process, 1)
    assert not [each for each in world.handle(NodeLost(HERE, "silent")) if isinstance(each, EndProcess)]
