"""Calls that end their process, processes that end under their calls, and clients that end under both."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from envpack_executor import ContextExecutor
from envpack_executor.errors import ProcessExitedError, ProcessLostError, ProcessStartError
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, are_gone, descendants, is_alive, start_script, wait_until


def test_a_call_that_exits_is_told_with_its_exit_status_and_not_tried_again(tmp_path: Path) -> None:
    with ContextExecutor(max_workers=1) as executor:
        with pytest.raises(ProcessExitedError, match="call of 'leave' ended its process with exit status 3") as caught:
            executor.submit(functions.leave, 3).result(GENEROUS_S)
        assert caught.value.exit_status == 3
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4
        assert executor.stats().set_ups == 2


def test_a_call_that_kills_its_process_is_given_back_after_three_tries_with_the_story_of_each() -> None:
    with ContextExecutor(max_workers=1) as executor:
        with pytest.raises(ProcessLostError) as caught:
            executor.submit(functions.kill_self).result(GENEROUS_S)
        assert caught.value.losses == ("killed by signal 9 on this machine",) * 3
        assert "call of 'kill_self' lost its process 3 time(s)" in str(caught.value)
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4


def test_the_number_of_tries_can_be_chosen() -> None:
    with ContextExecutor(max_workers=1, max_tries=1) as executor:
        error = executor.submit(functions.kill_self).exception(GENEROUS_S)
        assert isinstance(error, ProcessLostError)
        assert len(error.losses) == 1


def test_a_call_whose_first_try_is_killed_succeeds_at_the_second(tmp_path: Path) -> None:
    with ContextExecutor(max_workers=1) as executor:
        assert executor.submit(functions.kill_self_once, str(tmp_path / "marker")).result(GENEROUS_S) == "survived"


def test_a_segmentation_fault_is_told_by_its_signal() -> None:
    with ContextExecutor(max_workers=1, max_tries=1) as executor:
        error = executor.submit(functions.read_nowhere).exception(GENEROUS_S)
        assert isinstance(error, ProcessLostError)
        assert error.losses == (f"killed by signal {signal.SIGSEGV.value} on this machine",)


def test_a_process_killed_between_calls_is_replaced(tmp_path: Path) -> None:
    with ContextExecutor(max_workers=1) as executor:
        first = executor.submit(functions.pid).result(GENEROUS_S)
        os.kill(first, signal.SIGKILL)
        second = executor.submit(functions.pid).result(GENEROUS_S)
        assert second != first
        assert not is_alive(first)


def test_calls_of_the_same_batch_survive_the_one_that_ends_their_process() -> None:
    with ContextExecutor(max_workers=2) as executor:
        for number in range(300):  # so that calls are known to be short and travel in batches
            executor.submit(functions.double, number)
        before = [executor.submit(functions.double, number) for number in range(200)]
        culprits = [executor.submit(functions.leave, 3), executor.submit(functions.kill_self)]
        after = [executor.submit(functions.double, number) for number in range(200)]
        for futures in (before, after):
            assert [future.result(GENEROUS_S) for future in futures] == [2 * number for number in range(200)]
        assert isinstance(culprits[0].exception(GENEROUS_S), ProcessExitedError)
        assert isinstance(culprits[1].exception(GENEROUS_S), ProcessLostError)


def test_a_function_that_kills_every_process_that_receives_it_is_given_back() -> None:
    with ContextExecutor(max_workers=1) as executor:
        error = executor.submit(functions.EndsWhoeverLearnsIt()).exception(GENEROUS_S)
        assert isinstance(error, ProcessLostError)
        assert len(error.losses) == 3
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4


def test_what_a_call_started_ends_with_its_process() -> None:
    with ContextExecutor(max_workers=1) as executor:
        pid, grandchild = executor.submit(functions.leave_a_grandchild).result(GENEROUS_S)
        assert is_alive(grandchild)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: are_gone([grandchild]), "the grandchild has ended with its parent")
        _, grandchild = executor.submit(functions.leave_a_grandchild).result(GENEROUS_S)
    wait_until(lambda: are_gone([grandchild]), "what the call has started has ended")


def test_a_set_up_that_ends_its_process_is_given_up_after_three_starts() -> None:
    from envpack_executor import task

    with ContextExecutor(max_workers=1) as executor:
        future = executor.submit(task(context=functions.leave_in_set_up)(functions.pid))
        with pytest.raises(
            ProcessStartError, match="'leave_in_set_up' could be started after 3 tries: exited with status 5"
        ):
            future.result(GENEROUS_S)


CLIENT = """
    import sys
    from envpack_executor import ContextExecutor
    from tests.executor import functions
    with ContextExecutor(max_workers=2) as executor:
        sleeping = executor.submit(functions.sleep_in, sys.argv[1], 60)
        spinning = executor.submit(functions.spin, sys.argv[2])
        print("submitted")
        spinning.result()
"""


@pytest.fixture
def busy_client(tmp_path: Path) -> Any:
    """A client of its own, two calls of it that would take forever, and all processes that belong to it."""
    calls = [tmp_path / "sleeping", tmp_path / "spinning"]
    with start_script(tmp_path, CLIENT, *map(str, calls)) as client:
        wait_until(lambda: all(call.exists() and call.read_text() for call in calls), "both calls run")
        yield client, descendants(client.pid)
        client.kill()


def test_the_processes_of_a_client_that_is_killed_end_whatever_they_are_doing(busy_client: Any) -> None:
    client, pids = busy_client
    assert len(pids) == 2
    client.kill()
    wait_until(lambda: are_gone(pids), "sleeping and spinning process have ended", deadline_s=5)


def test_ctrl_c_ends_a_client_and_its_calls_within_seconds(busy_client: Any, tmp_path: Path) -> None:
    client, pids = busy_client
    client.send_signal(signal.SIGINT)
    assert client.wait(GENEROUS_S) in (1, -signal.SIGINT, 130)
    assert are_gone(pids)
    assert (tmp_path / "client.err").read_text().rstrip().endswith("KeyboardInterrupt")


def test_a_client_that_is_stopped_and_goes_on_loses_nothing(tmp_path: Path) -> None:
    script = """
        from envpack_executor import ContextExecutor
        from tests.executor import functions
        with ContextExecutor(max_workers=2) as executor:
            print("ready", executor.submit(functions.double, 1).result(), flush=True)
            futures = [executor.submit(functions.double, number) for number in range(20_000)]
            assert [future.result() for future in futures] == [2 * number for number in range(20_000)]
        print("done")
    """
    with start_script(tmp_path, script) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready 2\n"
        client.send_signal(signal.SIGSTOP)
        client.send_signal(signal.SIGCONT)
        printed, _ = client.communicate(timeout=GENEROUS_S)
    assert (client.returncode, printed) == (0, "done\n"), (tmp_path / "client.err").read_text()
