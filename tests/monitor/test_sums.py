"""Calls that come fast: sums that are exact, a sample of rows, and counters that are read later without lying."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envpack_monitor import History, HistoryWriter, Usage, monitor
from envpack_monitor.calls.counters import CALM
from tests.monitor.helpers import MB, touch

Remembered = Callable[[], History]

COUNTED = ("bytes_read", "bytes_written")


def summed(calls: list[Usage]) -> list[Usage]:
    return [call for call in calls if call.calls > 1]


def test_calls_that_come_fast_are_all_in_the_sums_and_some_are_rows(remembered: Remembered) -> None:
    @monitor(category="fast")
    def work() -> None:
        pass

    for _ in range(5_000):
        work()
    calls = remembered().calls("fast")
    assert sum(call.calls for call in calls) == 5_000
    assert 100 <= len(calls) < 1_000
    assert summed(calls)
    assert {call.quality for call in calls} <= {"exact"} | {call.quality for call in calls if "bound" in call.quality}


def test_up_to_a_hundred_calls_a_second_have_a_row_each(remembered: Remembered) -> None:
    @monitor(category="slow")
    def work() -> None:
        pass

    for _ in range(100):
        work()
    assert [call.calls for call in remembered().calls("slow")] == [1] * 100


def test_every_call_has_a_row_where_the_settings_ask_for_it(
    remembered: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVPACK_HISTORY_ROWS", "0")

    @monitor(category="each")
    def work() -> None:
        pass

    for _ in range(2_000):
        work()
    assert [call.calls for call in remembered().calls("each")] == [1] * 2_000


def test_sums_hold_the_processor_time_and_the_largest_peak_of_all(remembered: Remembered) -> None:
    @monitor(category="work")
    def work(number: int) -> None:
        if number == 700:
            touch(60 * MB)
        start = time.thread_time()
        while time.thread_time() - start < 0.0002:
            pass

    start = time.thread_time()
    for number in range(1_000):
        work(number)
    total_s = time.thread_time() - start
    calls = remembered().calls("work")
    cpu_s = sum(call.cpu_s or 0.0 for call in calls)
    assert 0.2 < cpu_s <= total_s
    largest = max(calls, key=lambda call: call.peak_memory_bytes or 0)
    assert abs((largest.memory_difference_bytes or 0) - 60 * MB) < MB


def test_calls_that_fail_have_sums_of_their_own(remembered: Remembered) -> None:
    @monitor(category="mixed")
    def work(number: int) -> None:
        if number % 2:
            raise KeyError(number)

    for number in range(2_000):
        try:
            work(number)
        except KeyError:
            continue
    calls = remembered().calls("mixed")
    assert sum(call.calls for call in calls if call.exception == "KeyError") == 1_000
    assert sum(call.calls for call in calls if call.exception is None) == 1_000


def test_bytes_of_each_call_are_counted_however_fast_they_come(tmp_path: Path, remembered: Remembered) -> None:
    @monitor(category="writes")
    def work() -> None:
        os.write(file, b"x" * 100)

    file = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    for _ in range(1_000):
        work()
    os.close(file)
    calls = remembered().calls("writes")
    assert sum(call.bytes_written or 0 for call in calls) == 100_000
    assert all(call.quality_of("bytes_written") == "exact" for call in calls)


def test_bytes_between_calls_are_not_called_exact_figures_of_the_calls(tmp_path: Path, remembered: Remembered) -> None:
    """Quick calls that move nothing leave the counters unread; what somebody else moves then must not be theirs."""

    @monitor(category="quiet")
    def work() -> None:
        pass

    file = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    for number in range(3_000):
        work()
        if number % 50 == 0:
            os.write(file, b"x" * 1_000)
    os.close(file)
    for call in remembered().calls("quiet"):
        for name in COUNTED:
            assert getattr(call, name) == 0 or call.quality_of(name) == "upper bound"


def test_call_that_writes_after_many_that_did_not_is_never_silently_left_out(
    tmp_path: Path, remembered: Remembered
) -> None:
    @monitor(category="seldom")
    def work(number: int) -> None:
        if number % (10 * CALM) == 0:
            os.write(file, b"x" * 1_000)

    file = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    for number in range(1, 60 * CALM + 1):
        work(number)
    os.close(file)
    calls = remembered().calls("seldom")
    written = sum(call.bytes_written or 0 for call in calls)
    doubts = [call for call in calls if call.quality_of("bytes_written") != "exact"]
    assert written == 6_000 or doubts
    assert sum(call.bytes_written or 0 for call in calls if call not in doubts) <= 6_000


def test_bytes_that_the_history_itself_writes_belong_to_no_call(tmp_path: Path) -> None:
    usages: list[Usage] = []
    with HistoryWriter(History(tmp_path / "h.sqlite"), linger_s=0.001) as writer:

        @monitor(category="beside", history=writer, callback=usages.append)
        def work() -> None:
            deadline = time.monotonic() + 0.02
            while time.monotonic() < deadline:
                os.getpid()

        for _ in range(10):
            work()
    # Where the writer never pauses, they are unknown.
    assert {(usage.bytes_read, usage.bytes_written) for usage in usages} <= {(0, 0), (None, None)}


def test_processor_time_of_a_child_is_in_the_call_that_waited_for_it(remembered: Remembered) -> None:
    @monitor(category="parent")
    def work(number: int) -> None:
        if number == 300:
            subprocess.run(["sh", "-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"], check=True)

    for number in range(400):
        work(number)
    calls = remembered().calls("parent")
    lower = [call for call in calls if call.quality_of("peak_memory_bytes") == "lower bound"]
    assert sum(call.cpu_s or 0.0 for call in lower) > 0.01


def test_fast_calls_from_many_threads_are_all_counted(remembered: Remembered) -> None:
    @monitor(category="threads")
    def work(number: int) -> int:
        return number

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(4_000))) == sum(range(4_000))
    assert sum(call.calls for call in remembered().calls("threads")) == 4_000


def test_sums_that_a_fork_finds_are_told_by_the_parent_alone(remembered: Remembered) -> None:
    @monitor(category="forked")
    def work() -> None:
        pass

    for _ in range(1_000):
        work()
    pid = os.fork()
    if pid == 0:
        for _ in range(500):
            work()
        from envpack_monitor.history import recorder

        recorder.close_default()
        os._exit(0)
    os.waitpid(pid, 0)
    assert sum(call.calls for call in remembered().calls("forked")) == 1_500


def test_sums_are_written_within_seconds_without_a_further_call(history_file: Path) -> None:
    @monitor(category="idle")
    def work() -> None:
        pass

    for _ in range(1_000):
        work()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        categories = History(history_file).categories() if history_file.exists() else []
        if categories and categories[0].calls == 1_000:
            break
    else:
        pytest.fail("the sums were not written")


def test_memory_that_the_history_needs_is_in_no_peak_of_the_first_calls(tmp_path: Path) -> None:
    program = (
        "import time\nfrom envpack_monitor import monitor\nfrom tests.monitor.helpers import touch\n"
        "@monitor(return_usage=True)\ndef spike(size):\n    memory = touch(size)\n    time.sleep(0.06)\n"
        "spike(4096)\n"
        "print(*[spike(20_000_000)[1].memory_difference_bytes for _ in range(4)])"
    )
    env = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ENVPACK_HISTORY": str(tmp_path / "h.sqlite")}
    text = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True).stdout
    *others, largest = sorted(map(int, text.split()))
    assert all(abs(size - 20 * MB) < MB for size in others)
    # The thread of the history opens its file during one of them; SQLite is loaded already.
    assert abs(largest - 20 * MB) < 2 * MB
