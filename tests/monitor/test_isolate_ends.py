"""What an isolated call leaves behind ends with it, however it ended itself and wherever it hid."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from envpack_monitor import ProcessExited, ProcessKilled, monitor
from envpack_monitor.isolated.isolate import run_isolated
from envpack_monitor.trees.marks import new_mark
from tests.monitor.helpers import is_alive, wait_until

pytestmark = pytest.mark.timeout(60)


def start_daemon(pids: Path) -> None:
    """Start a process as daemons do: two forks, a session of its own, no descriptor of the caller's."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 256)
            with pids.open("a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(600)
        os._exit(0)
    os.wait()
    wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"), "the daemon has begun")


def start_program_of_its_own_session(pids: Path) -> None:
    script = f"echo $$ >> {pids}; exec sleep 600"
    subprocess.Popen(["setsid", "sh", "-c", script], env={})
    wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"), "the program has begun")


@pytest.mark.parametrize("start", [start_daemon, start_program_of_its_own_session])
@pytest.mark.parametrize("end", ["return", "raise", "os._exit", "SIGKILL", "SIGTERM"])
def test_daemon_does_not_survive_the_call_that_started_it(start: Any, end: str, tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def work() -> None:
        start(pids)
        if end == "raise":
            raise OSError
        if end == "os._exit":
            os._exit(3)
        if end != "return":
            os.kill(os.getpid(), signal.Signals[end])

    error = run_isolated(work).error
    expected = {"return": type(None), "raise": OSError, "os._exit": ProcessExited}
    assert isinstance(error, expected.get(end, ProcessKilled))
    numbers = [int(word) for word in pids.read_text().split()]
    assert numbers
    wait_until(lambda: not any(map(is_alive, numbers)), "no survivor")


def test_daemon_of_a_call_inside_a_call_ends_with_the_outer_one(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def inside() -> None:
        start_daemon(pids)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)

    assert isinstance(run_isolated(lambda: run_isolated(inside)).error, ProcessKilled)
    wait_until(lambda: not is_alive(int(pids.read_text())), "no survivor")


def test_mark_is_handed_down_and_found_by_its_number_alone() -> None:
    mark, other = new_mark(), new_mark()
    before = resource.getrlimit(10)
    program = [sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '600'])"]
    process = subprocess.Popen(program, preexec_fn=mark.put_on)
    try:
        wait_until(lambda: len(list(mark.bearers())) == 2, "both bear the mark")
        assert process.pid in mark.bearers()
        assert list(other.bearers()) == []
        assert mark.end_bearers() >= 2
        assert process.wait(20) == -signal.SIGKILL
    finally:
        process.kill()
    assert resource.getrlimit(10) == before


def test_process_that_the_call_forked_and_that_comes_back_gives_no_second_result() -> None:
    def fork_and_return() -> str:
        return "child" if os.fork() == 0 else str(os.wait()[1])

    def fork_and_leave() -> int:
        if os.fork() == 0:
            raise SystemExit(3)
        return os.waitstatus_to_exitcode(os.wait()[1])

    assert run_isolated(fork_and_return).result == "0"
    assert run_isolated(fork_and_leave).result == 3


def test_monitored_call_inside_an_isolated_one_hides_no_peak_of_it() -> None:
    from tests.monitor.helpers import MB, touch

    @monitor(history=False)
    def nothing() -> None:
        pass

    def work() -> None:
        touch(150 * MB).close()
        nothing()
        touch(100 * MB).close()
        nothing()

    figures = run_isolated(work).figures
    assert abs(figures["peak_memory_bytes"] - figures["memory_before_bytes"] - 150 * MB) < 2 * MB
