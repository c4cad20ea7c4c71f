"""What the monitor's tests share: a history of their own, and the law that nothing is left behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envpack_monitor.history import recorder
from envpack_monitor.history.history import History
from envpack_monitor.trees import tree
from tests.monitor.helpers import wait_until


@pytest.fixture(autouse=True)
def history_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The history of this test; everything recorded is written before the test is over."""
    path = tmp_path / "history.sqlite"
    monkeypatch.setenv("ENVPACK_HISTORY", str(path))
    recorder.close_default()
    yield path
    recorder.close_default()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No test leaves a child process or a descriptor."""
    before = _children()
    yield
    wait_until(lambda: _children() <= before, "child processes are gone")


def _children() -> set[int]:
    """Children of this process, without the one that multiprocessing keeps."""
    found = set()
    for pid in tree.children(os.getpid()):
        try:
            if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.fixture
def remembered(history_file: Path) -> Callable[[], History]:
    """Flush what was recorded, and give the history."""

    def flushed() -> History:
        recorder.flush_default()
        return History(history_file)

    return flushed
