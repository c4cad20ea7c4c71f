"""The agent that `envpack worker` runs: one thread between the manager's socket and the host of this node.

    manager ══CURVE══ DEALER ──▶ reactor ──▶ host ──▶ context processes
                         ◀────Reply──┘   ◀─events──┘

Guarantees: it ends by itself, with everything that it started, when the manager tells it to, when the manager is
silent for longer than the heartbeat allows, on SIGTERM and SIGINT, and when its wall time is over.
"""

from __future__ import annotations

import functools
import os
import platform
import selectors
import signal
import socket as sockets
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from envpack_executor import messages
from envpack_executor.curve import WorkerKey, authenticate
from envpack_executor.errors import ManagerSilentError, RefusedByManagerError
from envpack_executor.messages import Goodbye, Hello
from envpack_executor.worker.blobs import WorkerBlobs
from envpack_executor.worker.events import Event, Leave, Reply, Tick
from envpack_executor.worker.host import Host
from envpack_executor.worker.reactor import WorkerReactor
from envpack_executor.worker.state import WorkerState
from envpack_executor.zeromq import Context, has_input, limit_frames, split, wake_on

JOIN_WITHIN_S = 30.0
_LINGER_MS = 500
_NO_AUTHENTICATION = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


class Worker:
    """One node of an executor.

    Args:
        address: `tcp://HOST:PORT` of the manager.
        key: of the manager's run.
        cores: how many calls run here at once.
        memory_bytes: what they may have in memory together, where the manager promises memory; 0 for no bound.
        context_bytes: what context processes may keep in memory between calls, all together; 0 for no bound.
        store: folder of this node's store; None for the default.
        wall_time_s: leave after so long; None to stay.
        join_within_s: give up when the manager has not answered after so long.
    """

    def __init__(
        self,
        address: str,
        key: WorkerKey,
        cores: int,
        memory_bytes: int = 0,
        context_bytes: int = 0,
        store: str | None = None,
        wall_time_s: float | None = None,
        join_within_s: float = JOIN_WITHIN_S,
    ) -> None:
        self._address = address
        self._cores = cores
        self._memory_bytes = memory_bytes
        self._context_bytes = context_bytes
        self._started_s = time.monotonic()
        self._wall_time_s = wall_time_s
        self._join_within_s = join_within_s
        self._is_welcome = False
        self._leave: Leave | None = None
        self._jobs: deque[Callable[[], None]] = deque()
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._reactor = WorkerReactor(WorkerState())
        self._blobs = WorkerBlobs(self._send, self._handle, self._call_soon)
        self._host = Host(self._selector, self._call_soon, self._handle, cores, store, self._blobs)
        self._context = Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = _LINGER_MS
        self._socket.sndhwm = self._socket.rcvhwm = 0
        limit_frames(self._socket)
        authenticate(self._socket, key)
        self._monitor = self._socket.get_monitor_socket(_NO_AUTHENTICATION)

    def run(self) -> str:
        """Serve until it is time to leave.

        Returns:
            Why it left.

        Raises:
            RefusedByManagerError: the manager does not want this worker, or does not know its key.
            ManagerSilentError: the manager did not answer, or fell silent.
        """
        self._watch()
        try:
            self._socket.connect(self._address)
            self._send(
                Hello(
                    messages.PROTOCOL_VERSION,
                    sockets.gethostname(),
                    os.getpid(),
                    platform.python_version(),
                    self._cores,
                    self._memory_bytes,
                    self._context_bytes,
                )
            )
            while self._leave is None:
                self._turn()
            return self._verdict(self._leave)
        finally:
            self._close()

    def stop(self, reason: str) -> None:
        """Leave; may be called from any thread and from a signal handler."""
        self._call_soon(functools.partial(self._set_leave, Leave(reason)))

    def _watch(self) -> None:
        self._selector.register(self._wake, selectors.EVENT_READ, lambda mask: os.eventfd_read(self._wake))
        for socket in (self._socket, self._monitor):
            wake_on(self._selector, socket)

    def _turn(self) -> None:
        while self._jobs:
            self._jobs.popleft()()
        self._receive()
        now_s = time.monotonic()
        self._check_time(now_s)
        beaten_s = self._reactor.state.last_beat_s
        self._handle(Tick(now_s))
        if self._reactor.state.last_beat_s != beaten_s:
            self._receive()  # sending uses up the descriptor's change that something has come
        self._host.tick()
        if self._leave is None and not self._jobs:
            for key, mask in self._selector.select(self._timeout_s()):
                key.data(mask)

    def _receive(self) -> None:
        """Take what has come until nothing is left: ZeroMQ's descriptors tell changes, not states."""
        while has_input(self._monitor):
            recv_monitor_message(self._monitor)
            self._set_leave(Leave("the manager does not know the key of this worker", is_refusal=True))
        while self._leave is None and has_input(self._socket):
            message = messages.decode_to_worker(b"".join(self._socket.recv_multipart()))
            self._is_welcome = True
            self._reactor.heard(time.monotonic())
            if not (isinstance(message, messages.Chunk) and self._blobs.take_chunk(message)):
                self._handle(message)

    def _check_time(self, now_s: float) -> None:
        age_s = now_s - self._started_s
        if self._wall_time_s is not None and age_s >= self._wall_time_s:
            self._set_leave(Leave(f"wall time of {self._wall_time_s:g} s is over"))
        elif not self._is_welcome and age_s >= self._join_within_s:
            self._set_leave(
                Leave(
                    f"no answer from {self._address} within {self._join_within_s:g} s: "
                    "nobody listens there, or the key file belongs to another executor",
                    is_silence=True,
                )
            )

    def _timeout_s(self) -> float:
        now_s = time.monotonic()
        state = self._reactor.state
        due = [self._host.next_deadline_s()]
        if state.heartbeat_s:
            due += [state.last_beat_s + state.heartbeat_s, state.last_heard_s + state.silence_s]
        if not self._is_welcome:
            due.append(self._started_s + self._join_within_s)
        if self._wall_time_s is not None:
            due.append(self._started_s + self._wall_time_s)
        return max(0.0, min((each for each in due if each is not None), default=now_s + 1.0) - now_s)

    def _handle(self, event: Event) -> None:
        for instruction in self._reactor.handle(event):
            match instruction:
                case Reply():
                    self._send(instruction.message)
                case Leave():
                    self._set_leave(instruction)
                case _:
                    self._host.execute(instruction)

    def _send(self, message: messages.FromWorker) -> None:
        self._socket.send_multipart(split(messages.encode(message)))

    def _call_soon(self, job: Callable[[], None]) -> None:
        self._jobs.append(job)
        os.eventfd_write(self._wake, 1)

    def _set_leave(self, leave: Leave) -> None:
        self._leave = self._leave or leave

    def _verdict(self, leave: Leave) -> str:
        if leave.is_refusal:
            raise RefusedByManagerError(f"refused by the manager at {self._address}: {leave.reason}")
        if leave.is_silence:
            raise ManagerSilentError(leave.reason)
        return leave.reason

    def _close(self) -> None:
        self._host.close()
        if self._leave is not None and self._is_welcome:
            self._send(Goodbye(self._leave.reason))
        self._socket.disable_monitor()
        self._context.destroy(linger=_LINGER_MS)
        self._selector.close()
        os.close(self._wake)


def stop_on_signals(worker: Worker) -> None:
    """Let SIGTERM and SIGINT end `worker` in order; from the main thread."""

    def leave(number: int, frame: Any) -> None:
        worker.stop(f"ended by {signal.Signals(number).name}")

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
