"""Isolated calls: whatever happens in the child comes back as what it is, without a hang."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from envpack_monitor import LimitExceeded, Limits, ProcessExited, ProcessKilled, Usage, monitor
from envpack_monitor.errors import MonitorError, RemoteTraceback, ResultNotPicklable
from tests.monitor.helpers import MB, is_alive, touch, wait_until
from tests.tblib_installed import exceptions_by_tblib

pytestmark = pytest.mark.timeout(60)


class Stubborn(Exception):
    """Can be pickled, and not loaded again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("no")


def isolated(function: Any, **options: Any) -> Any:
    return monitor(isolate="fork", **options)(function)


def test_result_of_ten_megabytes_comes_back_whole() -> None:
    data = os.urandom(10 * MB)
    result = isolated(lambda: data[::-1])()
    assert hashlib.sha256(result).digest() == hashlib.sha256(data[::-1]).digest()


def test_exception_comes_back_with_the_traceback_of_the_child_as_its_cause() -> None:
    def divide() -> float:
        return 1 / 0

    with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
        isolated(divide)()
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in divide" in str(caught.value.__cause__)


def test_os_exit_comes_back_as_the_status_it_gave() -> None:
    usages: list[Usage] = []
    with pytest.raises(ProcessExited, match="status 5") as caught:
        isolated(lambda: os._exit(5), callback=usages.append)()
    assert caught.value.code == usages[0].exit_status == 5
    assert usages[0].quality_of("peak_memory_bytes") == "upper bound"


def test_sigkill_comes_back_as_the_signal() -> None:
    usages: list[Usage] = []
    with pytest.raises(ProcessKilled, match="9 \\(SIGKILL\\)") as caught:
        isolated(lambda: os.kill(os.getpid(), signal.SIGKILL), callback=usages.append)()
    assert caught.value.signal == usages[0].signal == signal.SIGKILL


def test_system_exit_comes_back_as_system_exit() -> None:
    def leave() -> None:
        raise SystemExit(7)

    with pytest.raises(SystemExit) as caught:
        isolated(leave)()
    assert caught.value.code == 7


def test_what_other_libraries_tell_all_picklers_takes_nothing_from_an_error() -> None:
    class Local(Exception):
        """Of no module: cloudpickle carries it."""

    def leave(error: BaseException) -> None:
        raise error

    with exceptions_by_tblib():
        for error, kind in ((SystemExit(7), SystemExit), (OSError(2, "none", "file"), FileNotFoundError)):
            with pytest.raises(kind) as caught:
                isolated(leave)(error)
            assert vars(caught.value) == vars(error)
            assert str(caught.value) == str(error)
            assert getattr(caught.value, "code", None) == getattr(error, "code", None)
        with pytest.raises(Exception, match=r"^why$") as caught_by_value:
            isolated(leave)(Local("why"))
        assert type(caught_by_value.value).__name__ == "Local"


def test_result_that_cannot_be_pickled_is_an_error_that_names_its_type() -> None:
    with pytest.raises(ResultNotPicklable, match="the result of type 'lock' cannot be pickled"):
        isolated(lambda: threading.Lock())()


def test_exception_that_cannot_be_loaded_is_an_error_with_the_remote_traceback() -> None:
    def fail() -> None:
        raise Stubborn(1, 2)

    with pytest.raises(ResultNotPicklable, match="cannot be loaded") as caught:
        isolated(fail)()
    assert "Stubborn" in str(caught.value.__cause__)


def test_spike_of_twenty_milliseconds_is_exact_in_the_child() -> None:
    @monitor(isolate="fork", return_usage=True)
    def spike() -> int:
        return len(touch(200 * MB))

    result, usage = spike()
    assert result == 200 * MB
    assert abs(usage.memory_difference_bytes - 200 * MB) < MB
    assert usage.quality == "exact"


def test_caller_keeps_its_memory_and_its_state() -> None:
    state = [1]
    isolated(lambda: state.append(2))()
    assert state == [1]


def test_memory_above_the_limit_is_ended_while_it_grows() -> None:
    def grow() -> None:
        kept = []
        while True:
            kept.append(touch(10 * MB))
            time.sleep(0.002)

    limit = 300 * MB
    with pytest.raises(LimitExceeded) as caught:
        isolated(grow, limits=Limits(memory_bytes=limit), category="grow")()
    assert caught.value.resource == "memory"
    assert limit < caught.value.measured < 4 * limit
    assert caught.value.category == "grow"


def test_spike_too_short_to_catch_is_reported_from_the_exact_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envpack_monitor.isolated.isolate.LOOK_S", 30.0)
    with pytest.raises(LimitExceeded) as caught:
        isolated(lambda: len(touch(200 * MB)), limits=Limits(memory_bytes=100 * MB))()
    assert caught.value.measured > 200 * MB


def test_wall_limit_kills_the_tree_with_all_grandchildren(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def start_daemons() -> None:
        script = f"echo $$ >> {pids}; setsid sh -c 'echo $$ >> {pids}; exec sleep 600' & sleep 600"
        subprocess.Popen(["sh", "-c", script])
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                with pids.open("a") as file:
                    file.write(f"{os.getpid()}\n")
                time.sleep(600)
            os._exit(0)
        time.sleep(600)

    # Long enough for three processes to start on a busy machine, a fraction of what they would sleep.
    start = time.monotonic()
    with pytest.raises(LimitExceeded, match=r"wall limit exceeded: 3(\.0)? s allowed"):
        isolated(start_daemons, limits=Limits(wall_s=3))()
    assert time.monotonic() - start < 60
    numbers = [int(word) for word in pids.read_text().split()]
    assert len(numbers) == 3
    wait_until(lambda: not any(map(is_alive, numbers)), "no survivor")


def test_cpu_and_process_limits_are_kept() -> None:
    def burn() -> None:
        while True:
            pass

    def breed() -> None:
        for _ in range(8):
            subprocess.Popen(["sleep", "600"])
        time.sleep(600)

    with pytest.raises(LimitExceeded, match="cpu limit exceeded"):
        isolated(burn, limits=Limits(cpu_s=0.2))()
    with pytest.raises(LimitExceeded, match=r"processes limit exceeded: 4 allowed, [5-9] used"):
        isolated(breed, limits=Limits(processes=4))()


def test_what_a_call_leaves_behind_ends_with_it() -> None:
    def leave_one_behind() -> int:
        return subprocess.Popen(["setsid", "sleep", "600"]).pid

    pid = isolated(leave_one_behind)()
    wait_until(lambda: not is_alive(pid), "the process that was left behind has ended")


def test_grandchild_that_holds_the_pipe_open_does_not_make_the_caller_wait() -> None:
    def fork_and_die() -> None:
        if os.fork() == 0:
            time.sleep(600)
        os._exit(3)

    start = time.monotonic()
    with pytest.raises(ProcessExited):
        isolated(fork_and_die)()
    assert time.monotonic() - start < 10


def test_isolated_calls_from_several_threads_do_not_mix() -> None:
    work = isolated(lambda number: (number, os.getpid()))
    found: list[tuple[int, int]] = []
    threads = [threading.Thread(target=lambda n=n: found.append(work(n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for number, _ in found) == list(range(8))
    assert len({pid for _, pid in found} | {os.getpid()}) == 9


def test_threads_fork_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, fork, overlaps = threading.Lock(), os.fork, []

    def slow_fork() -> int:
        if not busy.acquire(blocking=False):
            overlaps.append(threading.get_ident())
            return fork()
        try:
            time.sleep(0.01)
            return fork()
        finally:
            busy.release()

    monkeypatch.setattr(os, "fork", slow_fork)
    work = isolated(os.getpid, history=False)
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == []


@pytest.mark.slow
def test_hundred_isolated_calls_leave_no_descriptor() -> None:
    work = isolated(lambda: None, history=False)
    work()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        work()
    assert len(os.listdir("/proc/self/fd")) == before


def test_coroutine_function_cannot_be_isolated() -> None:
    async def work() -> None:
        pass

    with pytest.raises(MonitorError, match="cannot be isolated"):
        isolated(work)
