"""Looking at what runs already: it is left as it is, and its end ends the looking."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from envpack_monitor import History, monitor_pid
from envpack_monitor.errors import ProcessNotFoundError
from tests.monitor.helpers import MB, is_alive, wait_until

WORK = f"""
import mmap, subprocess, sys, time
sys.stdin.readline()
burn = "import time\\nwhile time.process_time() < 0.3: pass"
subprocess.run([sys.executable, "-c", burn])
m = mmap.mmap(-1, {60 * MB})
for i in range(0, {60 * MB}, 4096): m[i] = 1
time.sleep(0.4)
"""


def test_process_is_looked_at_until_it_ends(tmp_path: Path, remembered: Callable[[], History]) -> None:
    process = subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE, text=True)
    timer = threading.Timer(0.3, lambda: process.communicate("go\n"))
    timer.start()
    usage = monitor_pid(process.pid, category="work", series=tmp_path / "s.csv")
    timer.join()
    assert process.returncode == 0
    assert usage.peak_memory_bytes is not None
    assert usage.memory_before_bytes is not None
    assert abs(usage.peak_memory_bytes - usage.memory_before_bytes - 60 * MB) < 25 * MB
    assert 0.28 < (usage.cpu_s or 0) < 2
    assert (usage.processes_max, usage.processes_total) == (2, 2)
    assert usage.quality_of("peak_memory_bytes").startswith("sampled(")
    assert len((tmp_path / "s.csv").read_text().splitlines()) > 4
    assert len(remembered().calls("work")) == 1


def test_time_that_is_over_leaves_the_process_alone_and_the_history_empty() -> None:
    process = subprocess.Popen(["sleep", "600"])
    command = [sys.executable, "-m", "envpack", "monitor", "--pid", str(process.pid), "--for", "200ms", "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = json.loads(done.stdout)
        assert (done.returncode, found["pid"], found["usage"]["category"]) == (0, process.pid, "sleep")
        assert 0.2 <= found["usage"]["wall_s"] < 20
        assert is_alive(process.pid)
        assert History().categories() == []
    finally:
        process.kill()
        process.wait()


def test_ctrl_c_ends_the_looking_with_what_was_seen_and_leaves_the_process_alone(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "600"])
    series = tmp_path / "s.csv"
    command = [sys.executable, "-m", "envpack", "monitor", "--pid", str(process.pid), "--series", str(series)]
    looking = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: series.exists() and series.read_text().count("\n") > 2, "it is looked at")
        looking.send_signal(signal.SIGINT)
        assert "was looked at" in looking.communicate(timeout=30)[1]
        assert looking.returncode == 0
        assert is_alive(process.pid)
    finally:
        process.kill()
        process.wait()


def test_process_that_is_not_there_or_has_ended_is_named() -> None:
    with pytest.raises(ProcessNotFoundError, match="no process 4194304"):
        monitor_pid(4194304)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessNotFoundError, match="has ended already"):
        monitor_pid(pid)
    os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "one of COMMAND, --pid PID and --explain expected"),
        (("--pid", "1", "true"), "one of COMMAND, --pid PID and --explain expected"),
        (("--for", "1s", "true"), "--for needs --pid"),
        (("--pid", "1", "--limits", "wall=1s"), "--pid ends nothing"),
        (("--interval", "fast", "true"), "'fast' is not a time"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(words: tuple[str, ...], text: str) -> None:
    command = [sys.executable, "-m", "envpack", "monitor", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert text in done.stderr


def test_explanation_names_every_mechanism_with_its_reason_and_what_is_taken() -> None:
    command = [sys.executable, "-m", "envpack", "monitor", "--explain"]
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    names = [each["name"] for each in found["mechanisms"]]
    assert names == ["bracket", "cgroup", "subreaper", "births", "pss", "nvml"]
    for each in found["mechanisms"]:
        assert each["detail"]
        assert each["figures"]
    available = {each["name"] for each in found["mechanisms"] if each["is_available"]}
    assert set(found["chosen"].values()) <= available
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(name in text for name in names)
