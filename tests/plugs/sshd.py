"""SSH servers on the hosts of a test, with keys and a configuration of their own: nothing of the machine's is touched.

Needs `sshd` and `ssh-keygen` beside what hosts need: `missing` says what is not there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.executor import hosts
from tests.executor.helpers import GENEROUS_S, wait_until
from tests.executor.hosts import Hosts

PORT = 2222
# Where sshd wants a folder of root's to be, whatever its configuration says.
PRIVILEGES = Path("/run/sshd")
_CONFIG = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
{environment}
"""
_KNOCK = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()"


def missing() -> str:
    """Say why there can be no SSH servers on hosts; empty if there can."""
    absent = [name for name in ("sshd", "ssh-keygen") if _program(name) is None]
    return f"not installed: {', '.join(absent)} (make ssh-tools)" if absent else hosts.missing()


@contextlib.contextmanager
def served(net: Hosts, environments: Mapping[str, Mapping[str, str]], folder: Path) -> Iterator[Path]:
    """Run a server on each host; yield the private key that opens them.

    Args:
        net: the hosts.
        environments: what programs that are started by SSH find in their environment, by host.
        folder: where keys and configurations are written.
    """
    for name in ("host_key", "user_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    PRIVILEGES.mkdir(mode=0o755, exist_ok=True)
    servers = [_start(net, name, environment, folder) for name, environment in environments.items()]
    try:
        for name in environments:
            wait_until(lambda name=name: _answers(net, name), f"sshd on {name!r} answers")  # type: ignore[misc]
        yield folder / "user_key"
    finally:
        for server in servers:
            server.terminate()
            server.wait()


def pids_on(net: Hosts, name: str) -> list[int]:
    """Return the processes that live on a host."""
    space = net.command(name)[1].rpartition("/")[2]
    found = subprocess.run(["ip", "netns", "pids", space], check=True, capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def _start(net: Hosts, name: str, environment: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    said = " ".join(f"{key}={value}" for key, value in environment.items())
    config = folder / f"sshd-{name}"
    config.write_text(
        _CONFIG.format(
            port=PORT, address=net.address(name), folder=folder, environment=f"SetEnv {said}" if said else ""
        )
    )
    program = _program("sshd")
    assert program is not None
    with (folder / f"sshd-{name}.log").open("wb") as log:
        return subprocess.Popen([*net.command(name), program, "-D", "-e", "-f", str(config)], stderr=log)


def _answers(net: Hosts, name: str) -> bool:
    command = [*net.command(name), sys.executable, "-c", _KNOCK, net.address(name), str(PORT)]
    return subprocess.run(command, capture_output=True, timeout=GENEROUS_S, check=False).returncode == 0


def _program(name: str) -> str | None:
    """Return the whole path: sshd wants to be started by it."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
