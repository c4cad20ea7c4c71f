"""Hosts on one machine: network namespaces, each with a cable of limited speed to a switch that is in one of its own.

    client ══eth0══╗
    one    ══eth0══╬══ switch: a bridge, nothing of it in the machine's own network
    two    ══eth0══╝

Needs root, `ip`, `tc` and `nsenter`, and a kernel that lets this process make namespaces: `missing` says what is not
there. The cables count their bytes; a cut is silent, as when a switch fails: nobody is told that anybody is away.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

TOOLS = ("ip", "tc", "nsenter")
_PREFIX = "envpack-hosts-"


@functools.cache
def missing() -> str:
    """Say why there can be no hosts; empty if there can."""
    if os.geteuid():
        return "only root makes network namespaces"
    if absent := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"not installed: {', '.join(absent)}"
    try:
        with laid(["trial"], mbit=100):
            return ""
    except subprocess.CalledProcessError as error:
        return f"this machine lets no namespaces or cables be made: {' '.join(error.cmd)}: {error.stderr.strip()}"


class Hosts:
    """Some hosts and the switch between them.

    Args:
        prefix: of the names of the namespaces.
        names: of the hosts.
        mbit: what a cable carries each way, in Mbit/s.
    """

    def __init__(self, prefix: str, names: Sequence[str], mbit: int) -> None:
        self._prefix = prefix
        self._names = list(names)
        self._mbit = mbit

    def lay(self) -> None:
        """Make them."""
        switch = self._space("switch")
        _run("ip", "netns", "add", switch)
        _run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", switch, "link", "set", "bridge", "up")
        for name in self._names:
            self._lay_host(name, switch)

    def remove(self) -> None:
        """Remove them with all that is in them."""
        for name in (*self._names, "switch"):
            with contextlib.suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "del", self._space(name))

    def command(self, name: str) -> list[str]:
        """Return what goes before a command line that runs on a host."""
        return ["nsenter", f"--net=/run/netns/{self._space(name)}"]

    def address(self, name: str) -> str:
        """Return the address of a host."""
        return f"10.78.0.{self._names.index(name) + 1}"

    def sent(self, name: str) -> int:
        """Return how many bytes a host has sent through its cable, with all headers."""
        return self._counted(name, "tx")

    def received(self, name: str) -> int:
        """Return how many bytes have come to a host."""
        return self._counted(name, "rx")

    def cut(self, name: str) -> None:
        """Let nothing pass between a host and the others."""
        _run("ip", "-n", self._space("switch"), "link", "set", f"to-{name}", "nomaster")

    def mend(self, name: str) -> None:
        """Let everything pass again."""
        _run("ip", "-n", self._space("switch"), "link", "set", f"to-{name}", "master", "bridge")

    def _lay_host(self, name: str, switch: str) -> None:
        space, port = self._space(name), f"to-{name}"
        _run("ip", "netns", "add", space)
        _run("ip", "-n", space, "link", "set", "lo", "up")
        _run("ip", "link", "add", port, "netns", switch, "type", "veth", "peer", "name", "eth0", "netns", space)
        _run("ip", "-n", switch, "link", "set", port, "master", "bridge", "up")
        _run("ip", "-n", space, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
        _run("ip", "-n", space, "link", "set", "eth0", "up")
        _run("ip", "-n", space, "route", "add", "default", "dev", "eth0")
        for where, device in ((space, "eth0"), (switch, port)):
            limit = ["tbf", "rate", f"{self._mbit}mbit", "burst", "64kb", "latency", "50ms"]
            _run("tc", "-n", where, "qdisc", "add", "dev", device, "root", *limit)

    def _counted(self, name: str, way: str) -> int:
        found = _run("ip", "-n", self._space(name), "-s", "-j", "link", "show", "eth0")
        count: int = json.loads(found)[0]["stats64"][way]["bytes"]
        return count

    def _space(self, name: str) -> str:
        return f"{self._prefix}-{name}"


@contextlib.contextmanager
def laid(names: Sequence[str], mbit: int) -> Iterator[Hosts]:
    """Make hosts, and remove them in the end.

    Args:
        names: of the hosts, of at most 10 characters.
        mbit: what each cable carries, in Mbit/s.

    Raises:
        subprocess.CalledProcessError: they cannot be made.
    """
    _sweep()
    hosts = Hosts(f"{_PREFIX}{os.getpid()}", names, mbit)
    try:
        hosts.lay()
        yield hosts
    finally:
        hosts.remove()


def _sweep() -> None:
    """Remove the hosts of processes that were killed."""
    for space in Path("/run/netns").glob(f"{_PREFIX}*"):
        owner = space.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path(f"/proc/{owner}").exists():
            with contextlib.suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "del", space.name)


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL, text=True).stdout
