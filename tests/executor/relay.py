"""A network between a worker and its manager that can be cut: in user space, so that no privilege is needed.

Guarantees: while it is cut, nothing passes and nobody is told, as when a cable is pulled; what was sent meanwhile
arrives afterwards, as TCP would send it again. `reset` breaks the connections loudly instead.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from types import TracebackType

_PIECE_BYTES = 1 << 16
_RESET = b"\1\0\0\0\0\0\0\0"


class Relay:
    """Passes connections on to `tcp://HOST:PORT`, from a port of its own.

    Args:
        target: where they are passed on to.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._other: dict[socket.socket, socket.socket] = {}
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._is_cut = self._is_over = self._is_resetting = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def cut(self) -> None:
        """Let nothing pass any more."""
        self._is_cut = True
        os.eventfd_write(self._wake, 1)

    def mend(self) -> None:
        """Let everything pass again."""
        self._is_cut = False
        os.eventfd_write(self._wake, 1)

    def reset(self) -> None:
        """Break all connections; new ones may come."""
        self._is_resetting = True
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """End it."""
        self._is_over = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        with self._listener:
            while not self._is_over:
                self._round()
            self._break_all()

    def _round(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            for each in () if self._is_cut else (self._listener, *self._other):
                selector.register(each, selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select()]
        for each in ready:
            if each == self._wake:
                os.eventfd_read(self._wake)
            elif each is self._listener:
                self._accept()
            elif isinstance(each, socket.socket) and each in self._other:
                self._pass_on(each)
        if self._is_resetting:
            self._is_resetting = False
            self._break_all()

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(self._target, timeout=10)
        except OSError:
            self._hang_up(near)
            return
        for each, other in ((near, far), (far, near)):
            each.settimeout(10)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._other[each] = other

    def _pass_on(self, source: socket.socket) -> None:
        try:
            data = source.recv(_PIECE_BYTES)
            if data:
                self._other[source].sendall(data)
                return
        except OSError:
            pass  # one end is gone: so is the other now
        for each in (source, self._other[source]):
            del self._other[each]
            self._hang_up(each)

    def _break_all(self) -> None:
        for each in self._other:
            self._hang_up(each)
        self._other.clear()

    def _hang_up(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
