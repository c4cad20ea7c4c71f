"""Claim: a pack reaches several machines in little more than the time of one transfer, and leaves the client once.

Hosts are network namespaces of this machine, each with a cable of 100 Mbit/s to a switch; their disk and cores are the
same ones, so what all do at once with the bytes takes longer than on machines of their own. Measured is the time from
the first call until all workers have begun a call whose environment has one layer of random bytes, for which their
stores are empty; and what has passed through the cables. Peers 4: workers pass layers on to each other. Peers 0: each
takes them from the client. Socket: one host gets as many bytes from another through one TCP connection, and keeps none.

Needs root, ip, tc and nsenter.

    python benchmarks/executor/pack_to_hosts.py [--rounds 3] [--megabytes 100] [--mbit 100] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import rounds

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.executor import ballast, hosts
from tests.executor.linked import running

SOCKET = "socket, 1 host"
SUBJECTS = {f"peers {peers}, {count} hosts": (peers, count) for count in (2, 4) for peers in (4, 0)}
GIVER = """
import socket, sys
with socket.create_server((sys.argv[1], 7777)) as listener:
    print(flush=True)
    connection, _ = listener.accept()
    with connection:
        for _ in range(int(sys.argv[2])):
            connection.sendall(bytes(1_000_000))
"""
TAKER = """
import socket, sys
buffer = bytearray(1 << 20)
with socket.create_connection((sys.argv[1], 7777)) as connection:
    while connection.recv_into(buffer):
        pass
"""


def through_socket(megabytes: int, mbit: int) -> rounds.Figures:
    """Return how long one TCP connection takes."""
    with hosts.laid(["client", "one"], mbit) as net:
        address = net.address("client")
        giver = [*net.command("client"), sys.executable, "-c", GIVER, address, str(megabytes)]
        with subprocess.Popen(giver, stdout=subprocess.PIPE) as giving:
            assert giving.stdout is not None
            giving.stdout.readline()
            begun_s = time.perf_counter()
            subprocess.run([*net.command("one"), sys.executable, "-c", TAKER, address], check=True)
            seconds = time.perf_counter() - begun_s
        return {"seconds": seconds, "client": net.sent("client") / 1e6, "between": float("nan")}


def through_workers(megabytes: int, mbit: int, peers: int, count: int) -> rounds.Figures:
    """Return how long it takes until all workers have a pack."""
    names = [f"host{number}" for number in range(count)]
    with hosts.laid(["client", *names], mbit) as net, tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        ballast.install(folder / "site", megabytes * 1_000_000)
        with running(net, folder, "pack", names, peers) as run:
            run.heard()
            before = {name: net.sent(name) for name in ("client", *names)}
            run.tell()
            seconds = float(run.heard())
            sent = {name: (net.sent(name) - count) / 1e6 for name, count in before.items()}
    return {"seconds": seconds, "client": sent.pop("client"), "between": sum(sent.values())}


def measure(name: str, chosen: argparse.Namespace) -> rounds.Figures:
    """Return the figures of one way."""
    megabytes = 20 if chosen.quick else chosen.megabytes
    if name == SOCKET:
        return through_socket(megabytes, chosen.mbit)
    return through_workers(megabytes, chosen.mbit, *SUBJECTS[name])


def main() -> None:
    chosen = rounds.options(__doc__, rounds=3, megabytes=100, mbit=100)
    if reason := hosts.missing():
        raise SystemExit(f"there can be no hosts here: {reason}")
    found = rounds.run(__file__, chosen, [SOCKET, *SUBJECTS], measure)
    columns = [("seconds", "s", ",.1f"), ("client", "client sent, MB", ",.0f"), ("between", "others sent, MB", ",.0f")]
    megabytes = 20 if chosen.quick else chosen.megabytes
    rounds.show(f"{megabytes} MB to hosts behind {chosen.mbit} Mbit/s", found, columns, chosen, against=SOCKET)


if __name__ == "__main__":
    main()
