"""Workers pass layers on to each other: while they still come, from where others have stopped, and only the right."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import random
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from envpack import pack
from envpack_executor import ContextExecutor, RemoteNodes
from envpack_executor.bulk.client import BulkClient, Source
from envpack_executor.bulk.server import BulkServer
from envpack_executor.bulk.stored import StoredLayer
from envpack_executor.bulk.wire import LAYER_PIECE_BYTES
from envpack_executor.messages import LayerAway, LayersHere, NeedChunk, NeedLayer, Sharing, TakeLayer
from envpack_executor.nodes import Heartbeat
from envpack_executor.worker.events import LayerFailed, LayerStored
from envpack_executor.worker.layers import WorkerLayers
from envpack_executor.worker.peers import Peers
from envpack_executor.worker.spool import Spool
from tests.executor import ballast
from tests.executor.conftest import StartWorker
from tests.executor.helpers import GENEROUS_S, MB, wait_until

TOKEN = bytes(range(32))
PIECES = 5
DATA = random.Random(3).randbytes(PIECES * LAYER_PIECE_BYTES - 1000)
DIGEST = hashlib.sha256(DATA).hexdigest()


class Given:
    """What a server gives: some layers, counted."""

    def __init__(self, folder: Path, layers: dict[str, bytes]) -> None:
        self._folder = folder
        self.bytes = 0
        for digest, data in layers.items():
            (folder / digest).write_bytes(data)

    def open(self, digest: str) -> StoredLayer:
        """Open a layer and count what is read of it."""
        layer = StoredLayer(self._folder / digest)
        read = layer.read

        def counted(offset: int, size: int) -> bytes:
            self.bytes += size
            return read(offset, size)

        layer.read = counted  # type: ignore[method-assign]
        return layer


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path, {DIGEST: DATA})


@pytest.fixture
def manager(given: Given) -> Iterator[Source]:
    """The address of a manager that has the layer."""
    bulk = BulkServer(socket.create_server(("127.0.0.1", 0)), TOKEN, given.open)
    yield Source("127.0.0.1", bulk.port, TOKEN)
    bulk.close()


class Worker:
    """The layers of a worker, without the rest of it: what it says, and what it would put into its store."""

    def __init__(self, manager: Source, silence_s: float = GENEROUS_S, share_at: str = "") -> None:
        self.said: list[Any] = []
        self.stored: list[bytes] = []
        self.is_closed = False
        self.jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._manager = BulkClient(manager, self.jobs.put)
        self.layers = WorkerLayers(self._manager, Peers(TOKEN, silence_s, self.jobs.put), self.said.append, self._store)
        self.layers.share(manager, share_at, "/no/such/store")
        self.sharing = self.said.pop()
        assert isinstance(self.sharing, Sharing)

    def _store(self, digest: str, file: IO[bytes]) -> None:
        with file:
            self.stored.append(file.read())

    def turn(self) -> None:
        """Do what the threads have left for the loop, once there is something."""
        self.jobs.get(timeout=GENEROUS_S)()

    def fetch(self) -> Spool:
        """Want the layer, as from now on others may know; return where it comes."""
        self.layers.fetch(DIGEST)
        assert self.said.pop() == NeedLayer(DIGEST)
        found = self.layers.open(DIGEST)
        assert isinstance(found, Spool)
        return found

    def take_from(self, other: Worker | None) -> None:
        """Take the layer from another worker, or from the manager."""
        place = None if other is None else other.sharing
        self.layers.take(TakeLayer(DIGEST) if place is None else TakeLayer(DIGEST, "A", place.address, place.port))

    def close(self) -> None:
        """Close it, as a membership does; once."""
        if not self.is_closed:
            self.is_closed = True
            self.layers.close()
            self._manager.close()


@pytest.fixture
def workers(manager: Source) -> Iterator[Callable[..., Worker]]:
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> Worker:
            return stack.enter_context(contextlib.closing(Worker(manager, **options)))

        yield make


def bring(spool: Spool, *pieces: int, data: bytes = DATA) -> None:
    """Let pieces of the layer arrive."""
    for piece in pieces:
        start = piece * LAYER_PIECE_BYTES
        part = data[start : start + LAYER_PIECE_BYTES]
        spool.write(start, memoryview(part))
        spool.note(start, len(part), len(data))


def has(spool: Spool, *pieces: int) -> bool:
    return all(spool.has(piece * LAYER_PIECE_BYTES) for piece in pieces)


def test_a_layer_is_passed_on_while_it_still_comes(workers: Callable[..., Worker], given: Given) -> None:
    first, second, third = workers(), workers(), workers()
    coming, passed, last = first.fetch(), second.fetch(), third.fetch()
    third.take_from(second)
    second.take_from(first)
    bring(coming, 0)
    wait_until(lambda: has(last, 0), "the first piece has come to the last")
    assert not has(passed, 1)
    bring(coming, 2, 1, 3, 4)
    for worker in (second, third):
        worker.turn()
        assert worker.stored == [DATA]
    assert given.bytes == 0


def test_what_has_come_stays_when_its_source_ends(workers: Callable[..., Worker], given: Given) -> None:
    first, second = workers(), workers()
    coming, passed = first.fetch(), second.fetch()
    second.take_from(first)
    bring(coming, 0, 1, 2)
    wait_until(lambda: has(passed, 0, 1, 2), "three pieces have come")
    first.close()
    second.turn()
    assert second.said.pop().failed == "A"
    second.take_from(None)
    second.turn()
    assert second.stored == [DATA]
    assert given.bytes == len(DATA) - 3 * LAYER_PIECE_BYTES, "only the rest comes from the manager"


def test_a_source_that_falls_silent_is_given_up(workers: Callable[..., Worker]) -> None:
    worker = workers(silence_s=0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        worker.fetch()
        worker.layers.take(TakeLayer(DIGEST, "B", "127.0.0.1", silent.getsockname()[1]))
        worker.turn()
        assert worker.said == [NeedLayer(DIGEST, "B", "cut")]
    worker.take_from(None)
    worker.turn()
    assert worker.stored == [DATA]


def test_a_source_without_the_layer_says_so(workers: Callable[..., Worker]) -> None:
    first, second = workers(), workers()
    second.fetch()
    second.take_from(first)
    second.turn()
    assert second.said == [NeedLayer(DIGEST, "A", "gone")]


def test_what_was_not_the_layer_comes_from_the_manager_once_more(workers: Callable[..., Worker], given: Given) -> None:
    first, second = workers(), workers()
    bring(first.fetch(), *range(PIECES), data=DATA[::-1])
    second.fetch()
    second.take_from(first)
    second.turn()
    assert second.stored == [DATA[::-1]]
    assert second.layers.settles(LayerFailed(DIGEST, "wrong digest")), "nobody else need know yet"
    assert second.said == [NeedLayer(DIGEST, why="wrong")]
    second.take_from(None)
    second.turn()
    assert second.stored[1:] == [DATA]
    assert not second.layers.settles(LayerFailed(DIGEST, "no space left")), "that was not the peer's fault"
    assert second.said[1:] == [LayerAway(DIGEST)]


def test_layers_that_are_stored_are_told_once(workers: Callable[..., Worker]) -> None:
    worker = workers()
    for _ in range(2):
        assert not worker.layers.settles(LayerStored(DIGEST))
    assert worker.said == [LayersHere((DIGEST,))]


def test_without_the_manager_s_bulk_channel_a_layer_comes_in_messages(
    workers: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch, given: Given
) -> None:
    monkeypatch.setattr(given, "_folder", Path("/no/such/folder"))
    worker = workers()
    worker.fetch()
    worker.take_from(None)
    worker.turn()
    assert worker.said == [LayerAway(DIGEST), NeedChunk(DIGEST, 0)]


def test_a_worker_that_listens_everywhere_names_the_address_that_faces_the_manager(manager: Source) -> None:
    with contextlib.closing(Worker(manager, share_at="0.0.0.0:0")) as worker:
        assert (worker.sharing.address, worker.sharing.is_loopback) == ("127.0.0.1", True)


def test_only_digests_are_looked_up_in_a_store(tmp_path: Path) -> None:
    (tmp_path / "secret.tar.zst").touch()
    for digest in ("../secret", "", "/etc/passwd", DIGEST):
        with pytest.raises(OSError, match=r"no layer has|No such file"):
            StoredLayer.of(str(tmp_path), digest)


def test_a_number_of_peers_below_none_is_refused() -> None:
    with pytest.raises(ValueError, match="peers is -1"):
        RemoteNodes(peers=-1)


# --- with workers


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An environment with a layer of 5 MB that no store but the client's has."""
    monkeypatch.syspath_prepend(str(ballast.install(tmp_path / "site", 5 * MB)))
    return pack(ballast.weigh)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many bytes of layers the client has given."""
    counted = {"bytes": 0}
    read = StoredLayer.read

    def count(self: StoredLayer, offset: int, size: int) -> bytes:
        counted["bytes"] += size
        return read(self, offset, size)

    monkeypatch.setattr(StoredLayer, "read", count)
    return counted


@pytest.mark.parametrize("peers", [4, pytest.param(0, marks=pytest.mark.slow)])
def test_a_pack_reaches_all_workers_by_one_transfer_from_the_client(
    start_worker: StartWorker, manifest: Any, sent: dict[str, int], tmp_path: Path, peers: int
) -> None:
    nodes = RemoteNodes(peers=peers)
    started, release = tmp_path / "started", tmp_path / "release"
    with ContextExecutor(nodes=nodes, environment=manifest, history=None) as executor:
        pids = {start_worker(nodes.address, nodes.key_file).pid for _ in range(2)}
        wait_until(lambda: executor.stats().nodes == 2, "both workers have joined")
        futures = [executor.submit(ballast.weigh, str(started), str(release)) for _ in range(2)]
        wait_until(lambda: len(list(tmp_path.glob("started-*"))) == 2, "both have what they need")
        release.touch()
        assert {future.result(GENEROUS_S) for future in futures} == {(5 * MB, pid) for pid in pids}
    size = sum(file.stat().st_size for file in (tmp_path / "store" / "blobs").iterdir())
    assert sent["bytes"] == (size if peers else 2 * size)


def test_a_worker_that_is_suspended_keeps_no_other_from_its_layers(
    start_worker: StartWorker, manifest: Any, tmp_path: Path
) -> None:
    nodes = RemoteNodes(heartbeat=Heartbeat(every_s=0.2, silence_s=2.0))
    started, release = tmp_path / "started", tmp_path / "release"
    release.touch()
    with ContextExecutor(nodes=nodes, environment=manifest, history=None) as executor:
        first = start_worker(nodes.address, nodes.key_file, "--share-at", "127.0.0.1:0")
        assert executor.submit(ballast.weigh, str(started), str(release)).result(GENEROUS_S) == (5 * MB, first.pid)
        os.kill(first.pid, signal.SIGSTOP)
        second = start_worker(nodes.address, nodes.key_file)
        while executor.submit(ballast.weigh, str(started), str(release)).result(GENEROUS_S) != (5 * MB, second.pid):
            pass


def test_an_address_that_is_none_is_refused(start_worker: StartWorker, tmp_path: Path) -> None:
    worker = start_worker("tcp://127.0.0.1:1", tmp_path / "no-key", "--share-at", "nowhere")
    assert worker.wait(GENEROUS_S) == 2
    assert "expected HOST:PORT" in (tmp_path / "worker-0.err").read_text()


def test_a_worker_that_cannot_share_works_all_the_same(
    start_worker: StartWorker, manifest: Any, sent: dict[str, int], tmp_path: Path
) -> None:
    nodes = RemoteNodes()
    release = tmp_path / "release"
    release.touch()
    with ContextExecutor(nodes=nodes, environment=manifest, history=None) as executor:
        start_worker(nodes.address, nodes.key_file, "--share-at", "192.0.2.1:1")  # of no machine
        assert executor.submit(ballast.weigh, str(tmp_path / "started"), str(release)).result(GENEROUS_S)[0] == 5 * MB
    assert "this worker passes no layers on" in (tmp_path / "worker-0.err").read_text()
    assert sent["bytes"] > 5 * MB
