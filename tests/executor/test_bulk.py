"""The bulk channel: who has not the token hears nothing, what arrives is what was sent, and a cut costs a piece."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import queue
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpack_executor import ContextExecutor, RemoteNodes, messages
from envpack_executor.bulk import client, server, wire
from envpack_executor.bulk.client import BulkClient, Source, Transfer
from envpack_executor.bulk.server import BulkServer
from envpack_executor.bulk.stored import StoredLayer
from envpack_executor.bulk.wire import PIECE_BYTES, Kind, Request
from envpack_executor.manager.arrivals import Arrivals
from envpack_executor.messages import NodeId
from envpack_executor.process import kept
from envpack_executor.values.blobs import BLOBS
from tests.executor import functions
from tests.executor.conftest import StartWorker
from tests.executor.helpers import GENEROUS_S, MB, wait_until

TOKEN = bytes(range(32))
NODE = NodeId("node")
Corrupt = Callable[[bytes], bytes]


@pytest.fixture
def arrivals() -> Iterator[Arrivals]:
    arrivals = Arrivals()
    yield arrivals
    arrivals.close()


@pytest.fixture
def bulk_server(tmp_path: Path, arrivals: Arrivals) -> Iterator[BulkServer]:
    listener = socket.create_server(("127.0.0.1", 0))
    bulk = BulkServer(listener, TOKEN, lambda digest: StoredLayer(tmp_path / f"layer-{digest}"), arrivals)
    yield bulk
    bulk.close()


class Moves:
    """A client, and how its transfers ended."""

    def __init__(self, port: int, token: bytes = TOKEN) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.client = BulkClient(Source("127.0.0.1", port, token), self.jobs.put)
        self.ends: list[Any] = []

    def move(self, kind: Kind, name: str, size: int, copy: Any) -> Any:
        """Return how it ended: the size, or the reason."""
        self.client.move(Transfer(kind, name, size, copy, self.ends.append, lambda error: self.ends.append(str(error))))
        self.jobs.get(timeout=GENEROUS_S)()
        return self.ends.pop()

    def fetch(self, kind: Kind, name: str, size: int) -> tuple[Any, bytes]:
        data = bytearray(max(size, 3 * PIECE_BYTES))

        def write(offset: int, piece: memoryview) -> None:
            data[offset : offset + len(piece)] = piece

        end = self.move(kind, name, size, write)
        return end, bytes(data[: end if isinstance(end, int) else 0])


@contextlib.contextmanager
def moves(port: int, token: bytes = TOKEN) -> Iterator[Moves]:
    made = Moves(port, token)
    try:
        yield made
    finally:
        made.client.close()


@contextlib.contextmanager
def between(port: int, treat: Callable[[int, bytes], bytes | None]) -> Iterator[int]:
    """Stand between client and server: `treat` gets the number of a connection and what the server says; None cuts."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    opened: list[socket.socket] = []

    def pump(source: socket.socket, target: socket.socket, number: int, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                passed = treat(number, data) if is_answer else data
                if passed is None:
                    break
                target.sendall(passed)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            for number in range(1000):
                ours, _ = listener.accept()
                theirs = socket.create_connection(("127.0.0.1", port))
                opened.extend((ours, theirs))
                for pair in ((ours, theirs, number, False), (theirs, ours, number, True)):
                    threads.append(threading.Thread(target=pump, args=pair))
                    threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for each in opened:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for each in opened:
            each.close()


@pytest.fixture
def value() -> Iterator[Any]:
    """A blob of several pieces, as (its name, its bytes)."""
    data = random.Random(7).randbytes(2 * PIECE_BYTES + 12_345)
    blob = BLOBS.hold(len(data), [(0, data)])
    yield blob.name, data
    del blob  # until here it is needed


# --- bytes


@given(st.sampled_from(list(Kind)), st.text("abc0/.", max_size=60), st.integers(0, 2**63), st.integers(0, PIECE_BYTES))
def test_requests_survive_their_bytes(kind: Kind, name: str, offset: int, length: int) -> None:
    request = Request.new(kind, name, offset, length)
    assert Request.decode(request.encode(TOKEN), TOKEN) == request


@given(st.binary(min_size=wire.REQUEST_BYTES, max_size=wire.REQUEST_BYTES), st.integers(0, 8 * wire.REQUEST_BYTES - 1))
def test_nothing_is_a_request_that_was_not_made_with_the_token(garbage: bytes, bit: int) -> None:
    assert Request.decode(garbage, TOKEN) is None
    data = bytearray(Request.new(Kind.VALUE, "name", 0, 5).encode(TOKEN))
    assert Request.decode(bytes(data), TOKEN[::-1]) is None
    data[bit // 8] ^= 1 << bit % 8
    assert Request.decode(bytes(data), TOKEN) is None


def test_a_request_for_more_than_a_piece_is_none() -> None:
    assert Request.decode(Request.new(Kind.VALUE, "name", 0, PIECE_BYTES + 1).encode(TOKEN), TOKEN) is None


# --- moving


def test_values_layers_and_results_arrive_as_they_were_sent(
    bulk_server: BulkServer, value: Any, tmp_path: Path, arrivals: Arrivals
) -> None:
    name, data = value
    (tmp_path / "layer-one").write_bytes(data)
    (tmp_path / "layer-empty").touch()
    with moves(bulk_server.port) as client:
        assert client.fetch(Kind.VALUE, name, len(data)) == (len(data), data)
        assert client.fetch(Kind.LAYER, "one", -1) == (len(data), data)
        assert client.fetch(Kind.LAYER, "empty", -1) == (0, b"")
        arrivals.expect(NODE, messages.ResultComing("result", len(data)))
        assert client.move(Kind.RESULT, "result", len(data), lambda offset, size: data[offset : offset + size]) == len(
            data
        )
    descriptor, size = kept.arrivals["result"]
    assert os.pread(descriptor, size, 0) == data


@pytest.mark.parametrize(("kind", "name", "size"), [(Kind.VALUE, "no", 5), (Kind.LAYER, "no", -1)])
def test_what_the_manager_has_not_is_told_at_once(bulk_server: BulkServer, kind: Kind, name: str, size: int) -> None:
    with moves(bulk_server.port) as client:
        end, _ = client.fetch(kind, name, size)
    assert "has it not" in end


def test_a_value_of_another_size_than_was_told_is_refused(bulk_server: BulkServer, value: Any) -> None:
    with moves(bulk_server.port) as client:
        end, _ = client.fetch(Kind.VALUE, value[0], len(value[1]) + 1)
    assert "has it not" in end


def test_bytes_that_were_changed_on_the_way_are_asked_for_again(bulk_server: BulkServer, value: Any) -> None:
    name, data = value
    changed: list[int] = []

    def treat(number: int, answer: bytes) -> bytes:
        if len(answer) > 1000 and len(changed) < 3:
            changed.append(number)
            return answer[:-1] + bytes([answer[-1] ^ 1])
        return answer

    with between(bulk_server.port, treat) as port, moves(port) as client:
        assert client.fetch(Kind.VALUE, name, len(data)) == (len(data), data)
    assert len(changed) == 3


def test_after_a_cut_only_what_was_under_way_comes_again(bulk_server: BulkServer, value: Any) -> None:
    name, data = value
    passed = [0]

    def treat(number: int, answer: bytes) -> bytes | None:
        passed[0] += len(answer)
        return None if number == 0 and passed[0] > PIECE_BYTES else answer

    with between(bulk_server.port, treat) as port, moves(port) as client:
        assert client.fetch(Kind.VALUE, name, len(data)) == (len(data), data)
    assert passed[0] < len(data) + PIECE_BYTES + MB


def test_a_channel_that_stays_broken_is_told_as_such(bulk_server: BulkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_PAUSE_S", 0.01)
    with between(bulk_server.port, lambda number, answer: None) as port, moves(port) as broken:
        end, _ = broken.fetch(Kind.VALUE, "name", 5)
    assert isinstance(end, str)


def test_results_that_nobody_announced_are_not_taken(
    bulk_server: BulkServer, arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_PAUSE_S", 0.01)
    monkeypatch.setattr("envpack_executor.manager.arrivals._ANNOUNCED_WITHIN_S", 0.1)
    arrivals.expect(NODE, messages.ResultComing("small", 10))
    with moves(bulk_server.port) as liar:
        for name in ("unknown", "small"):
            assert isinstance(liar.move(Kind.RESULT, name, 1000, lambda offset, size: bytes(size)), str)
    assert not kept.arrivals


# --- strangers


def test_strangers_hear_nothing_and_disturb_nobody(
    bulk_server: BulkServer, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_STRANGERS", 8)
    name, data = value
    wrong = Request.new(Kind.VALUE, name, 0, 100).encode(bytes(32))
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(socket.create_connection(("127.0.0.1", bulk_server.port))) for _ in range(40)]
        for number, each in enumerate(crowd):
            with contextlib.suppress(OSError):
                each.sendall((b"", b"GET / HTTP/1.1\r\n\r\n", wrong, b"\xff" * 10_000)[number % 4])
        with moves(bulk_server.port) as client:
            assert client.fetch(Kind.VALUE, name, len(data)) == (len(data), data)
        for each in crowd[2:3] + crowd[:20]:
            each.settimeout(GENEROUS_S)
            with contextlib.suppress(ConnectionError):
                assert each.recv(100) == b""


def test_a_peer_with_another_token_gets_nothing(
    bulk_server: BulkServer, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_PAUSE_S", 0.01)
    with moves(bulk_server.port, token=bytes(32)) as stranger:
        end, data = stranger.fetch(Kind.VALUE, *[value[0], len(value[1])])
    assert isinstance(end, str)
    assert data == b""


# --- with workers


def large(size: int) -> bytes:
    return os.urandom(1) * size


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("bulk", ["plain", "encrypted"])
def test_large_values_reach_workers_elsewhere_once_and_come_back(start_worker: StartWorker, bulk: Any) -> None:
    nodes = RemoteNodes(bulk=bulk)
    data = random.Random(1).randbytes(5 * MB)
    with ContextExecutor(nodes=nodes) as executor:
        worker = start_worker(nodes.address, nodes.key_file, "--cores", "2")
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4
        before = rx_bytes(worker.pid)
        reference = executor.put(data)
        futures = [executor.submit(digest, each) for each in (reference, data, reference, data, reference)]
        assert {future.result(GENEROUS_S) for future in futures} == {digest(data)}
        assert len(set(executor.submit(large, 3 * MB).result(GENEROUS_S))) == 1
        taken = rx_bytes(worker.pid) - before
        del reference
    assert taken < 3.2 * len(data), "the value as it is and as it was put: each came once"


def rx_bytes(pid: int) -> int:
    """Return how many bytes a process has read by system calls, about."""
    return int(Path(f"/proc/{pid}/io").read_text().split("rchar: ")[1].split()[0])


def test_without_a_way_for_the_bulk_channel_everything_comes_by_the_other(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(BulkServer, "port", property(lambda self: port, lambda self, value: None), raising=False)
    nodes = RemoteNodes()
    data = bytes(3 * MB)
    with ContextExecutor(nodes=nodes) as executor:
        start_worker(nodes.address, nodes.key_file)
        assert executor.submit(digest, data).result(GENEROUS_S) == digest(data)
        assert executor.submit(bytes, 2 * MB).result(GENEROUS_S) == bytes(2 * MB)
    assert "slow way" in (tmp_path / "worker-0.err").read_text()


def test_a_worker_without_memory_for_a_value_says_so_to_the_call(start_worker: StartWorker, tmp_path: Path) -> None:
    nodes = RemoteNodes()
    with ContextExecutor(nodes=nodes) as executor:
        start_worker(nodes.address, nodes.key_file)
        reference = executor.put(bytes(2 * MB))
        object.__setattr__(reference._blob, "size", 1 << 60)  # what the worker is told
        with pytest.raises(LookupError, match="could not be brought to this node: MemoryError"):
            executor.submit(len, reference).result(GENEROUS_S)
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4
        del reference


def test_bulk_is_one_of_two_ways() -> None:
    with pytest.raises(ValueError, match="expected 'plain' or 'encrypted'"):
        RemoteNodes(bulk="carrier pigeon")  # type: ignore[arg-type]


def test_results_of_a_node_that_is_lost_are_freed(arrivals: Arrivals, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    for name in ("whole", "half"):
        arrivals.expect(NODE, messages.ResultComing(name, 10))
        arrivals.take(NODE, messages.ResultPiece(name, 0, b"0123456789"[: 10 if name == "whole" else 5]))
    assert list(kept.arrivals) == ["whole"]
    arrivals.forget(NODE)
    wait_until(lambda: not kept.arrivals, "nothing is left")
