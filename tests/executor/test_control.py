"""What a context process does beside its calls: it gives back what it has not begun, and it ends with its host."""

from __future__ import annotations

import os
import pickle
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpack_executor import settings
from envpack_executor.environments import boot_frame
from envpack_executor.messages import ProcessId
from envpack_executor.process import frames
from envpack_executor.process.bundle import bundle
from envpack_executor.process.control import Backlog
from envpack_executor.worker.context_process import ContextProcess, spawn
from tests.executor import functions
from tests.executor.helpers import wait_until

SETTINGS = {"limits": {}, "mode": "direct", "timeout_s": 0.0, "is_alone": False}


@given(st.lists(st.integers(1, 5), max_size=8), st.data())
def test_each_call_of_a_backlog_is_either_begun_or_given_back(sizes: list[int], data: st.DataObject) -> None:
    backlog, begun, given_back, sent = Backlog(), [], set(), 0
    unread: list[tuple[int, list[int]]] = []
    running: Any = ()
    for size in sizes:
        unread.append((sent, list(range(sent, sent + size))))
        sent += size
        if data.draw(st.booleans(), "take back"):
            first = backlog.take_back(sent)
            given_back |= set(range(first, sent)) - given_back
        while unread and data.draw(st.booleans(), "read"):
            while running:
                begun.append(running.popleft())
            running = backlog.begin(*unread.pop(0))
            for _ in range(data.draw(st.integers(0, len(running)), "begin")):
                begun.append(running.popleft())
    for first, calls in unread:
        while running:
            begun.append(running.popleft())
        running = backlog.begin(first, calls)
    while running:
        begun.append(running.popleft())
    assert begun == sorted(begun)
    assert not given_back & set(begun)
    assert given_back | set(begun) == set(range(sent))


@pytest.fixture
def process() -> Iterator[ContextProcess]:
    """A context process without a host's loop: whoever tests speaks with it himself."""
    process = spawn(ProcessId(1), sys.executable, False, settings.child_environ(os.environ, 1))
    process.connection.setblocking(True)
    process.connection.settimeout(40)
    process.connection.sendall(bundle(with_source=False) + frames.encode(frames.PATHS, pickle.dumps(sys.path)))
    process.connection.sendall(boot_frame(None, None))
    assert read(process)[0] == frames.READY
    yield process
    process.reap()


def read(process: ContextProcess) -> tuple[int, bytes]:
    process.connection.setblocking(True)
    found = frames.read_frame(process.connection.fileno())
    assert found is not None
    return found[0], bytes(found[1])


def learn(process: ContextProcess, number: int, function: Any, **settings: Any) -> None:
    body = pickle.dumps((number, pickle.dumps(function), {**SETTINGS, **settings}))
    process.connection.sendall(frames.encode(frames.FUNCTION, body))


def send(process: ContextProcess, first: int, *calls: tuple[int, Any]) -> None:
    batch = [(number, pickle.dumps((args, {}))) for number, *args in calls]
    process.connection.sendall(frames.encode(frames.CALLS, pickle.dumps((first, batch))))


def results(process: ContextProcess) -> list[Any]:
    kind, body = read(process)
    assert kind == frames.RESULTS
    return [pickle.loads(outcome) for outcome in pickle.loads(body)[0]]


@pytest.mark.parametrize("mode", ["direct", "fork"])
def test_a_process_gives_back_while_a_call_runs_what_it_has_read_and_what_it_has_not(
    process: ContextProcess, tmp_path: Path, mode: str
) -> None:
    learn(process, 0, functions.double)
    learn(process, 1, functions.announce_and_wait_for, mode=mode)
    started, go = str(tmp_path / "started"), str(tmp_path / "go")
    send(process, 0, (0, 1), (1, started, go), (0, 2), (0, 3))
    wait_until(lambda: os.path.exists(started), "the call runs")
    send(process, 4, (0, 4), (0, 5))  # waits in the socket
    process.command(frames.TAKE_BACK, 6)
    assert results(process) == [2], "what is done is told before"
    assert read(process) == (frames.RETURNED, (2).to_bytes(8, "little"))
    send(process, 6, (0, 6))
    Path(go).touch()
    assert results(process) == [go]
    assert results(process) == [12]


def test_a_process_that_has_begun_everything_gives_nothing_back(process: ContextProcess) -> None:
    learn(process, 0, functions.double)
    send(process, 0, (0, 1))
    assert results(process) == [2]
    process.command(frames.TAKE_BACK, 1)
    assert read(process) == (frames.RETURNED, (1).to_bytes(8, "little"))


def test_a_stream_that_is_shut_ends_the_process_in_order(process: ContextProcess) -> None:
    process.connection.shutdown(socket.SHUT_WR)
    assert process.popen.wait(40) == 0
