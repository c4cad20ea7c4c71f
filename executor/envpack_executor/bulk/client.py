"""A worker's end of the bulk channel: pieces, several at once, from the source that has them.

    loop ──fetch, put──▶ queue of pieces ──▶ a few threads, a connection each ──▶ source
         ◀──done, failed (in the loop's thread)──┘

Guarantees: `done` or `failed` follows each transfer, unless the client is closed; after a cut only the pieces that were
under way are asked for again, also from another source, where the transfer's `progress` says what is here. The source
is the manager, or a worker that has a layer, or is receiving it; a client has one. How patient it is with that is up to
its `Patience`, whose number of connections bounds what the source has to do at once.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from envpack_executor.bulk.wire import (
    NOT_HERE,
    NOT_YET,
    Kind,
    Read,
    Request,
    Write,
    receive_head,
    receive_piece,
    send_piece,
)
from envpack_executor.errors import BulkError, NotHereError

_log = logging.getLogger(__name__)

_PAUSE_S = 0.25


@dataclass(frozen=True, slots=True)
class Patience:
    """How a source is treated.

    Args:
        connections: to it at once.
        connect_s: a connection is made within so long.
        stall_s: it is given up when it says nothing for so long.
        tries: to get a piece.
    """

    connections: int = 4
    connect_s: float = 30.0
    stall_s: float = 30.0
    tries: int = 4


class Progress(Protocol):
    """What is here of a thing, from whichever source it came; for any thread."""

    def has(self, offset: int) -> bool:
        """Tell whether the piece that begins there is here."""

    def note(self, offset: int, length: int, total: int) -> None:
        """Note that a piece of a thing of `total` bytes is here and right."""


@dataclass(frozen=True, slots=True)
class Source:
    """Who has bytes: where it listens, and the token of its run."""

    host: str
    port: int
    token: bytes


@dataclass(slots=True, eq=False)
class Transfer:
    """One thing that comes or goes, until all its pieces have.

    Args:
        kind: of it.
        name: its digest or name.
        size: in bytes; -1 when only the source knows.
        copy: takes bytes that come, or returns those that go.
        done: called in the loop's thread with the size when all is there.
        failed: called there with the reason, once, instead; `NotHereError` if it is that the source has it not.
        progress: what is here of it already, and is told of each piece; None where a transfer begins with nothing.
        left: pieces that are not there yet.
    """

    kind: Kind
    name: str
    size: int
    copy: Read | Write
    done: Callable[[int], None]
    failed: Callable[[BulkError | OSError], None]
    progress: Progress | None = None
    left: int = 0
    is_over: bool = False


class BulkClient:
    """Moves bytes in threads of its own.

    Args:
        source: where from and where to.
        call_soon: runs a function in the loop's thread.
        patience: with the source.
    """

    def __init__(
        self, source: Source, call_soon: Callable[[Callable[[], None]], None], patience: Patience | None = None
    ) -> None:
        self._source = source
        self._call_soon = call_soon
        self._patience = patience or Patience()
        self._pieces: queue.SimpleQueue[tuple[Transfer, int, int] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._threads = [
            threading.Thread(target=self._run, name="envpack-bulk-client", daemon=True)
            for _ in range(self._patience.connections)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_over(self) -> bool:
        """Whether its threads have ended."""
        return not any(thread.is_alive() for thread in self._threads)

    def move(self, transfer: Transfer) -> None:
        """Begin a transfer."""
        if transfer.size < 0:
            transfer.left = 1
            self._pieces.put((transfer, 0, transfer.kind.piece_bytes))
            return
        # One piece more than there are, until all are in the queue: the threads are at work on the first ones already.
        transfer.left = 1
        self._queue(transfer, 0)
        self._finish_piece(transfer)

    def give_up(self) -> None:
        """Give up what is under way: no transfer is told how it ended. The threads end soon, but not at once."""
        self._closed.set()
        for _ in self._threads:
            self._pieces.put(None)
        with self._lock:
            for connection in self._connections.values():
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it has ended already

    def close(self) -> None:
        """Give up what is under way and wait for the threads."""
        self.give_up()
        for thread in self._threads:
            thread.join()

    def _queue(self, transfer: Transfer, start: int) -> None:
        step = transfer.kind.piece_bytes
        offsets = range(start, max(transfer.size, 1 if start == 0 else 0), step)
        has = (lambda offset: False) if transfer.progress is None else transfer.progress.has
        missing = [offset for offset in offsets if not has(offset)]
        with self._lock:
            transfer.left += len(missing)
        for offset in missing:
            self._pieces.put((transfer, offset, min(step, transfer.size - offset)))

    # --- in the threads

    def _run(self) -> None:
        try:
            while not self._closed.is_set() and (piece := self._pieces.get()) is not None:
                transfer, offset, length = piece
                if not transfer.is_over:
                    self._move(transfer, offset, length)
        finally:
            self._hang_up()

    def _move(self, transfer: Transfer, offset: int, length: int) -> None:
        for attempt in range(self._patience.tries):
            try:
                self._exchange(self._connection(), transfer, offset, length)
                return
            except (BulkError, OSError) as error:
                self._hang_up()
                # Without the frames that it passed: what they hold must not live as long as this one.
                reason = error.with_traceback(None)
                _log.debug("piece of %s at %d, attempt %d: %r", transfer.name, offset, attempt, reason)
                if isinstance(reason, NotHereError) or self._closed.wait(_PAUSE_S * attempt):
                    break
        self._fail(transfer, reason)

    def _exchange(self, connection: socket.socket, transfer: Transfer, offset: int, length: int) -> None:
        if transfer.kind is Kind.RESULT:
            self._give(connection, transfer, offset, length)
        else:
            self._take(connection, transfer, offset, length)
        self._finish_piece(transfer)

    def _give(self, connection: socket.socket, transfer: Transfer, offset: int, length: int) -> None:
        token = self._source.token
        request = Request.new(transfer.kind, transfer.name, offset, length)
        connection.sendall(request.encode(token))
        send_piece(connection, request, token, length, transfer.copy)  # type: ignore[arg-type]
        receive_head(connection, request, token)

    def _take(self, connection: socket.socket, transfer: Transfer, offset: int, length: int) -> None:
        token = self._source.token
        request, total, size = self._ask(connection, transfer, offset, length)
        if total == NOT_HERE or (transfer.size >= 0 and (total != transfer.size or size != length)):
            raise NotHereError("the source has it not")
        receive_piece(connection, request, token, size, transfer.copy)  # type: ignore[arg-type]
        if transfer.progress is not None:
            transfer.progress.note(offset, size, total)
        if transfer.size < 0:
            transfer.size = total
            self._queue(transfer, max(size, 1))

    def _ask(self, connection: socket.socket, transfer: Transfer, offset: int, length: int) -> tuple[Request, int, int]:
        """Ask for a piece until the source has it, or can say that it has not; return the request and what it said."""
        while not transfer.is_over and not self._closed.is_set():
            request = Request.new(transfer.kind, transfer.name, offset, length)
            connection.sendall(request.encode(self._source.token))
            total, size = receive_head(connection, request, self._source.token)
            if total != NOT_YET:
                return request, total, size
        raise BulkError("given up")

    def _finish_piece(self, transfer: Transfer) -> None:
        with self._lock:
            transfer.left -= 1
            is_done = transfer.left == 0 and not transfer.is_over
            transfer.is_over |= is_done
        if is_done:
            self._call_soon(lambda: transfer.done(transfer.size))

    def _fail(self, transfer: Transfer, reason: BulkError | OSError) -> None:
        with self._lock:
            is_first = not transfer.is_over
            transfer.is_over = True
        if is_first and not self._closed.is_set():
            self._call_soon(lambda: transfer.failed(reason))

    def _connection(self) -> socket.socket:
        this = threading.current_thread()
        connection = self._connections.get(this)
        if connection is None:
            address = (self._source.host, self._source.port)
            connection = socket.create_connection(address, timeout=self._patience.connect_s)
            connection.settimeout(self._patience.stall_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections[this] = connection
            if self._closed.is_set():
                raise BulkError("closed")  # and nobody has hung up this connection
        return connection

    def _hang_up(self) -> None:
        with self._lock:
            connection = self._connections.pop(threading.current_thread(), None)
        if connection is not None:
            connection.close()
