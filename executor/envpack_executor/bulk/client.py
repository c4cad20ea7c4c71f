"""A worker's end of the bulk channel: pieces, several at once, from the source that has them.

    loop ──fetch, put──▶ queue of pieces ──▶ a few threads, a connection each ──▶ source
         ◀──done, failed (in the loop's thread)──┘

Guarantees: `done` or `failed` follows each `fetch` and `put`, unless the client is closed; after a cut only the pieces
that were under way are asked for again. `CONNECTIONS` bounds what one source has to do at once. There is one source
now, the manager; another one (a worker that has the bytes already) is another `Source` in the same place.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from envpack_executor.bulk.wire import (
    NOT_HERE,
    PIECE_BYTES,
    Kind,
    Read,
    Request,
    Write,
    receive_head,
    receive_piece,
    send_piece,
)
from envpack_executor.errors import BulkError

_log = logging.getLogger(__name__)

CONNECTIONS = 4
STALL_S = 30.0
_TRIES = 4
_PAUSE_S = 0.25


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
        failed: called there with the reason, once, instead.
        left: pieces that are not there yet.
    """

    kind: Kind
    name: str
    size: int
    copy: Read | Write
    done: Callable[[int], None]
    failed: Callable[[str], None]
    left: int = 0
    is_over: bool = False


class BulkClient:
    """Moves bytes in threads of its own.

    Args:
        source: where from and where to.
        call_soon: runs a function in the loop's thread.
    """

    def __init__(self, source: Source, call_soon: Callable[[Callable[[], None]], None]) -> None:
        self._source = source
        self._call_soon = call_soon
        self._pieces: queue.SimpleQueue[tuple[Transfer, int, int] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._threads = [
            threading.Thread(target=self._run, name="envpack-bulk-client", daemon=True) for _ in range(CONNECTIONS)
        ]
        for thread in self._threads:
            thread.start()

    def move(self, transfer: Transfer) -> None:
        """Begin a transfer."""
        if transfer.size < 0:
            transfer.left = 1
            self._pieces.put((transfer, 0, PIECE_BYTES))
        else:
            self._queue(transfer, 0)

    def close(self) -> None:
        """Give up what is under way and wait for the threads."""
        self._closed.set()
        for _ in self._threads:
            self._pieces.put(None)
        with self._lock:
            for connection in self._connections.values():
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it has ended already
        for thread in self._threads:
            thread.join()

    def _queue(self, transfer: Transfer, start: int) -> None:
        offsets = range(start, max(transfer.size, 1 if start == 0 else 0), PIECE_BYTES)
        transfer.left += len(offsets)
        for offset in offsets:
            self._pieces.put((transfer, offset, min(PIECE_BYTES, transfer.size - offset)))

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
        for attempt in range(_TRIES):
            try:
                self._exchange(self._connection(), transfer, offset, length)
                return
            except (BulkError, OSError) as error:
                self._hang_up()
                reason = f"{type(error).__name__}: {error}"
                _log.debug("piece of %s at %d, attempt %d: %s", transfer.name, offset, attempt, reason)
                if isinstance(error, _NotHereError) or self._closed.wait(_PAUSE_S * attempt):
                    break
        self._fail(transfer, reason)

    def _exchange(self, connection: socket.socket, transfer: Transfer, offset: int, length: int) -> None:
        token = self._source.token
        request = Request.new(transfer.kind, transfer.name, offset, length)
        connection.sendall(request.encode(token))
        if transfer.kind is Kind.RESULT:
            send_piece(connection, request, token, length, transfer.copy)  # type: ignore[arg-type]
            receive_head(connection, request, token)
        else:
            total, size = receive_head(connection, request, token)
            if total == NOT_HERE or (transfer.size >= 0 and (total != transfer.size or size != length)):
                raise _NotHereError("the source has it not")
            receive_piece(connection, request, token, size, transfer.copy)  # type: ignore[arg-type]
            if transfer.size < 0:
                transfer.size = total
                self._queue(transfer, size)
        self._finish_piece(transfer)

    def _finish_piece(self, transfer: Transfer) -> None:
        with self._lock:
            transfer.left -= 1
            is_done = transfer.left == 0 and not transfer.is_over
            transfer.is_over |= is_done
        if is_done:
            self._call_soon(lambda: transfer.done(transfer.size))

    def _fail(self, transfer: Transfer, reason: str) -> None:
        with self._lock:
            is_first = not transfer.is_over
            transfer.is_over = True
        if is_first and not self._closed.is_set():
            self._call_soon(lambda: transfer.failed(reason))

    def _connection(self) -> socket.socket:
        this = threading.current_thread()
        connection = self._connections.get(this)
        if connection is None:
            connection = socket.create_connection((self._source.host, self._source.port), timeout=STALL_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections[this] = connection
        return connection

    def _hang_up(self) -> None:
        with self._lock:
            connection = self._connections.pop(threading.current_thread(), None)
        if connection is not None:
            connection.close()


class _NotHereError(BulkError):
    """The source has not what was asked for: asking again does not help."""
