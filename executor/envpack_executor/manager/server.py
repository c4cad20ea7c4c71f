"""The manager's end of the connections to workers elsewhere, driven by the manager's loop.

Guarantees: bytes are decoded only when they come from a peer that holds the workers' key (ZeroMQ drops all others
before we see them); a peer without it costs a descriptor and a short frame, for seconds (`manager.door`); a worker that
is silent or of another protocol is told to leave and why.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import zmq

from envpack_executor import messages
from envpack_executor.bulk.server import BulkServer
from envpack_executor.curve import Guard
from envpack_executor.errors import ExecutorError
from envpack_executor.manager.door import Door, listen
from envpack_executor.manager.events import NodeJoined
from envpack_executor.manager.spread import Answer, Spread
from envpack_executor.messages import FromWorker, Hello, NodeId, ProcessId, ToWorker
from envpack_executor.zeromq import Context, has_input, limit_frames, split, wake_on

if TYPE_CHECKING:
    from envpack_executor.manager.loop import ManagerLoop
    from envpack_executor.nodes import Heartbeat

_log = logging.getLogger(__name__)

FAREWELL_LINGER_MS = 1000
_OURS = "{}.{}".format(*sys.version_info)
_FORGOTTEN = messages.Farewell("the manager has given this worker up", may_return=True)


@dataclass(slots=True)
class _Peer:
    """A worker that has joined.

    Args:
        identity: of its connection.
        server: where it is connected.
        membership: as the worker names it.
        last_heard_s: when it last said something.
        was_missed: it has said nothing since the manager itself was away.
    """

    identity: bytes
    server: Server
    membership: str
    last_heard_s: float
    was_missed: bool = False

    def send(self, message: ToWorker) -> None:
        """Send a message; ZeroMQ queues it."""
        self.server.send(self.identity, message)

    def sender(self, process: ProcessId) -> None:
        """Return None: only the loop's thread may use the socket."""

    def close(self) -> None:
        """Tell the worker to leave."""
        self.send(messages.Farewell("the executor has ended"))


class Server:
    """Listens for workers.

    Args:
        bind: `tcp://HOST:PORT`.
        key_file: where the workers' key is written.
        heartbeat: how silence is noticed.
        loop: takes nodes and their messages; everything here runs in its thread.
        resident: how many context processes a node of so many cores may keep.
        bulk_port: where bulk connections are taken, 0 for a free port; None to take none.
        peers: to how many others at once a worker passes layers on.

    Raises:
        ExecutorError: the address cannot be bound.
        KeyFileError: the key file cannot be written.
    """

    def __init__(
        self,
        bind: str,
        key_file: Path,
        heartbeat: Heartbeat,
        loop: ManagerLoop,
        resident: Callable[[int], int],
        bulk_port: int | None = None,
        peers: int = 0,
    ) -> None:
        self.key_file = key_file
        self._heartbeat = heartbeat
        self._loop = loop
        self._resident = resident
        self._peers: dict[bytes, _Peer] = {}
        self._met: set[str] = set()  # all memberships there ever were
        self._shares_layers = peers > 0
        self._spread = Spread(peers)
        self._last_beat_s = 0.0
        self._context = Context()
        self._guard = Guard(self._context)
        self._socket = self._context.socket(zmq.ROUTER)
        self._guard.protect(self._socket)
        limit_frames(self._socket)
        self._socket.sndhwm = self._socket.rcvhwm = 0  # bounded by the calls that a process may have outstanding
        self._socket.linger = FAREWELL_LINGER_MS
        # A peer that is gone without a word keeps its descriptor no longer than it keeps its node.
        self._socket.heartbeat_ivl = self._socket.heartbeat_timeout = int(heartbeat.silence_s * 1000)
        try:
            self._door = Door(self._context, self._socket, listen(bind))
        except (zmq.ZMQError, OSError, ValueError) as error:
            self._context.destroy(linger=0)
            raise ExecutorError(
                f"cannot listen at {bind!r}: {error}", "expected tcp://HOST:PORT of this machine"
            ) from error
        try:
            self._guard.worker_key.write(key_file)
        except ExecutorError:
            self._door.close()
            self._context.destroy(linger=0)
            raise
        endpoint = self._socket.get(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        self.address = endpoint.decode().rstrip("\0")
        self._token = os.urandom(32)
        self._bulk = None if bulk_port is None else self._open_bulk(bind, bulk_port)
        for socket in (self._socket, self._guard.socket, self._door.events):
            wake_on(loop.selector, socket)
        loop.add_timer(self.turn)

    def _open_bulk(self, bind: str, port: int) -> BulkServer:
        try:
            listener = listen(f"{bind.rpartition(':')[0]}:{port}")
        except OSError as error:
            self._door.close()
            self._context.destroy(linger=0)
            self.key_file.unlink(missing_ok=True)
            raise ExecutorError(f"cannot listen at port {port} for bulk connections: {error}") from error
        return BulkServer(listener, self._token, self._loop.layer, self._loop.reception.arrivals)

    def turn(self, now_s: float) -> float:
        """Take what has come, send signs of life; return when that must happen next.

        The descriptors of ZeroMQ tell changes, not states: so everything is taken at each turn, until nothing is left,
        and again after a sign of life, because sending uses up the change that something has come.
        """
        if self._last_beat_s and now_s - self._last_beat_s > self._heartbeat.silence_s / 2:
            self._come_back(now_s)
        self._take_all()
        if now_s - self._last_beat_s >= self._heartbeat.every_s:
            self._last_beat_s = now_s
            self._beat(now_s)
            self._take_all()
        return self._last_beat_s + self._heartbeat.every_s

    def _take_all(self) -> None:
        while True:
            self._guard.answer()
            self._door.watch(len(self._peers))
            if not has_input(self._socket):
                return
            identity, *parts = self._socket.recv_multipart()
            self._take(identity, b"".join(parts))

    def send(self, identity: bytes, message: ToWorker) -> None:
        """Send a message to a worker."""
        self._socket.send_multipart([identity, *split(messages.encode(message))])

    def close(self) -> None:
        """Close the sockets, once what was sent has had time to leave, and remove the key file."""
        self._door.close()
        if self._bulk is not None:
            self._bulk.close()
        self._context.destroy(linger=FAREWELL_LINGER_MS)
        self.key_file.unlink(missing_ok=True)

    def _take(self, identity: bytes, data: bytes) -> None:
        try:
            message = messages.decode_from_worker(data)
        except msgspec.DecodeError as error:
            _log.warning("message of %d bytes from a worker dropped: %s", len(data), error)
            return
        peer = self._peers.get(identity)
        if isinstance(message, Hello):
            self._greet(identity, message)
        elif peer is None:
            self.send(identity, _FORGOTTEN)
        else:
            peer.last_heard_s = time.monotonic()
            peer.was_missed = False
            self._pass_on(identity, message)

    def _pass_on(self, identity: bytes, message: FromWorker) -> None:
        node = _node(identity)
        match message:
            case messages.Sharing() | messages.NeedLayer() | messages.LayersHere() | messages.LayerAway():
                self._tell(self._spread.take(node, message))
            case messages.Goodbye():
                del self._peers[identity]
                self._tell(self._spread.lose(node))
        self._loop.receive(node, message)

    def _tell(self, answers: list[Answer]) -> None:
        for answer in answers:
            self.send(bytes.fromhex(answer.node), answer.message)

    def _greet(self, identity: bytes, hello: Hello) -> None:
        name = f"{hello.host} (pid {hello.pid})"
        if reason := self._objection(hello):
            _log.warning("worker on %s refused: %s", name, reason)
            self.send(identity, messages.Farewell(reason, is_refusal=True))
            return
        self._replace(hello.formerly)
        now_s = time.monotonic()
        peer = self._peers[identity] = _Peer(identity, self, hello.membership, now_s)
        beats = self._heartbeat.every_s, self._heartbeat.silence_s
        port = 0 if self._bulk is None else self._bulk.port
        welcome = messages.Welcome(*beats, self._loop.watch_every_s, port, self._token, self._shares_layers)
        peer.send(welcome)
        self._loop.node_joined(self._offer(_node(identity), name, hello, now_s), peer)
        self._met.add(hello.membership)

    def _objection(self, hello: Hello) -> str:
        """Say why a worker cannot be used; empty if it can."""
        if hello.protocol != messages.PROTOCOL_VERSION:
            return f"worker speaks protocol {hello.protocol}, the manager {messages.PROTOCOL_VERSION}"
        if _minor(hello.python) != _OURS and self._loop.sized is not None:
            return f"worker runs Python {hello.python}, the manager {_OURS}: with allocations=, all must run the same"
        return ""

    def _replace(self, membership: str) -> None:
        """Forget a worker that has come again, before its silence is noticed."""
        for peer in [peer for peer in self._peers.values() if membership and peer.membership == membership]:
            self._lose(peer, "it has come again", peer.was_missed)

    def _come_back(self, now_s: float) -> None:
        """Listen once more before anybody is given up: it is this process that was suspended, or kept busy."""
        for peer in self._peers.values():
            peer.last_heard_s = now_s
            peer.was_missed = True

    def _offer(self, node: NodeId, name: str, hello: Hello, now_s: float) -> NodeJoined:
        return NodeJoined(
            node,
            name,
            slots=hello.cores,
            resident=self._resident(hello.cores),
            cores=hello.cores,
            memory_bytes=hello.memory_bytes or None,
            context_bytes=hello.context_bytes or None,
            leaves_at_s=now_s + hello.lasts_s if hello.lasts_s else None,
            is_back=hello.formerly in self._met,
            is_foreign=_minor(hello.python) != _OURS,
            disk_bytes=hello.disk_bytes or None,
            gpus=hello.gpus,
            host=hello.host,
            pid=hello.pid,
            block=hello.block,
            python=hello.python,
        )

    def _beat(self, now_s: float) -> None:
        for identity, peer in list(self._peers.items()):
            silent_s = now_s - peer.last_heard_s
            if silent_s > self._heartbeat.silence_s:
                self.send(identity, _FORGOTTEN)
                self._lose(peer, f"silent for {silent_s:.1f} s", peer.was_missed)
            else:
                peer.send(messages.ManagerBeat())

    def _lose(self, peer: _Peer, reason: str, is_blameless: bool) -> None:
        del self._peers[peer.identity]
        self._tell(self._spread.lose(_node(peer.identity)))
        self._loop.node_lost(_node(peer.identity), reason, is_blameless)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _node(identity: bytes) -> NodeId:
    return NodeId(identity.hex())
