"""The giving end of the bulk channel: the manager's, and that of a worker that passes layers on.

    thread of the door: accept, wait for one request ──right token──▶ a thread for each connection: piece after piece

Guarantees: who does not show the token hears nothing and is gone after `HANDSHAKE_S`, or when `MAX_STRANGERS` others
have come; connections, and so threads, are bounded; a peer that takes nothing for `STALL_S` is given up. None of this
runs in the manager's loop.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from envpack_executor.bulk.wire import (
    NOT_HERE,
    NOT_YET,
    REQUEST_BYTES,
    Kind,
    Request,
    receive_exactly,
    receive_piece,
    send_head,
    send_piece,
)
from envpack_executor.errors import BulkError
from envpack_executor.values.blobs import BLOBS

_log = logging.getLogger(__name__)

HANDSHAKE_S = 10.0
STALL_S = 30.0
MAX_STRANGERS = 64
# Each is a thread that mostly waits, and a descriptor; a worker opens four at most.
MAX_CONNECTIONS = 256
# A connection that asks for nothing is kept so long: a worker that has layers to fetch again soon need not knock.
_IDLE_S = 60.0


class Layer(Protocol):
    """A layer that is here, or on its way here; used by one thread."""

    def await_piece(self, offset: int, length: int) -> int | None:
        """Return the size of the whole when these bytes are here; None if they are not within a moment.

        Raises:
            OSError: they will never be.
        """

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes that are here."""

    def close(self) -> None:
        """It is not read any more."""


class ResultSink(Protocol):
    """Who takes the pieces of results; from any thread."""

    def room(self, name: str, size_left: int, offset: int) -> int | None:
        """Return the descriptor where a piece of a result may be written, None when it is not expected."""

    def arrived(self, name: str, offset: int, length: int) -> None:
        """Note that a piece is there and right."""


class BulkServer:
    """Listens for bulk connections.

    Args:
        listener: a listening socket; taken over.
        token: of this run.
        layer: opens the layer of a digest, from any thread; raises `OSError` if it is not here.
        results: takes pieces of results; None where nobody brings any.
    """

    def __init__(
        self,
        listener: socket.socket,
        token: bytes,
        layer: Callable[[str], Layer],
        results: ResultSink | None = None,
    ) -> None:
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._token = token
        self._layer = layer
        self._results = results
        self._strangers: dict[socket.socket, tuple[float, bytearray]] = {}
        self._peers: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        self._is_closing = False
        self._waker, self._wake = socket.socketpair()
        listener.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="envpack-bulk", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up on everybody and wait for the threads."""
        self._is_closing = True
        self._wake.send(b"x")
        self._thread.join()
        with self._lock:
            peers = list(self._peers.items())
        for connection, _ in peers:
            _hang_up(connection)
        for _, thread in peers:
            thread.join()
        for each in (self._listener, self._waker, self._wake):
            each.close()

    # --- the door

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._waker, selectors.EVENT_READ)
            while not self._is_closing:
                for key, _ in selector.select(HANDSHAKE_S / 4 if self._strangers else None):
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    elif isinstance(key.fileobj, socket.socket) and key.fileobj is not self._waker:
                        self._listen_to(selector, key.fileobj)
                self._dismiss(selector)
            for stranger in list(self._strangers):
                self._forget(selector, stranger)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # it is gone again, or there is no descriptor left: then the strangers' time will make room
        connection.setblocking(False)
        self._strangers[connection] = time.monotonic(), bytearray()
        selector.register(connection, selectors.EVENT_READ)

    def _listen_to(self, selector: selectors.BaseSelector, stranger: socket.socket) -> None:
        data = self._strangers[stranger][1]
        try:
            more = stranger.recv(REQUEST_BYTES - len(data))
        except BlockingIOError:
            return
        except OSError:
            more = b""
        data += more
        if more and len(data) < REQUEST_BYTES:
            return
        request = Request.decode(bytes(data), self._token) if more else None
        with self._lock:
            has_room = len(self._peers) < MAX_CONNECTIONS
        if request is None or not has_room:
            self._forget(selector, stranger)
            return
        selector.unregister(stranger)
        del self._strangers[stranger]
        thread = threading.Thread(target=self._serve, args=(stranger, request), name="envpack-bulk-peer", daemon=True)
        with self._lock:
            self._peers[stranger] = thread
        thread.start()

    def _dismiss(self, selector: selectors.BaseSelector) -> None:
        """Hang up on strangers whose time is over, and on the oldest while there are too many."""
        now = time.monotonic()
        for stranger, (since, _) in list(self._strangers.items()):
            if now - since > HANDSHAKE_S or len(self._strangers) > MAX_STRANGERS:
                self._forget(selector, stranger)

    def _forget(self, selector: selectors.BaseSelector, stranger: socket.socket) -> None:
        selector.unregister(stranger)
        del self._strangers[stranger]
        stranger.close()

    # --- a connection

    def _serve(self, connection: socket.socket, request: Request | None) -> None:
        try:
            with connection:
                while request is not None and not self._is_closing:
                    connection.settimeout(STALL_S)
                    self._answer(connection, request)
                    connection.settimeout(_IDLE_S)
                    request = Request.decode(receive_exactly(connection, REQUEST_BYTES), self._token)
        except (BulkError, OSError) as error:
            _log.debug("bulk connection ended: %s", error)
        finally:
            with self._lock:
                self._peers.pop(connection, None)

    def _answer(self, connection: socket.socket, request: Request) -> None:
        match request.kind:
            case Kind.VALUE:
                self._send_value(connection, request)
            case Kind.LAYER:
                self._send_layer(connection, request)
            case Kind.RESULT:
                self._take_result(connection, request)

    def _send_value(self, connection: socket.socket, request: Request) -> None:
        blob = BLOBS.live.get(request.name)
        if blob is None:
            send_head(connection, request, self._token, NOT_HERE, 0)
            return
        view = blob.view()
        length = _length(request, blob.size)
        send_head(connection, request, self._token, blob.size, length)
        send_piece(connection, request, self._token, length, lambda offset, size: view[offset : offset + size])

    def _send_layer(self, connection: socket.socket, request: Request) -> None:
        try:
            layer = self._layer(request.name)
        except OSError:
            send_head(connection, request, self._token, NOT_HERE, 0)
            return
        with contextlib.closing(layer):
            try:
                total = layer.await_piece(request.offset, request.length)
            except OSError:
                total = NOT_HERE
            if total is None or total == NOT_HERE:
                send_head(connection, request, self._token, NOT_YET if total is None else NOT_HERE, 0)
                return
            length = _length(request, total)
            send_head(connection, request, self._token, total, length)
            send_piece(connection, request, self._token, length, layer.read)

    def _take_result(self, connection: socket.socket, request: Request) -> None:
        results = self._results
        descriptor = None if results is None else results.room(request.name, request.length, request.offset)
        if results is None or descriptor is None:
            raise BulkError(f"result {request.name} is not expected")
        try:
            receive_piece(
                connection,
                request,
                self._token,
                request.length,
                lambda offset, data: _write_all(descriptor, offset, data),
            )
        finally:
            os.close(descriptor)
        results.arrived(request.name, request.offset, request.length)
        send_head(connection, request, self._token, 0, 0)


def _length(request: Request, total: int) -> int:
    return max(0, min(request.length, total - request.offset))


def _write_all(descriptor: int, offset: int, data: memoryview) -> None:
    while data:
        count = os.pwrite(descriptor, data, offset)
        data, offset = data[count:], offset + count


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended already
