"""One membership of a worker with its manager: from the greeting to the farewell, in one thread.

    manager ══CURVE══ DEALER ──▶ reactor ──▶ host ──▶ context processes
                         ◀────Reply──┘   ◀─events──┘

Guarantees: when it is over, nothing that it has started is left. A worker that joins again begins a new one: messages
about processes of the former one do not reach it. A connection that broke is not mended, because what was on its way
is lost: the manager does not know the new one, says so, and the worker joins again. If the greeting itself was lost,
nobody knows: then the wait for an answer ends, and the next membership greets anew.
"""

from __future__ import annotations

import os
import platform
import secrets
import selectors
import socket as sockets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import recv_monitor_message

from envpack_executor import messages
from envpack_executor.bulk.client import BulkClient, Source
from envpack_executor.curve import WorkerKey, authenticate
from envpack_executor.messages import Goodbye, Hello
from envpack_executor.worker.blobs import WorkerBlobs
from envpack_executor.worker.events import DrainRequested, Event, Leave, Reply, Tick
from envpack_executor.worker.host import Host
from envpack_executor.worker.layers import WorkerLayers
from envpack_executor.worker.peers import Peers
from envpack_executor.worker.reactor import WorkerReactor
from envpack_executor.worker.state import WorkerState
from envpack_executor.zeromq import Context, has_input, limit_frames, split, wake_on

_LINGER_MS = 500
_NO_AUTHENTICATION = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


@dataclass(frozen=True, slots=True)
class Offer:
    """What a worker has to offer, and to whom.

    Args:
        address: `tcp://HOST:PORT` of the manager.
        key: of the manager's run.
        cores: how many calls run here at once.
        memory_bytes: what they may have in memory together, where the manager promises memory; 0 for no bound.
        context_bytes: what context processes may keep in memory between calls, all together; 0 for no bound.
        store: folder of this node's store; None for the default.
        join_within_s: give up when the manager has not answered after so long.
        disk_bytes: what calls may write, all together; 0 for no bound.
        gpus: how many GPUs calls may use.
        block: which block of workers it belongs to; empty without one.
        share_at: `HOST:PORT` where other workers take layers from this one, port 0 for a free one; empty for the
            address of this machine that faces the manager.
    """

    address: str
    key: WorkerKey
    cores: int
    memory_bytes: int = 0
    context_bytes: int = 0
    store: str | None = None
    join_within_s: float = 30.0
    disk_bytes: int = 0
    gpus: int = 0
    block: str = ""
    share_at: str = ""


@dataclass(frozen=True, slots=True)
class Term:
    """When a worker must leave by itself, on the monotonic clock.

    Args:
        reason: in words.
        drain_at_s: from then on it takes no calls.
        over_at_s: then it is gone, whatever runs.
    """

    reason: str
    drain_at_s: float
    over_at_s: float


class Membership:
    """One node of an executor.

    Args:
        offer: what it brings.
        term: when it must leave; None to stay.
        orders: reasons to leave, appended from any thread or signal handler.
        wake: an eventfd that is written to after each order.
        answer_by_s: when to stop waiting for the manager's welcome, on the monotonic clock.
        formerly: the identity of the membership before this one.
    """

    def __init__(
        self,
        offer: Offer,
        term: Term | None,
        orders: deque[DrainRequested],
        wake: int,
        answer_by_s: float,
        formerly: str = "",
    ) -> None:
        self.identity = secrets.token_hex(16)
        self._offer = offer
        self._term = term
        self._orders = orders
        self._wake = wake
        self._formerly = formerly
        self._answer_by_s = answer_by_s
        self._is_welcome = False
        self._leave: Leave | None = None
        self._jobs: deque[Callable[[], None]] = deque()
        self._selector = selectors.DefaultSelector()
        self._reactor = WorkerReactor(WorkerState())
        self._bulk: BulkClient | None = None
        self._layers: WorkerLayers | None = None
        self._blobs = WorkerBlobs(self._send, self._handle, self._call_soon)
        self._host = Host(self._selector, self._call_soon, self._handle, offer.cores, offer.store, self._blobs)
        self._context = Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = _LINGER_MS
        self._socket.sndhwm = self._socket.rcvhwm = 0
        self._socket.ipv6 = "[" in offer.address
        limit_frames(self._socket)
        authenticate(self._socket, offer.key)
        self._monitor = self._socket.get_monitor_socket(_NO_AUTHENTICATION)

    def serve(self) -> Leave:
        """Join and serve until it is time to leave; return why."""
        self._selector.register(self._wake, selectors.EVENT_READ, lambda mask: os.eventfd_read(self._wake))
        for socket in (self._socket, self._monitor):
            wake_on(self._selector, socket)
        self._socket.connect(self._offer.address)
        self._send(self._greeting())
        while self._leave is None:
            self._turn()
        return self._leave

    def close(self) -> None:
        """End everything that was started here, and say goodbye."""
        if self._layers is not None:
            self._layers.close()
        if self._bulk is not None:
            self._bulk.close()
        self._host.close()
        if self._leave is not None and self._is_welcome:
            self._send(Goodbye(self._leave.reason, is_blameless=self._leave.is_silence))
        self._socket.disable_monitor()
        self._context.destroy(linger=_LINGER_MS)
        self._selector.close()

    def _greeting(self) -> Hello:
        lasts_s = 0.0 if self._term is None else max(0.001, self._term.drain_at_s - time.monotonic())
        return Hello(
            messages.PROTOCOL_VERSION,
            sockets.gethostname(),
            os.getpid(),
            platform.python_version(),
            self._offer.cores,
            self._offer.memory_bytes,
            self._offer.context_bytes,
            lasts_s,
            self.identity,
            self._formerly,
            self._offer.disk_bytes,
            self._offer.gpus,
            self._offer.block,
        )

    def _turn(self) -> None:
        while self._jobs:
            self._jobs.popleft()()
        while self._orders:
            self._handle(self._orders.popleft())
        self._receive()
        now_s = time.monotonic()
        self._check_time(now_s)
        beaten_s = self._reactor.state.last_beat_s
        self._handle(Tick(now_s))
        if self._reactor.state.last_beat_s != beaten_s:
            self._receive()  # sending uses up the descriptor's change that something has come
        self._host.tick()
        if self._leave is None and not self._jobs and not self._orders:
            for key, mask in self._selector.select(self._timeout_s()):
                key.data(mask)

    def _receive(self) -> None:
        """Take what has come until nothing is left: ZeroMQ's descriptors tell changes, not states."""
        while has_input(self._monitor):
            if recv_monitor_message(self._monitor)["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._set_leave(Leave("the manager does not know the key of this worker", is_refusal=True))
            else:
                reason = f"no executor listens at {self._offer.address}: what answers there speaks another protocol"
                self._set_leave(Leave(reason, is_silence=True))
        while self._leave is None and has_input(self._socket):
            message = messages.decode_to_worker(b"".join(self._socket.recv_multipart()))
            self._is_welcome = True
            self._reactor.heard(time.monotonic())
            if isinstance(message, messages.Welcome):
                self._open_bulk(message)
            if isinstance(message, messages.TakeLayer):
                if self._layers is not None:
                    self._layers.take(message)
            elif not (isinstance(message, messages.Chunk) and self._blobs.take_chunk(message)):
                self._handle(message)

    def _check_time(self, now_s: float) -> None:
        term = self._term
        if term is not None and now_s >= term.over_at_s:
            self._set_leave(Leave(term.reason))
        elif term is not None and now_s >= term.drain_at_s and not self._reactor.state.draining:
            self._handle(DrainRequested(term.reason, term.over_at_s))
        elif not self._is_welcome and now_s >= self._answer_by_s:
            self._set_leave(
                Leave(
                    f"no answer from {self._offer.address} within {self._offer.join_within_s:g} s: "
                    "nobody listens there, or the key file belongs to another executor",
                    is_silence=True,
                    is_unanswered=True,
                )
            )

    def _timeout_s(self) -> float:
        now_s = time.monotonic()
        state = self._reactor.state
        due = [self._host.next_deadline_s()]
        if state.heartbeat_s:
            due += [state.last_beat_s + state.heartbeat_s, state.last_heard_s + state.silence_s]
        if state.draining:
            due.append(state.drained_by_s)
        if not self._is_welcome:
            due.append(self._answer_by_s)
        if self._term is not None:
            due.append(self._term.over_at_s if state.draining else self._term.drain_at_s)
        return max(0.0, min((each for each in due if each is not None), default=now_s + 1.0) - now_s)

    def _handle(self, event: Event) -> None:
        if self._layers is not None and self._layers.settles(event):
            return
        for instruction in self._reactor.handle(event):
            match instruction:
                case Reply():
                    self._reply(instruction.message)
                case Leave():
                    self._set_leave(instruction)
                case _:
                    self._host.execute(instruction)

    def _reply(self, message: messages.FromWorker) -> None:
        if self._layers is not None and isinstance(message, messages.NeedChunk) and message.offset == 0:
            self._layers.fetch(message.digest)
        else:
            self._send(message)

    def _open_bulk(self, welcome: messages.Welcome) -> None:
        """Move bytes by the bulk channel of the manager, if it has one."""
        if not welcome.bulk_port or self._bulk is not None:
            return
        host = self._offer.address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
        manager = Source(host, welcome.bulk_port, welcome.bulk_token)
        self._bulk = BulkClient(manager, self._call_soon)
        self._blobs.use(self._bulk)
        self._layers = WorkerLayers(
            self._bulk,
            Peers(welcome.bulk_token, welcome.silence_s, self._call_soon),
            self._send,
            self._host.store_layer,
        )
        if welcome.shares_layers:
            self._layers.share(manager, self._offer.share_at, self._offer.store)

    def _send(self, message: messages.FromWorker) -> None:
        self._socket.send_multipart(split(messages.encode(message)))

    def _call_soon(self, job: Callable[[], None]) -> None:
        self._jobs.append(job)
        os.eventfd_write(self._wake, 1)

    def _set_leave(self, leave: Leave) -> None:
        self._leave = self._leave or leave
