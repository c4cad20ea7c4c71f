"""Claim: large values reach a worker elsewhere faster over the bulk channel than over the encrypted connection.

One process sends bytes to another through a socket of the loopback interface, or calls a function of a worker that has
joined by a key with an argument that was never there before, and then for a result: over the plain bulk channel, whose
pieces carry keyed digests, and over the encrypted connection. MB/s, from `submit` to the result; what a call without
a large value takes is taken off. Again: the same argument once more, which is there already. CPU: of client, worker
and context process for both of these calls, per GB.

    python benchmarks/executor/bulk_channel.py [--rounds 5] [--megabytes 100] [--only channel] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import functions
import rounds

SOCKET = "plain socket"
CHANNELS = {"bulk channel": "plain", "encrypted connection": "encrypted"}
READER = """
import socket, sys
port, size = map(int, sys.argv[1:])
with socket.create_connection(("127.0.0.1", port)) as connection:
    while True:
        data = memoryview(bytearray(size))
        filled = 0
        while filled < size:
            count = connection.recv_into(data[filled:])
            if not count: sys.exit()
            filled += count
        connection.sendall(b".")
"""


def seconds(action: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    action()
    return time.perf_counter() - started_s


def fresh(size: int) -> bytes:
    """Return bytes that never were before, quickly."""
    return os.urandom(64) + bytes(size - 64)


def through_socket(size: int) -> rounds.Figures:
    """Return the rate at which another process gets bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-c", READER, str(listener.getsockname()[1]), str(size)]
        with subprocess.Popen(command):
            connection, _ = listener.accept()
            with connection:

                def copy(data: bytes) -> None:
                    connection.sendall(data)
                    connection.recv(1)

                copy(fresh(size))
                data = fresh(size)
                rate = size / 1e6 / seconds(lambda: copy(data))
    return {"argument": rate, "result": rate, "again": float("nan"), "cpu_s": float("nan")}


def through_worker(size: int, bulk: str) -> rounds.Figures:
    """Return the rates at which a worker gets an argument and the client a result."""
    from envpack_executor import ContextExecutor, RemoteNodes

    nodes = RemoteNodes(bulk=bulk)  # type: ignore[arg-type]
    with ContextExecutor(nodes=nodes) as executor:
        command = [sys.executable, "-m", "envpack", "worker", "--cores", "1"]
        with subprocess.Popen([*command, "--connect", nodes.address, "--key", str(nodes.key_file)], stderr=-3):

            def call(function: Callable[..., object], argument: object) -> None:
                executor.submit(function, argument).result(600)

            for warm in (64, 2_000_000):
                call(functions.touch, fresh(warm))
                call(functions.make, warm)
            bare_s = min(seconds(lambda: call(functions.touch, b"")) for _ in range(5))
            data = fresh(size)
            cpu_s = rounds.tree_cpu_s(os.getpid())
            first_s, again_s = (seconds(lambda: call(functions.touch, data)) - bare_s for _ in range(2))
            cpu_s = rounds.tree_cpu_s(os.getpid()) - cpu_s
            result_s = seconds(lambda: call(functions.make, size)) - bare_s
            executor.shutdown()
    rates = {"argument": size / 1e6 / first_s, "result": size / 1e6 / result_s, "again": size / 1e6 / again_s}
    return {**rates, "cpu_s": cpu_s / size * 1e9}


def measure(name: str, chosen: argparse.Namespace) -> rounds.Figures:
    """Return the figures of one way."""
    size = (10 if chosen.quick else chosen.megabytes) * 1_000_000
    return through_socket(size) if name == SOCKET else through_worker(size, CHANNELS[name])


def main() -> None:
    chosen = rounds.options(__doc__, rounds=5, megabytes=100)
    found = rounds.run(__file__, chosen, [SOCKET, *CHANNELS], measure)
    columns = [("argument", "argument, MB/s", ",.0f"), ("result", "result, MB/s", ",.0f"), ("again", "again", ",.0f")]
    columns.append(("cpu_s", "CPU of both, s/GB", ".1f"))
    megabytes = 10 if chosen.quick else chosen.megabytes
    rounds.show(f"{megabytes} MB to a worker elsewhere and back", found, columns, chosen, against=SOCKET)


if __name__ == "__main__":
    main()
