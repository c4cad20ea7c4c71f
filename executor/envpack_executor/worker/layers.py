"""The layers that a worker brings into its store by the bulk channel, and those that it passes on to others.

    reactor ──fetch──▶ NeedLayer ─▶ manager ─▶ TakeLayer ─▶ transfer from the manager or a peer ─▶ spool ─▶ store
                           ▲                                    │failed        others read from here ◀─┘      │
                           └──────────which source, and why─────┘                                LayersHere ◀─┘

Guarantees: the reactor is told of each layer, that it is stored or has failed; what has come stays when its source
fails, and another goes on; what a peer gave and was not the layer is asked for once more, of the manager alone. When
the manager's bulk channel fails, too, the layer comes in the manager's messages.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from envpack_executor.bulk.client import BulkClient, Source, Transfer
from envpack_executor.bulk.server import BulkServer, Layer
from envpack_executor.bulk.stored import StoredLayer
from envpack_executor.bulk.wire import Kind
from envpack_executor.errors import BulkError, NotHereError
from envpack_executor.messages import LayerAway, LayersHere, NeedChunk, NeedLayer, Sharing, TakeLayer
from envpack_executor.worker.events import EnvironmentChecked, Event, LayerFailed, LayerStored
from envpack_executor.worker.peers import Peers, address_towards, is_loopback, reachable
from envpack_executor.worker.spool import Spool

_log = logging.getLogger(__name__)

Send = Callable[[Sharing | NeedLayer | LayersHere | LayerAway | NeedChunk], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Move:
    """A transfer that is under way: from which worker; empty for the manager."""

    source: str


class WorkerLayers:
    """Used from the thread of the worker's loop, except where it says otherwise.

    Args:
        manager: the bulk channel to the manager.
        peers: those to other workers.
        send: sends a message to the manager.
        store: takes the digest and the file of a layer that is whole; `LayerStored` or `LayerFailed` follows.
    """

    def __init__(
        self,
        manager: BulkClient,
        peers: Peers,
        send: Send,
        store: Callable[[str, IO[bytes]], None],
    ) -> None:
        self._manager = manager
        self._peers = peers
        self._send = send
        self._store = store
        self._store_folder: str | None = None
        self._server: BulkServer | None = None
        self._spools: dict[str, Spool] = {}
        self._moving: dict[str, _Move] = {}
        self._told: set[str] = set()

    def share(self, manager: Source, where: str, store_folder: str | None) -> None:
        """Serve layers to other workers from now on, if an address for it can be had.

        Args:
            manager: whom the default address must face.
            where: `HOST:PORT`; empty for the default.
            store_folder: the store whose layers are served; None for the default.
        """
        self._store_folder = store_folder
        try:
            address, _, port = where.rpartition(":") if where else (address_towards(manager), "", "0")
            listener = socket.create_server(
                (address.strip("[]"), int(port)), family=socket.AF_INET6 if ":" in address else socket.AF_INET
            )
        except OSError as error:
            _log.warning("this worker passes no layers on: no connections can be taken: %s", error)
            return
        self._server = BulkServer(listener, manager.token, self.open)
        address = reachable(listener.getsockname()[0], manager)
        self._send(Sharing(address, self._server.port, socket.gethostname(), is_loopback(address)))

    def open(self, digest: str) -> Layer:
        """Return a layer that is here or on its way; from any thread.

        Raises:
            OSError: there is no such layer.
        """
        return self._spools.get(digest) or StoredLayer.of(self._store_folder, digest)

    def fetch(self, digest: str) -> None:
        """Bring a layer into the store."""
        self._ask(digest, Spool())

    def take(self, message: TakeLayer) -> None:
        """Take a layer from the source that the manager names."""
        digest = message.digest
        spool = self._spools.get(digest)
        if spool is None or digest in self._moving:
            return  # an answer to a question that was given up
        source = self._manager
        if message.source:
            spool.may_be_wrong = True
            source = self._peers.client(message)

        # The transfer holds these functions, so they must not hold it: its spool is freed with it.
        move = self._moving[digest] = _Move(message.source)

        def done(size: int) -> None:
            if self._moving.get(digest) is move:
                self._leave_source(digest)
                self._store(digest, spool.file())

        def failed(reason: BulkError | OSError) -> None:
            if self._moving.get(digest) is move:
                self._failed(digest, move, reason)

        source.move(Transfer(Kind.LAYER, digest, spool.total, spool.write, done, failed, spool))

    def settles(self, event: Event) -> bool:
        """Note what has become of layers; return whether the reactor need not know, because it is not over."""
        match event:
            case EnvironmentChecked():
                self._tell(event.present)
            case LayerStored():
                self._drop(event.digest)
                self._tell((event.digest,))
            case LayerFailed():
                return self._not_stored(event)
        return False

    def close(self) -> None:
        """Serve and fetch nothing any more, except from the manager."""
        for spool in self._spools.values():
            spool.end()
        if self._server is not None:
            self._server.close()
        self._peers.close()
        self._moving.clear()
        self._spools.clear()

    # --- what becomes of a layer

    def _ask(self, digest: str, spool: Spool, need: NeedLayer | None = None) -> None:
        self._spools[digest] = spool
        self._send(need or NeedLayer(digest))

    def _failed(self, digest: str, move: _Move, reason: BulkError | OSError) -> None:
        if not move.source:
            self._fall_back(digest, reason)
            return
        _log.info("layer %s: the worker that it was to come from failed: %r", digest[:12], reason)
        if isinstance(reason, NotHereError):
            self._leave_source(digest)
            self._send(NeedLayer(digest, move.source, "gone"))
            return
        self._peers.hang_up(move.source)
        for each in [each for each, other in self._moving.items() if other.source == move.source]:
            del self._moving[each]
            self._send(NeedLayer(each, move.source, "cut"))

    def _fall_back(self, digest: str, reason: Exception) -> None:
        _log.warning("layer %s comes by the slow way: %r", digest[:12], reason)
        self._leave_source(digest)
        self._drop(digest)
        self._send(LayerAway(digest))
        self._send(NeedChunk(digest, 0))

    def _not_stored(self, event: LayerFailed) -> bool:
        spool = self._drop(event.digest)
        if spool is None or not spool.may_be_wrong:
            self._send(LayerAway(event.digest))
            return False
        _log.warning("layer %s comes from the client once more: %s", event.digest[:12], event.reason)
        self._ask(event.digest, Spool(), NeedLayer(event.digest, why="wrong"))
        return True

    def _drop(self, digest: str) -> Spool | None:
        spool = self._spools.pop(digest, None)
        if spool is not None:
            spool.end()
        return spool

    def _tell(self, digests: tuple[str, ...]) -> None:
        news = tuple(digest for digest in digests if digest not in self._told)
        if news and self._server is not None:
            self._told.update(news)
            self._send(LayersHere(news))

    def _leave_source(self, digest: str) -> None:
        """Note that a transfer is over; a worker from which nothing else comes is hung up."""
        source = self._moving.pop(digest).source
        if source and not any(source == move.source for move in self._moving.values()):
            self._peers.hang_up(source)
