"""The door of a listening socket: how many may stand there that have not shown a key, and what they can cost.

    kernel ──SYN──▶ filter (open, or dropping all) ──▶ ZeroMQ: greeting, CURVE, our guard ──▶ peers
                       ▲                                 │ accepted, disconnected
                       └──── too many strangers ◀────────┘

ZeroMQ takes every connection and waits `HANDSHAKE_S` for a key, with a descriptor for each. So the listening socket is
ours, and while too many strangers stand there the kernel drops what further ones send to it: it answers nobody, and
whoever is connected already does not notice. A worker that knocks meanwhile is let in by one of TCP's next attempts.
"""

from __future__ import annotations

import array
import resource
import socket as sockets
import struct

import zmq
from zmq.utils.monitor import parse_monitor_message

from envpack_executor.zeromq import Context, Socket, has_input

HANDSHAKE_S = 10.0
MAX_STRANGERS = 256
_BACKLOG = 64
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h; not among the constants of `socket`
_DROP_ALL = array.array("B", struct.pack("=HBBI", 0x06, 0, 0, 0))  # BPF: return 0 bytes of every packet
_MONITOR = "inproc://envpack-door"


def listen(bind: str) -> sockets.socket:
    """Return a socket that listens at `tcp://HOST:PORT`.

    Raises:
        OSError: it cannot.
        ValueError: it is no such address.
    """
    scheme, _, rest = bind.partition("://")
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not host or not port.isdigit():
        raise ValueError("not an address")
    family, kind, protocol, _, address = sockets.getaddrinfo(
        host.strip("[]").replace("*", "0.0.0.0"), int(port), type=sockets.SOCK_STREAM
    )[0]
    listener = sockets.socket(family, kind, protocol)
    try:
        listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


class Door:
    """Lets ZeroMQ accept from a listening socket, and closes it to all while too many strangers wait.

    Args:
        context: of `socket`.
        socket: the ZeroMQ socket, not bound yet.
        listener: from `listen`; ZeroMQ owns a copy of its descriptor afterwards.
    """

    def __init__(self, context: Context, socket: Socket, listener: sockets.socket) -> None:
        self._listener = listener
        self._connections: set[int] = set()
        self._is_shut = False
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.max_strangers = max(8, min(MAX_STRANGERS, soft // 8))
        socket.handshake_ivl = int(HANDSHAKE_S * 1000)
        socket.setsockopt(zmq.USE_FD, listener.dup().detach())
        socket.monitor(_MONITOR, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self.events = context.socket(zmq.PAIR)
        self.events.rcvhwm = 0  # ZeroMQ's own thread would wait for us otherwise
        self.events.linger = 0
        self.events.connect(_MONITOR)
        socket.ipv6 = listener.family is sockets.AF_INET6
        host, port = listener.getsockname()[:2]
        socket.bind(f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}")

    def watch(self, peers: int) -> None:
        """Count who is there, of whom `peers` are known, and shut or open."""
        while has_input(self.events):
            event = parse_monitor_message(self.events.recv_multipart())
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._connections.add(event["value"])
            else:
                self._connections.discard(event["value"])
        strangers = len(self._connections) - peers
        if not self._is_shut and strangers >= self.max_strangers:
            self._listener.setsockopt(sockets.SOL_SOCKET, _SO_ATTACH_FILTER, _filter())
            self._is_shut = True
        elif self._is_shut and strangers <= self.max_strangers // 2:
            self._listener.setsockopt(sockets.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            self._is_shut = False

    def close(self) -> None:
        """Free what is not the context's."""
        self._listener.close()


def _filter() -> bytes:
    address, _ = _DROP_ALL.buffer_info()
    return struct.pack("HP", len(_DROP_ALL) // 8, address)
