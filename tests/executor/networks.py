"""Networks between an executor and its workers that a test can cut: namespaces of the kernel, or relays without them.

Namespaces need root and `ip`: the client lives in one, each worker in another, with a cable between the two. Of both
kinds: `address(number)` is where worker `number` finds the executor, `command(number)` goes before its command line.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from typing import Protocol

from tests.executor.relay import Relay

INSIDE = "ENVPACK_CHAOS_NETWORK"


class Network(Protocol):
    """One cable for each worker."""

    bind: str

    def open(self, address: str) -> None:
        """Lay the cables to an executor that listens at `address`."""

    def address(self, number: int) -> str:
        """Return where a worker finds the executor."""

    def command(self, number: int) -> list[str]:
        """Return what goes before the command line of a worker."""

    def cut(self, number: int) -> None:
        """Let nothing pass."""

    def mend(self, number: int) -> None:
        """Let everything pass again."""

    def reset(self, number: int) -> None:
        """Break what is connected, loudly."""

    def close(self) -> None:
        """Take everything away."""


class Relays:
    """Relays on the loopback interface."""

    bind = "tcp://127.0.0.1:0"

    def __init__(self, count: int) -> None:
        self._count = count
        self._relays: list[Relay] = []

    def open(self, address: str) -> None:
        """Lay the cables."""
        self._relays = [Relay(address) for _ in range(self._count)]

    def address(self, number: int) -> str:
        """Return the address of a worker's relay."""
        return self._relays[number].address

    def command(self, number: int) -> list[str]:
        """Return nothing: they are ordinary processes."""
        return []

    def cut(self, number: int) -> None:
        """Let nothing pass."""
        self._relays[number].cut()

    def mend(self, number: int) -> None:
        """Let everything pass again."""
        self._relays[number].mend()

    def reset(self, number: int) -> None:
        """Break what is connected."""
        self._relays[number].reset()

    def close(self) -> None:
        """End the relays."""
        for relay in self._relays:
            relay.close()


class Namespaces:
    """Network namespaces with a cable each to that of the client, in which the calling process lives already.

    Args:
        name: of the client's; those of the workers begin with it.
        count: how many workers.
    """

    bind = "tcp://0.0.0.0:0"

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self._port = ""

    def open(self, address: str) -> None:
        """Lay the cables."""
        self._port = address.rpartition(":")[2]
        for number in range(self._count):
            there = self._there(number)
            _ip("netns", "add", there)
            _ip("link", "add", f"to{number}", "type", "veth", "peer", "name", "eth0", "netns", there)
            _ip("addr", "add", f"10.77.{number}.1/24", "dev", f"to{number}")
            _ip("link", "set", f"to{number}", "up")
            _ip("-n", there, "addr", "add", f"10.77.{number}.2/24", "dev", "eth0")
            _ip("-n", there, "link", "set", "lo", "up")
            _ip("-n", there, "link", "set", "eth0", "up")

    def address(self, number: int) -> str:
        """Return the client's end of a worker's cable."""
        return f"tcp://10.77.{number}.1:{self._port}"

    def command(self, number: int) -> list[str]:
        """Return what lets a worker live in its namespace."""
        return ["nsenter", f"--net=/run/netns/{self._there(number)}"]

    def cut(self, number: int) -> None:
        """Pull the client's end of a cable."""
        _ip("link", "set", f"to{number}", "down")

    def mend(self, number: int) -> None:
        """Put it in again."""
        _ip("link", "set", f"to{number}", "up")

    def reset(self, number: int) -> None:
        """Take the cable away and lay another one: what is connected is refused by nobody and goes on afterwards."""
        self.cut(number)
        self.mend(number)

    def close(self) -> None:
        """Remove the workers' namespaces."""
        for number in range(self._count):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", self._there(number))

    def _there(self, number: int) -> str:
        return f"{self._name}-{number}"


def make(count: int) -> Network:
    """Return a network of namespaces where `run_inside` has brought this process into one, otherwise of relays."""
    name = os.environ.get(INSIDE)
    return Namespaces(name, count) if name else Relays(count)


def run_inside(words: list[str]) -> int | None:
    """Run this program again in a namespace of its own; None where there are none, or it is in one already."""
    if INSIDE in os.environ or os.geteuid() or not (shutil.which("ip") and shutil.which("nsenter")):
        return None
    name = f"envpack-{os.getpid()}"
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError:
        return None  # root, but in a container that may not
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        command = ["nsenter", f"--net=/run/netns/{name}", sys.executable, *words]
        return subprocess.run(command, env={**os.environ, INSIDE: name}, check=False).returncode
    finally:
        _ip("netns", "del", name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
