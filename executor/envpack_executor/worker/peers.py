"""The bulk channels of a worker to other workers: one for each from which something comes, for as long as it does."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

from envpack_executor.bulk.client import BulkClient, Patience, Source
from envpack_executor.messages import TakeLayer

# A worker that does not answer must not keep others waiting: there is the client, or another one.
_CONNECT_S = 3.0
_CONNECTIONS = 2
_TRIES = 2


class Peers:
    """Used from the thread of the worker's loop.

    Args:
        token: of the run.
        silence_s: a peer is given up when it says nothing for so long.
        call_soon: runs a function in the loop's thread.
    """

    def __init__(self, token: bytes, silence_s: float, call_soon: Callable[[Callable[[], None]], None]) -> None:
        self._token = token
        self._call_soon = call_soon
        self._patience = Patience(_CONNECTIONS, _CONNECT_S, silence_s, _TRIES)
        self._clients: dict[str, BulkClient] = {}
        self._ending: list[BulkClient] = []

    def client(self, message: TakeLayer) -> BulkClient:
        """Return the channel to a worker."""
        client = self._clients.get(message.source)
        if client is None:
            source = Source(message.address, message.port, self._token)
            client = self._clients[message.source] = BulkClient(source, self._call_soon, self._patience)
        return client

    def hang_up(self, source: str) -> None:
        """Take nothing from a worker any more."""
        client = self._clients.pop(source, None)
        self._ending = [each for each in self._ending if not each.is_over]
        if client is not None:
            client.give_up()
            self._ending.append(client)

    def close(self) -> None:
        """Hang up on all, and wait for the threads."""
        for source in list(self._clients):
            self.hang_up(source)
        for client in self._ending:
            client.close()


def address_towards(source: Source) -> str:
    """Return the address of this machine that faces a source.

    Raises:
        OSError: there is no way to it.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(source.host, source.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)  # sends nothing
        found: str = probe.getsockname()[0]
        return found


def reachable(address: str, source: Source) -> str:
    """Return where others find what listens at an address: of all addresses at once, the one that faces a source."""
    return address_towards(source) if ipaddress.ip_address(address.partition("%")[0]).is_unspecified else address


def is_loopback(address: str) -> bool:
    """Tell whether an address is of the loopback interface, and so each machine's own."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
