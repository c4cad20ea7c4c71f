"""An out-of-memory kill by the kernel is told apart from any other SIGKILL, and a limit of disk from all others."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envpack_monitor import LimitExceeded, Limits, ProcessKilled, run_command
from envpack_monitor.errors import FormatError, MechanismError
from envpack_monitor.isolated.isolate import run_isolated
from envpack_monitor.trees.cgroup import POOL, Cgroup
from envpack_monitor.trees.kills import Kills
from envpack_monitor.trees.nvml import Gpus, gpus
from tests.monitor.helpers import MB

GROW = f"import mmap; m = mmap.mmap(-1, {300 * MB})\nfor i in range(0, {300 * MB}, 4096): m[i] = 1"
IN_A_SMALL_GROUP = f"""
import json, sys
from envpack_monitor import run_command
from envpack_monitor.isolated.isolate import run_isolated
grow = {GROW!r}
call = run_isolated(lambda: exec(grow)).error
command = run_command([sys.executable, "-c", grow], mechanism="proc", history=False)
print(json.dumps([type(call).__name__, call.is_out_of_memory, str(call), command.is_out_of_memory]))
"""


@pytest.fixture
def group() -> Any:
    try:
        lent = POOL.take()
    except MechanismError as error:
        pytest.skip(str(error))
    yield lent
    POOL.give(lent)


def test_kill_by_the_kernel_is_known_without_a_group_of_ones_own(group: Cgroup) -> None:
    group.begin(150 * MB)
    command = [sys.executable, "-c", IN_A_SMALL_GROUP]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=group.join, env=environment, check=False)
    kind, of_call, text, of_command = json.loads(done.stdout)
    assert (kind, of_call, of_command) == ("ProcessKilled", True, True)
    assert "9 (SIGKILL) (the machine was out of memory)" in text


def test_kill_at_the_limit_of_its_group_is_the_limit_and_any_other_kill_is_not(group: Cgroup) -> None:
    grown = run_command([sys.executable, "-c", GROW], limits=Limits(memory_bytes=100 * MB), mechanism="cgroup")
    assert grown.is_out_of_memory
    assert grown.error is not None
    assert grown.error.resource == "memory"
    killed = run_command(["sh", "-c", "kill -9 $$"], limits=Limits(memory_bytes=100 * MB), mechanism="cgroup")
    assert (killed.error, killed.is_out_of_memory, killed.usage.signal) == (None, False, signal.SIGKILL)
    for _ in range(20):
        kills = Kills()
        error = run_isolated(lambda: os.kill(os.getpid(), signal.SIGKILL), limits=Limits(memory_bytes=10**12)).error
        assert isinstance(error, ProcessKilled)
        if not kills.by_kernel():
            break  # otherwise something else on this machine was killed meanwhile, and nobody can tell
    assert not error.is_out_of_memory


def test_disk_limit_of_an_isolated_call_is_the_growth_of_its_folder(tmp_path: Path) -> None:
    def fill() -> None:
        with (tmp_path / "data").open("wb") as file:
            while True:
                file.write(bytes(100_000))
                file.flush()

    outcome = run_isolated(fill, limits=Limits(disk_bytes=5 * MB), folder=tmp_path, category="fill")
    assert isinstance(outcome.error, LimitExceeded)
    assert (outcome.error.resource, outcome.error.allowed) == ("disk", 5 * MB)
    assert outcome.figures["disk_bytes"] > 5 * MB
    with pytest.raises(FormatError, match="disk needs a folder"):
        run_isolated(fill, limits=Limits(disk_bytes=1))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_result_of_a_gigabyte_comes_back_whole() -> None:
    outcome = run_isolated(lambda: b"0123456789" * 10**8, limits=Limits(memory_bytes=1500 * MB, wall_s=250))
    # What it takes to send the result is not the call's: its copy would be above the limit.
    assert outcome.error is None
    assert (len(outcome.result), outcome.result[:10], outcome.result[-10:]) == (10**9, b"0123456789", b"0123456789")


class FakeDriver:
    """Answers as the driver does: two processes on the first device, one that it knows nothing of on the second."""

    def nvmlDeviceGetComputeRunningProcesses_v3(self, device: int, count: Any, found: Any) -> int:
        answers = {1: [(os.getpid(), 700), (1, 5000)], 2: [(os.getpid(), (1 << 64) - 1)]}[device]
        ctypes.cast(count, ctypes.POINTER(ctypes.c_uint))[0] = len(answers)
        for place, answer in zip(found, answers, strict=False):
            place.pid, place.used = answer
        return 0


def test_gpu_memory_is_that_of_the_processes_that_are_asked_about() -> None:
    assert Gpus(FakeDriver(), [1, 2]).used_by([os.getpid()]) == 700  # type: ignore[list-item]
    found = gpus()
    assert found is None or len(found) > 0
