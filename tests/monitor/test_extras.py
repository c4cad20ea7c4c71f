"""What is measured besides the bracket: threads, processes, a folder, shared memory."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from envpack_monitor import LimitExceeded, Limits, Usage, monitor
from envpack_monitor.errors import FormatError
from tests.monitor.helpers import MB, touch


def test_threads_and_processes_of_a_call_that_starts_none_are_those_of_the_process() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    with monitor("still", history=False) as block:
        touch(1)
    done.set()
    thread.join()
    assert block.usage is not None
    assert (block.usage.threads_max or 0) >= 2
    assert block.usage.processes_total == 1
    assert block.usage.quality_of("threads_max") in ("exact", "lower bound")


def test_thread_that_begins_during_the_call_is_counted_and_the_count_no_longer_exact() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    with monitor("more", history=False) as block:
        thread.start()
    with monitor("after", history=False) as after:
        pass
    done.set()
    thread.join()
    assert block.usage is not None
    assert after.usage is not None
    assert block.usage.threads_max == after.usage.threads_max
    assert block.usage.quality_of("threads_max") == "lower bound"


def test_process_that_the_call_waited_for_is_counted() -> None:
    with monitor("child", history=False) as block:
        subprocess.run(["true"], check=True)
    assert block.usage is not None
    assert block.usage.processes_total == 2
    assert block.usage.quality_of("processes_total") == "lower bound"


def test_growth_of_a_folder_is_measured_and_may_be_limited(tmp_path: Path) -> None:
    usages: list[Usage] = []

    @monitor(folder=tmp_path, limits=Limits(disk_bytes=2 * MB), callback=usages.append, history=False)
    def write(size: int) -> None:
        (tmp_path / f"file {size}").write_bytes(b"x" * size)

    write(1 * MB)
    with pytest.raises(LimitExceeded) as caught:
        write(4 * MB)
    assert caught.value.resource == "disk"
    assert abs((usages[0].disk_bytes or 0) - 1 * MB) < 100_000
    assert usages[0].quality_of("disk_bytes") == "lower bound"
    assert usages[1].limit_exceeded == "disk"


def test_disk_limit_without_a_folder_is_refused() -> None:
    with pytest.raises(FormatError, match="disk needs a folder"):
        monitor("nowhere", limits=Limits(disk_bytes=1))


def test_shared_out_memory_is_measured_where_it_is_asked_for() -> None:
    @monitor(shared_out=True, return_usage=True, history=False)
    def grow() -> object:
        return touch(30 * MB)

    kept, usage = grow()
    assert kept is not None
    assert 30 * MB < usage.shared_out_bytes <= usage.peak_memory_bytes + MB
    assert usage.quality_of("shared_out_bytes") == "lower bound"
    with monitor("plain", history=False) as block:
        pass
    assert block.usage is not None
    assert block.usage.shared_out_bytes is None
