"""Isolated calls in a fresh interpreter: nothing of this process but what is sent, and the same guarantees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from envpack_monitor import LimitExceeded, Limits, ProcessExited, ProcessKilled
from envpack_monitor.errors import CallNotPicklable, RemoteTraceback, ResultNotPicklable
from envpack_monitor.isolated.isolate import Outcome, run_isolated
from tests.monitor.helpers import MB, is_alive, touch, wait_until

pytestmark = pytest.mark.timeout(120)
STATE = ["as imported"]


def spawned(function: Any, *args: Any, **options: Any) -> Outcome:
    return run_isolated(function, args, method="spawn", **options)


def state_and_pid() -> tuple[list[str], int]:
    return STATE, os.getpid()


def touched(size: int) -> int:
    return len(touch(size))


def end(how: str) -> Any:
    match how:
        case "raise":
            raise ZeroDivisionError("from the fresh one")
        case "leave":
            raise SystemExit(7)
        case "exit":
            os._exit(5)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
    return threading.Lock()


def hide_and_sleep(pids: str) -> None:
    subprocess.Popen(["setsid", "sh", "-c", f"echo $$ > {pids}; exec sleep 600"])
    time.sleep(600)


def test_fresh_interpreter_knows_what_was_imported_and_not_what_changed() -> None:
    STATE.append("changed here")
    try:
        outcome = spawned(state_and_pid)
    finally:
        STATE.remove("changed here")
    assert outcome.result[0] == ["as imported"]
    assert outcome.result[1] != os.getpid()
    assert outcome.figures["wall_s"] < 1


def test_closure_and_large_arguments_travel_and_the_peak_is_the_calls_own() -> None:
    ballast = bytearray(300 * MB)
    size = 50 * MB
    data = bytes(3 * MB)
    outcome = spawned(lambda sent: (len(sent), touched(size)), data)
    assert outcome.result == (len(data), size)
    peak = outcome.figures["peak_memory_bytes"]
    assert abs(peak - outcome.figures["memory_before_bytes"] - size) < 2 * MB
    assert peak < len(ballast)


def test_every_end_comes_back_as_what_it_is() -> None:
    errors = {how: spawned(end, how).error for how in ("raise", "leave", "exit", "kill", "lock")}
    kinds = {how: type(error) for how, error in errors.items()}
    assert kinds == {
        "raise": ZeroDivisionError,
        "leave": SystemExit,
        "exit": ProcessExited,
        "kill": ProcessKilled,
        "lock": ResultNotPicklable,
    }
    assert isinstance(errors["raise"].__cause__, RemoteTraceback)  # type: ignore[union-attr]
    assert "in end" in str(errors["raise"].__cause__)  # type: ignore[union-attr]


def test_what_cannot_travel_is_named_before_anything_starts() -> None:
    with pytest.raises(CallNotPicklable, match=r"cannot be pickled.*isolate='fork'"):
        spawned(len, threading.Lock())


def test_limits_end_the_whole_tree_and_time_begins_with_the_call(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    outcome = spawned(hide_and_sleep, str(pids), limits=Limits(wall_s=3), category="hide")
    assert isinstance(outcome.error, LimitExceeded)
    assert (outcome.error.resource, outcome.error.category) == ("wall", "hide")
    wait_until(lambda: not is_alive(int(pids.read_text())), "no survivor")
    quick = spawned(state_and_pid, limits=Limits(wall_s=30, memory_bytes=2000 * MB))
    assert quick.error is None


SCRIPT = """
import functools, sys
from envpack_monitor.isolated.isolate import run_isolated

def decorated(function):
    @functools.wraps(function)
    def front(*args):
        return "front", function(*args)
    return front

@decorated
def triple(number):
    return 3 * number

if __name__ == "__main__":
    print(run_isolated(triple.__wrapped__, (7,), method="spawn").result)
    print(run_isolated(triple, (7,), method="spawn").result)
"""


def test_function_of_the_script_is_found_also_behind_its_decorator(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    # A file beside the script must not be taken for a module that the start needs.
    (tmp_path / "marshal.py").write_text("raise SystemExit('wrong')")
    (tmp_path / "envpack_monitor.py").write_text("raise SystemExit('wrong')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for flags in (["-P"], ["-P", "-X", "dev"]):
        command = [sys.executable, *flags, str(script)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        assert (done.stdout, done.stderr) == ("21\n('front', 21)\n", "")


def test_function_of_a_console_travels_by_value() -> None:
    program = SCRIPT.replace("functools.wraps(function)", "(lambda front: front)").replace(".__wrapped__", "")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.stdout, done.stderr) == ("('front', 21)\n('front', 21)\n", "")
