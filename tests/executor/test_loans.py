"""Processes lent to whoever submits next: the short way of a call that is waited for, and nothing lost on it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from envpack_executor import ContextExecutor
from envpack_executor.manager.events import CallSentAhead, ResultsArrived
from envpack_executor.manager.loans import LENT_BELOW_S, Lender, Loan, take
from envpack_executor.manager.state import Call
from envpack_executor.messages import ProcessGone
from tests.executor.functions import add, pid
from tests.executor.helpers import wait_until
from tests.executor.test_manager_reactor import Manager, kinds, make_context


def lent(executor: ContextExecutor, fn: Callable[..., Any]) -> Any:
    """Return the loans of the context of `fn`, once its calls count as short and the executor has had time to lend.

    On a busy machine a call of microseconds takes milliseconds now and then: the mean becomes small when others follow.
    """
    resolved = executor._resolver.resolve(fn)
    while (resolved.function.estimate_s or 0.0) >= LENT_BELOW_S / 2:
        executor.submit(fn, 0, 0).result()
    loans = resolved.context.loans
    wait_until(lambda: bool(loans), "an idle process is lent")
    return loans


def test_a_call_that_follows_a_result_goes_straight_to_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Loan | None] = []

    def take_and_note(call: Call) -> Loan | None:
        taken.append(take(call))
        return taken[-1]

    monkeypatch.setattr("envpack_executor.manager.loop.take", take_and_note)
    with ContextExecutor(1, history=None) as executor:
        assert executor.submit(add, 1, 0).result() == 1
        # The loop may recall what it has lent, and lend it again, whenever anything else wakes it.
        for number in range(100):
            lent(executor, add)
            assert executor.submit(add, number, 0).result() == number
            if any(taken):
                break
        assert any(taken), "the submitting thread never took the process that was lent"
        assert executor.stats().set_ups == 1


def test_many_threads_that_wait_get_each_its_own_result() -> None:
    wrong: list[tuple[int, int]] = []

    def ask(thread: int) -> None:
        for number in range(200):
            value = thread * 1000 + number
            if (found := executor.submit(add, value, 0).result()) != value:
                wrong.append((value, found))

    with ContextExecutor(2, history=None) as executor:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert executor.stats().open_calls == 0


def test_a_call_sent_to_a_process_that_has_just_died_runs_in_another_one() -> None:
    with ContextExecutor(1, history=None) as executor:
        for number in range(5):
            found = executor.submit(pid).result()
            assert executor.submit(add, 0, 0).result() == 0
            lent(executor, add)
            os.kill(found, signal.SIGKILL)
            assert executor.submit(add, number, 0).result() == number


def test_an_interrupt_while_a_call_is_sent_loses_no_other_call() -> None:
    def interrupted(data: bytes) -> int:
        raise KeyboardInterrupt

    with ContextExecutor(1, history=None) as executor:
        assert executor.submit(add, 1, 0).result() == 1
        lent(executor, add)[0].send = interrupted
        with pytest.raises(KeyboardInterrupt):
            executor.submit(add, 2, 0)
        assert [executor.submit(add, number, 0).result() for number in range(3)] == [0, 1, 2]
        wait_until(lambda: executor.stats().open_calls == 0, "the interrupted call has its end")


def test_calls_submitted_while_the_executor_closes_have_an_end() -> None:
    for _ in range(6):
        futures = []
        executor = ContextExecutor(1, history=None)
        executor.submit(add, 1, 0).result()

        def submit(executor: ContextExecutor = executor, futures: list[Any] = futures) -> None:
            try:
                for number in range(1000):
                    futures.append(executor.submit(add, number, 0))
                    futures[-1].exception(timeout=60)
            except RuntimeError:
                pass  # it is closed

        thread = threading.Thread(target=submit)
        thread.start()
        wait_until(lambda futures=futures: len(futures) > 3, "calls come")  # type: ignore[misc]
        executor.shutdown()
        thread.join()
        assert all(future.done() for future in futures)


def test_only_plain_short_functions_take_a_loan_and_only_where_the_process_knows_them() -> None:
    manager, context = Manager(), make_context()
    process = manager.state.processes[manager.warm(context, 1e-3)]
    lender = Lender(lambda node, process: lambda data: len(data))
    lender.note_idle(process)
    lender.lend()
    [call] = manager.calls(context)
    for estimate_s, known in ((1.0, True), (None, True), (1e-3, False)):
        manager.function.estimate_s, process.known = estimate_s, {manager.function.number} if known else set()
        assert take(call) is None
    manager.function.estimate_s, process.known = 1e-3, {manager.function.number}
    call.payload = bytes(1 << 20)
    assert take(call) is None
    call.payload = b""
    assert take(call) is not None
    assert take(call) is None


# --- the reactor


def test_a_lent_process_gets_no_call_and_is_not_ended_before_it_is_recalled() -> None:
    manager, context = Manager(), make_context()
    process = manager.state.processes[manager.warm(context, 1e-3)]
    process.is_lent = True
    _, instructions = manager.queue(context)
    assert "SendCalls" not in kinds(instructions)
    assert "EndProcess" not in kinds(instructions)


def test_a_call_sent_ahead_is_outstanding_like_any_other() -> None:
    manager, context = Manager(), make_context()
    identifier = manager.warm(context, 1e-3)
    process = manager.state.processes[identifier]
    process.is_lent = True
    [call] = manager.calls(context)
    call.lent = process
    manager.handle(CallSentAhead(call))
    assert (list(process.outstanding), process.node.busy) == ([call], 1)
    # It may not have been written yet: what follows it now would come first.
    _, instructions = manager.queue(context)
    assert "SendCalls" not in kinds(instructions)
    done = manager.handle(ResultsArrived(identifier, ["value"], []))
    assert done[0].calls == [call]
    assert kinds(done) == ["CallsDone", "SendCalls"]


def test_a_call_sent_ahead_to_a_process_that_is_gone_is_queued() -> None:
    manager, context = Manager(), make_context()
    identifier = manager.warm(context, 1e-3)
    process = manager.state.processes[identifier]
    process.is_lent = True
    manager.handle(ProcessGone(identifier, -9, -1))
    [call] = manager.calls(context)
    call.lent = process
    assert "StartContext" in kinds(manager.handle(CallSentAhead(call)))
    assert list(context.queue) == [call]
