"""Strangers by the thousand before the door of an executor, while a worker that was there before serves calls.

    python -m tests.executor.storm [--connections 1000000] [--knockers 2] [--descriptors 512]

The executor runs in a process of its own with few descriptors. Each knocker connects again and again without waiting,
and most often says nothing; sometimes garbage, or a greeting and the length of a frame of 10 GB. It keeps its last
thousand connections. Printed each second: how many have knocked, calls done, and the executor's descriptors and memory.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.executor.helpers import environ

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(47)
LENGTH_OF_10_GB = b"\x02" + (10 << 30).to_bytes(8, "big")
KEPT = 1000
CALLS_A_ROUND = 50

CLIENT = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]),) * 2)
from envpack_executor import ContextExecutor, RemoteNodes
from tests.executor import functions
nodes = RemoteNodes(key_file=sys.argv[1])
with ContextExecutor(nodes=nodes, history=None) as executor:
    print(nodes.address, flush=True)
    for line in sys.stdin:
        started = time.monotonic()
        futures = [executor.submit(functions.double, number) for number in range(int(line))]
        assert [future.result(30) for future in futures] == [2 * number for number in range(int(line))]
        print(time.monotonic() - started, executor.stats().nodes, flush=True)
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What an executor was seen to have: descriptors, resident bytes, the time of a round of calls, its nodes."""

    descriptors: int
    resident_bytes: int
    round_s: float
    nodes: int


class Besieged:
    """An executor in a process of its own, and one worker that has joined.

    Args:
        folder: for its key and its worker's store.
        descriptors: how many it may have.
    """

    def __init__(self, folder: Path, descriptors: int) -> None:
        self.key_file = folder / "worker.key"
        script = [sys.executable, "-c", CLIENT, str(self.key_file), str(descriptors)]
        self._client = subprocess.Popen(
            script, env=environ(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1
        )
        assert self._client.stdout is not None
        self.address = self._client.stdout.readline().strip()
        self._workers: list[subprocess.Popen[bytes]] = []
        self._folder = folder
        self.add_worker()

    def add_worker(self) -> None:
        """Let one more worker join."""
        store = self._folder / f"store-{len(self._workers)}"
        command = [sys.executable, "-m", "envpack", "worker", "--connect", self.address, "--key", str(self.key_file)]
        options = ["--cores", "1", "--store", str(store)]
        self._workers.append(subprocess.Popen([*command, *options], env=environ(), stderr=subprocess.DEVNULL))

    def look(self, calls: int = CALLS_A_ROUND) -> Seen:
        """Let it make a round of calls, and see what it has then."""
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write(f"{calls}\n")
        round_s, nodes = self._client.stdout.readline().split()
        pages = int(Path(f"/proc/{self._client.pid}/statm").read_text().split()[1])
        descriptors = len(os.listdir(f"/proc/{self._client.pid}/fd"))
        return Seen(descriptors, pages * resource.getpagesize(), float(round_s), int(nodes))

    def __enter__(self) -> Besieged:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._client:
            assert self._client.stdin is not None
            self._client.stdin.close()
            if kind is not None:
                self._client.kill()
        for worker in self._workers:
            if kind is not None:
                worker.kill()
            worker.wait(30)


class Knocker:
    """Knocks at an address, and stays there.

    Args:
        address: `tcp://HOST:PORT`.
        seed: of what it says.
        kept: how many connections it keeps.
    """

    def __init__(self, address: str, seed: int, kept: int = KEPT) -> None:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        self._place = host, int(port)
        self._random = random.Random(seed)
        self._open: deque[socket.socket] = deque()
        self._kept = kept

    def knock(self) -> None:
        """Begin one more connection; the oldest of many is closed with a reset, so that no port stays in use."""
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.connect_ex(self._place)
        self._open.append(connection)
        if len(self._open) > self._kept:
            self._open.popleft().close()
        talker = self._open[self._random.randrange(len(self._open))]
        with contextlib.suppress(OSError):
            talker.send(self._words())

    def _words(self) -> bytes:
        kind = self._random.randrange(20)
        if kind == 0:
            return self._random.randbytes(self._random.randrange(1, 200))
        return GREETING + LENGTH_OF_10_GB if kind == 1 else GREETING[: self._random.randrange(3)]

    def leave(self) -> None:
        """Close every connection."""
        for connection in self._open:
            connection.close()
        self._open.clear()


def _keep_knocking(address: str, seed: int, count: int, done: Any) -> None:
    knocker = Knocker(address, seed)
    for number in range(count):
        knocker.knock()
        if number % 100 == 99:
            done.value = number + 1
    done.value = count
    knocker.leave()


def main() -> int:
    """Run the storm; the exit code is 1 if the executor was disturbed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1_000_000)
    parser.add_argument("--knockers", type=int, default=2)
    parser.add_argument("--descriptors", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="envpack-storm-") as folder, contextlib.ExitStack() as stack:
        besieged = stack.enter_context(Besieged(Path(folder), options.descriptors))
        before = min((besieged.look() for _ in range(20)), key=lambda seen: seen.round_s)
        started_s = time.monotonic()
        each = -(-options.connections // options.knockers)
        counters = [multiprocessing.Value("q", 0) for _ in range(options.knockers)]
        knockers = [
            multiprocessing.Process(target=_keep_knocking, args=(besieged.address, seed, each, done), daemon=True)
            for seed, done in enumerate(counters)
        ]
        for knocker in knockers:
            knocker.start()
        during = [before]
        while any(knocker.is_alive() for knocker in knockers):
            during.append(besieged.look())
            _tell(time.monotonic() - started_s, sum(done.value for done in counters), during)
            time.sleep(1)
        during.append(besieged.look())
        _tell(time.monotonic() - started_s, sum(done.value for done in counters), during)
        besieged.add_worker()
        deadline_s = time.monotonic() + 30
        while (after := besieged.look()).nodes < 2 and time.monotonic() < deadline_s:
            time.sleep(0.1)
    grown_mb = (max(seen.resident_bytes for seen in during) - before.resident_bytes) / 1e6
    most = max(seen.descriptors for seen in during)
    print(f"storm: descriptors {before.descriptors} before, {most} at most, of {options.descriptors} allowed")
    print(f"storm: memory grown by {grown_mb:.1f} MB; a worker joined afterwards: {after.nodes == 2}")
    return 0 if after.nodes == 2 and most < options.descriptors and grown_mb < 100 else 1


def _tell(elapsed_s: float, knocked: int, during: list[Seen]) -> None:
    now = during[-1]
    print(
        f"storm: {elapsed_s:6.1f} s {knocked:9,} knocked, {CALLS_A_ROUND * len(during):6,} calls done, a round "
        f"{now.round_s * 1e3:6.1f} ms; {now.descriptors} descriptors, {now.resident_bytes / 1e6:.0f} MB",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
