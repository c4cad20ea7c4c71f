"""What the executor's tests share: a store and a history of their own, and the law that nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envpack.pack.store.uses import release_all
from tests.executor.helpers import descendants, environ, wait_until, words_of

StartWorker = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store, a history and a folder for temporary files that nobody else uses."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("ENVPACK_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("ENVPACK_HISTORY", str(tmp_path / "history.sqlite"))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)  # so that TMPDIR is read again
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_left_behind(own_folders: Path) -> Iterator[None]:
    """No test leaves a process, a thread, a descriptor, a temporary file or a shared-memory segment."""
    before = _belongings()
    yield
    release_all()  # what a process asked a store for it holds until it ends
    kinds = before.keys()
    try:
        wait_until(lambda: all(_belongings()[kind] <= before[kind] for kind in kinds), "what the test began has ended")
    except AssertionError as error:
        left = {kind: sorted(_belongings()[kind] - before[kind]) for kind in kinds}
        raise AssertionError(f"left behind: {left}") from error


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    """Start `envpack worker` with a store of its own; those that still run at the end are killed."""
    started: list[subprocess.Popen[str]] = []

    def start(address: str, key_file: Path, *words: str) -> subprocess.Popen[str]:
        number = len(started)
        command = [sys.executable, "-m", "envpack", "worker", "--connect", address, "--key", str(key_file)]
        options = ["--cores", "1", "--store", str(tmp_path / f"worker-store-{number}"), *words]
        with (tmp_path / f"worker-{number}.err").open("w") as errors:
            worker = subprocess.Popen([*command, *options], env=environ(), stderr=errors, text=True)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.kill()
        worker.wait()


def _belongings() -> dict[str, set[str]]:
    return {
        "processes": {f"{pid} {words_of(pid)[:80]}" for pid in descendants(os.getpid())},
        "threads": {f"{thread.name} {thread.ident}" for thread in threading.enumerate()},
        "descriptors": _descriptors(),
        "temporary files": {path.name for path in Path(tempfile.gettempdir()).glob("envpack*")},
        # Other programs of this machine use it too: only names that could be ours tell something.
        "shared memory": {path.name for path in Path("/dev/shm").glob("*envpack*")},
    }


def _descriptors() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return found
