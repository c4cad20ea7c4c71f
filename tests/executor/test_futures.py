"""A `concurrent.futures.Executor` to the letter: results, exceptions, cancel, wait, map, shutdown."""

from __future__ import annotations

import concurrent.futures
import pickle
import sys
import threading
import weakref
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from envpack_executor import ContextExecutor, task
from envpack_executor.errors import InitializerError, RemoteError, RemoteTraceback, ResultError
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, MB, are_gone, wait_until


def test_submit_gives_a_future_with_the_result() -> None:
    with ContextExecutor(max_workers=1) as executor:
        future = executor.submit(functions.add, 2, right=3)
        assert isinstance(future, Future)
        assert future.result(GENEROUS_S) == 5
        assert executor.submit(functions.keywords, self=1, fn=2).result(GENEROUS_S) == {"self": 1, "fn": 2}


def test_lambdas_and_closures_travel() -> None:
    factor = 7
    with ContextExecutor(max_workers=1) as executor:
        assert executor.submit(lambda value: value + 1, 1).result(GENEROUS_S) == 2
        assert executor.submit(lambda value: factor * value, 6).result(GENEROUS_S) == 42
        inner = executor.submit(lambda: lambda: factor).result(GENEROUS_S)
        assert inner() == 7


def test_results_belong_to_their_own_calls() -> None:
    with ContextExecutor(max_workers=2) as executor:
        futures = [executor.submit(functions.add, number, number) for number in range(2000)]
        assert [future.result(GENEROUS_S) for future in futures] == [2 * number for number in range(2000)]
        assert executor.stats().open_calls == 0


def test_exceptions_arrive_with_the_remote_traceback_as_their_cause() -> None:
    with ContextExecutor(max_workers=1) as executor:
        future = executor.submit(functions.divide, 1, 0)
        error = future.exception(GENEROUS_S)
    assert type(error) is ZeroDivisionError
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "return left / right" in str(error.__cause__)
    assert "child.py" not in str(error.__cause__), "our own frames are of no use to anybody"


def test_an_exception_that_cannot_be_rebuilt_keeps_its_type_name_and_text() -> None:
    with ContextExecutor(max_workers=1) as executor:
        with pytest.raises(RemoteError, match=r"tests\.executor\.functions\.TwoArguments: 7: seven things") as caught:
            executor.submit(functions.raise_unbuildable).result(GENEROUS_S)
        assert "raise TwoArguments(7" in str(caught.value.__cause__)
        assert type(executor.submit(functions.raise_unprintable).exception(GENEROUS_S)) is functions.Unprintable


def test_an_argument_that_cannot_be_pickled_raises_where_it_is_submitted() -> None:
    with ContextExecutor(max_workers=1) as executor:
        with pytest.raises(TypeError, match="lock"):
            executor.submit(functions.double, threading.Lock())
        lock = threading.Lock()
        with pytest.raises(TypeError, match="lock"):
            executor.submit(lambda: lock)
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (functions.return_lock, "result of type '_thread.lock' cannot be pickled: cannot pickle '_thread.lock' object"),
        (functions.return_generator, "'return_generator' returned a generator, .* .return list"),
        (functions.return_coroutine, "'return_coroutine' returned a coroutine, .* asyncio.run"),
        (functions.yield_later, "'yield_later' returned an asynchronous generator, .* inside the call"),
    ],
)
def test_a_result_that_cannot_leave_its_process_is_an_error_that_says_what_to_do(function: Any, message: str) -> None:
    with ContextExecutor(max_workers=1) as executor:
        with pytest.raises(ResultError, match=message):
            executor.submit(function).result(GENEROUS_S)
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4


@pytest.mark.parametrize("poison", [functions.return_explosive, functions.return_system_exit])
def test_a_result_that_crashes_while_unpickling_harms_only_its_own_future(poison: Any) -> None:
    with ContextExecutor(max_workers=1) as executor:
        executor.submit(functions.double, 0).result(GENEROUS_S)
        futures = [executor.submit(functions.double, 1), executor.submit(poison), executor.submit(functions.double, 2)]
        with pytest.raises(ResultError, match="result could not be unpickled in the client"):
            futures[1].result(GENEROUS_S)
        assert (futures[0].result(GENEROUS_S), futures[2].result(GENEROUS_S)) == (2, 4)


def test_an_argument_that_crashes_while_unpickling_harms_only_its_own_call() -> None:
    with ContextExecutor(max_workers=1) as executor:
        bad = executor.submit(functions.double, functions.ExplodesWhenUnpickled())
        good = executor.submit(functions.double, 2)
        with pytest.raises(RuntimeError, match="boom while unpickling"):
            bad.result(GENEROUS_S)
        assert good.result(GENEROUS_S) == 4


def test_system_exit_and_keyboard_interrupt_of_a_call_are_its_exceptions_and_the_process_lives_on() -> None:
    with ContextExecutor(max_workers=1) as executor:
        before = executor.submit(functions.pid).result(GENEROUS_S)
        exited = executor.submit(functions.raise_system_exit, 3).exception(GENEROUS_S)
        interrupted = executor.submit(functions.raise_keyboard_interrupt).exception(GENEROUS_S)
        assert isinstance(exited, SystemExit)
        assert exited.code == 3
        assert isinstance(interrupted, KeyboardInterrupt)
        assert executor.submit(functions.pid).result(GENEROUS_S) == before


@pytest.mark.parametrize("mode", ["direct", "fork", "thread", "fresh"])
def test_what_other_libraries_tell_all_picklers_takes_nothing_from_an_error(mode: Any) -> None:
    def leave(status: int) -> None:
        from tblib import pickling_support

        pickling_support.install()
        raise SystemExit(status)

    with ContextExecutor(max_workers=1) as executor:
        exited = executor.submit(task(mode=mode)(leave), 7).exception(GENEROUS_S)
    assert isinstance(exited, SystemExit)
    assert exited.code == 7


def test_arguments_and_results_of_50_mb_pass_in_both_directions_at_once() -> None:
    payload = bytes(50 * MB)
    with ContextExecutor(max_workers=1) as executor:
        futures = [executor.submit(functions.double, payload) for _ in range(2)]
        assert all(len(future.result(GENEROUS_S)) == 100 * MB for future in futures)


def test_a_queued_call_can_be_cancelled_and_never_runs(tmp_path: Path) -> None:
    started, release, ran = (str(tmp_path / name) for name in ("started", "release", "ran"))
    with ContextExecutor(max_workers=1) as executor:
        running = executor.submit(functions.announce_and_wait_for, started, release)
        queued = executor.submit(functions.initialize, ran)
        wait_until(Path(started).exists, "the first call runs")
        assert queued.cancel()
        assert not running.cancel(), "a running call cannot be cancelled"
        Path(release).touch()
        assert running.result(GENEROUS_S) == release
        with pytest.raises(concurrent.futures.CancelledError):
            queued.result(GENEROUS_S)
    assert not Path(ran).exists()


def test_of_many_threads_that_wait_for_one_future_each_is_woken(tmp_path: Path) -> None:
    with ContextExecutor(1) as executor, ThreadPoolExecutor(6) as threads:
        gate = tmp_path / "gate"
        future = executor.submit(functions.wait_for, str(gate))
        waiting = [threads.submit(future.result, GENEROUS_S) for _ in range(4)]
        waiting += [threads.submit(concurrent.futures.wait, [future], GENEROUS_S), threads.submit(future.exception)]
        with pytest.raises(TimeoutError):
            future.result(timeout=0.01)
        gate.touch()

        assert len({each.result(GENEROUS_S) for each in waiting[:4]}) == 1
        assert waiting[4].result().done == {future}
        assert waiting[5].result() is None


def test_a_thread_that_waits_is_woken_by_each_kind_of_end() -> None:
    with ContextExecutor(1) as executor, ThreadPoolExecutor(3) as threads:
        for end in ("result", "exception", "cancel"):
            call = executor.submit(functions.double, 1)
            call.result()
            future: Any = type(call)(0, call.function, call.context, b"", lambda: None)  # type: ignore[attr-defined]
            waiting = threads.submit(future.result, GENEROUS_S)
            wait_until(lambda future=future: future._gate is not None, "the thread waits")
            if end == "cancel":
                assert future.cancel()
                with pytest.raises(concurrent.futures.CancelledError):
                    waiting.result(GENEROUS_S)
                continue
            assert future.set_running_or_notify_cancel()
            if end == "result":
                future.set_result(7)
                assert waiting.result(GENEROUS_S) == 7
            else:
                future.set_exception(KeyError("gone"))
                with pytest.raises(KeyError):
                    waiting.result(GENEROUS_S)


def test_as_completed_yields_each_future_once() -> None:
    with ContextExecutor(max_workers=2) as executor:
        futures = [executor.submit(functions.double, number) for number in range(50)]
        done = list(concurrent.futures.as_completed(futures, GENEROUS_S))
    assert len(done) == 50
    assert set(done) == set(futures)


def test_wait_returns_at_the_first_exception_and_the_first_completion(tmp_path: Path) -> None:
    release = tmp_path / "release"
    with ContextExecutor(max_workers=2) as executor:
        slow = executor.submit(functions.wait_for, str(release))
        failing = executor.submit(functions.divide, 1, 0)
        done, pending = concurrent.futures.wait([slow, failing], GENEROUS_S, "FIRST_EXCEPTION")
        assert (done, pending) == ({failing}, {slow})
        done, pending = concurrent.futures.wait([slow, failing], GENEROUS_S, "FIRST_COMPLETED")
        assert pending == {slow}
        release.touch()
        assert concurrent.futures.wait([slow, failing], GENEROUS_S).not_done == set()


def test_map_keeps_the_order_and_raises_where_the_failed_call_stands() -> None:
    with ContextExecutor(max_workers=2) as executor:
        assert list(executor.map(functions.add, range(300), range(300))) == [2 * number for number in range(300)]
        results = executor.map(functions.divide, [4, 4, 4], [1, 0, 2])
        assert next(results) == 4.0
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_map_times_out_while_a_call_runs(tmp_path: Path) -> None:
    release = tmp_path / "release"
    with ContextExecutor(max_workers=1) as executor:
        results = executor.map(functions.wait_for, [str(release)], timeout=0.05)
        with pytest.raises(concurrent.futures.TimeoutError):
            next(results)
        release.touch()


def test_done_callbacks_run_and_one_that_raises_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    called = threading.Event()
    with ContextExecutor(max_workers=1) as executor:
        future = executor.submit(functions.double, 1)
        future.add_done_callback(lambda _: 1 // 0)
        future.add_done_callback(lambda _: called.set())
        assert called.wait(GENEROUS_S)
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("failure", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_callback_that_raises_no_exception_but_an_exit_does_not_end_the_executor(
    failure: BaseException, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def raise_it(_: Future[Any]) -> None:
        raise failure

    called = threading.Event()
    release = tmp_path / "release"
    with ContextExecutor(max_workers=1) as executor:
        executor.submit(functions.wait_for, str(release))
        ends_well, cancelled = executor.submit(functions.double, 1), executor.submit(functions.double, 1)
        fails = executor.submit(functions.divide, 1, 0)
        for future in (ends_well, cancelled, fails):
            future.add_done_callback(raise_it)
        fails.add_done_callback(lambda _: called.set())
        with pytest.raises(type(failure)):
            cancelled.cancel()
        assert cancelled.cancelled()
        release.touch()
        assert called.wait(GENEROUS_S)
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4
    told = [record for record in caplog.records if record.message.startswith("exception calling callback for ")]
    assert [record.name for record in told] == ["concurrent.futures"] * 2


def test_a_callback_may_ask_for_the_result_of_a_call_that_has_exited() -> None:
    with ContextExecutor(max_workers=1) as executor:
        future = executor.submit(sys.exit, 3)
        future.add_done_callback(lambda done: done.result())
        assert isinstance(future.exception(GENEROUS_S), SystemExit)
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4


def test_a_callback_may_submit_further_calls() -> None:
    second: Future[Future[int]] = Future()
    with ContextExecutor(max_workers=1) as executor:
        first = executor.submit(functions.double, 1)
        first.add_done_callback(lambda done: second.set_result(executor.submit(functions.double, done.result())))
        assert second.result(GENEROUS_S).result(GENEROUS_S) == 4


def test_many_threads_may_submit_at_once() -> None:
    def submit_some(thread: int) -> int:
        futures = [executor.submit(functions.add, thread, number) for number in range(200)]
        return sum(future.result(GENEROUS_S) for future in futures)

    with ContextExecutor(max_workers=2) as executor, ThreadPoolExecutor(8) as threads:
        sums = list(threads.map(submit_some, range(8)))
    assert sums == [200 * thread + sum(range(200)) for thread in range(8)]


# --- the beginning and the end


@pytest.mark.parametrize("workers", [0, -1])
def test_max_workers_must_be_positive(workers: int) -> None:
    with pytest.raises(ValueError, match=r"^max_workers must be greater than 0$"):
        ContextExecutor(max_workers=workers)


def test_an_initializer_must_be_callable() -> None:
    with pytest.raises(TypeError, match=r"^initializer must be a callable$"):
        ContextExecutor(initializer=3)  # type: ignore[arg-type]


def test_no_call_is_taken_after_shutdown() -> None:
    executor = ContextExecutor(max_workers=1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
        executor.submit(functions.pid)
    executor.shutdown()  # a second time is allowed


def test_shutdown_waits_for_what_was_accepted() -> None:
    executor = ContextExecutor(max_workers=2)
    futures = [executor.submit(functions.double, number) for number in range(100)]
    executor.shutdown(wait=True)
    assert all(future.done() for future in futures)
    assert [future.result(0) for future in futures] == [2 * number for number in range(100)]


def test_shutdown_without_waiting_returns_at_once_and_the_calls_still_end(tmp_path: Path) -> None:
    release = tmp_path / "release"
    executor = ContextExecutor(max_workers=1)
    futures = [executor.submit(functions.wait_for, str(release)) for _ in range(3)]
    executor.shutdown(wait=False)
    assert not futures[-1].done()
    release.touch()
    assert [future.result(GENEROUS_S) for future in futures] == [str(release)] * 3
    executor.shutdown()


def test_shutdown_can_cancel_what_has_not_begun(tmp_path: Path) -> None:
    started, release = tmp_path / "started", tmp_path / "release"
    executor = ContextExecutor(max_workers=1)
    running = executor.submit(functions.announce_and_wait_for, str(started), str(release))
    queued = [executor.submit(functions.double, number) for number in range(20)]
    wait_until(started.exists, "the first call runs")
    executor.shutdown(wait=False, cancel_futures=True)
    assert concurrent.futures.wait(queued, GENEROUS_S).not_done == set()
    assert all(future.cancelled() for future in queued)
    release.touch()
    assert running.result(GENEROUS_S) == str(release)
    executor.shutdown()


@pytest.mark.parametrize("attempt", range(5))
def test_shutdown_while_the_first_process_is_being_started_leaves_nothing(attempt: int) -> None:
    executor = ContextExecutor(max_workers=2)
    futures = [executor.submit(functions.pid) for _ in range(4)]
    if attempt:
        wait_until(lambda: executor.stats().processes > 0, "a process is being started")
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() or future.result(0) for future in futures)


def test_a_call_accepted_just_before_shutdown_is_run() -> None:
    executor = ContextExecutor(max_workers=1)
    future = executor.submit(functions.double, 21)
    executor.shutdown(wait=False)
    assert future.result(GENEROUS_S) == 42
    executor.shutdown()


def test_a_request_to_close_does_not_overtake_a_call_that_was_submitted_before_it() -> None:
    executor = ContextExecutor(max_workers=1)
    futures = []

    def submit_and_shut_down() -> None:  # both arrive between two looks of the loop at its inbox
        futures.append(executor.submit(functions.double, 21))
        executor.shutdown(wait=False)

    executor._loop.call_soon(submit_and_shut_down)
    executor._loop.join()
    assert futures[0].result(0) == 42


@pytest.mark.parametrize("is_cancelling", [False, True])
def test_of_calls_submitted_while_another_thread_shuts_down_each_is_refused_or_ends(is_cancelling: bool) -> None:
    executor = ContextExecutor(max_workers=1)
    accepted: list[Future[int]] = []
    refusals: list[str] = []
    is_under_way = threading.Event()

    def submit_until_refused() -> None:
        try:
            while True:
                accepted.append(executor.submit(functions.double, 1))
                is_under_way.set()
        except RuntimeError as error:
            refusals.append(str(error))

    threads = [threading.Thread(target=submit_until_refused) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert is_under_way.wait(GENEROUS_S)
    executor.shutdown(cancel_futures=is_cancelling)
    for thread in threads:
        thread.join(GENEROUS_S)
    assert refusals == ["cannot schedule new futures after shutdown"] * 3
    assert concurrent.futures.wait(accepted, GENEROUS_S).not_done == set()


def test_an_executor_that_was_never_used_leaves_nothing() -> None:
    ContextExecutor().shutdown()
    with ContextExecutor(max_workers=3):
        pass


def test_an_executor_that_is_forgotten_ends_its_processes() -> None:
    executor = ContextExecutor(max_workers=2)
    pids = {executor.submit(functions.pid).result(GENEROUS_S)}
    pending = executor.submit(functions.double, 21)
    del executor
    assert pending.result(GENEROUS_S) == 42
    wait_until(lambda: are_gone(pids), "its processes have ended")


def test_an_interrupt_ends_the_executor_without_waiting_for_its_calls(tmp_path: Path) -> None:
    started = tmp_path / "started"
    futures = []

    def work() -> None:
        with ContextExecutor(max_workers=1) as executor:
            futures.append(executor.submit(functions.sleep_in, str(started), 60))
            futures.append(executor.submit(functions.double, 1))
            wait_until(started.exists, "the call runs")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert "shut down while the call ran" in str(futures[0].exception(0))
    assert futures[1].cancelled()
    assert are_gone({int(started.read_text())})


# --- initializers


def test_the_initializer_runs_once_in_each_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ContextExecutor(max_workers=2, initializer=functions.initialize, initargs=(str(log),)) as executor:
        pids = {executor.submit(functions.pid).result(GENEROUS_S) for _ in range(20)}
        set_ups = executor.stats().set_ups
    initialized = [int(line) for line in log.read_text().splitlines()]
    assert len(initialized) == len(set(initialized)) == set_ups
    assert pids <= set(initialized)


def test_a_failing_initializer_breaks_the_executor_for_pending_and_later_calls() -> None:
    with ContextExecutor(max_workers=1, initializer=functions.fail_to_initialize, initargs=("x",)) as executor:
        pending = [executor.submit(functions.pid) for _ in range(3)]
        for future in pending:
            with pytest.raises(BrokenExecutor, match=r"initializer failed in a context process: ValueError: .* x"):
                future.result(GENEROUS_S)
        error = pending[0].exception()
        assert isinstance(error, InitializerError)
        assert isinstance(error.__cause__, ValueError)
        assert "raise ValueError" in str(error.__cause__.__cause__)
        with pytest.raises(BrokenExecutor):
            executor.submit(functions.pid)


# --- what stays in memory


def test_a_process_keeps_no_reference_to_the_arguments_of_calls_that_are_done() -> None:
    with ContextExecutor(max_workers=1) as executor:
        executor.submit(functions.remember_weakly, functions.Thing()).result(GENEROUS_S)
        assert executor.submit(functions.still_referenced).result(GENEROUS_S) == 0


def test_the_client_keeps_no_reference_to_a_call_that_is_done() -> None:
    with ContextExecutor(max_workers=1) as executor:
        thing, caller = functions.Thing(), functions.Caller()
        references = [weakref.ref(thing), weakref.ref(caller)]
        executor.submit(caller.call).result(GENEROUS_S)
        future = executor.submit(functions.pickled_size, thing)
        future.result(GENEROUS_S)
        result = executor.submit(functions.double, [functions.Thing()]).result(GENEROUS_S)
        references.append(weakref.ref(result[0]))
        del thing, caller, future, result
        wait_until(lambda: not any(reference() for reference in references), "nobody holds them any more")


def test_a_future_that_is_kept_keeps_no_arguments() -> None:
    with ContextExecutor(1) as executor:
        futures: list[Any] = [
            executor.submit(functions.double, "x" * 100_000),
            executor.submit(functions.divide, 1, 0),
        ]
        concurrent.futures.wait(futures, GENEROUS_S)
        assert [len(future.payload) for future in futures] == [0, 0]
        assert (len(futures[0].result()), type(futures[1].exception())) == (200_000, ZeroDivisionError)


def test_errors_survive_pickling() -> None:
    with ContextExecutor(max_workers=1) as executor:
        error = executor.submit(functions.raise_unbuildable).exception(GENEROUS_S)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
