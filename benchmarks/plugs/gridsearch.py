"""Claim: a GridSearchCV on 200 MB of training data moves them to each node once; the time stands beside that of loky.

A search over a grid of ridge regressions, and then the cross-validation of its best one, on the same array: first in
new processes, then once more in those that are there. With joblib's own backend, with ours on this machine, and with
ours on two nodes of one core each that this machine plays: workers that join by a key, whose connections of both kinds
(control, and bulk) go through a relay that counts what each of them is sent. On this machine a node is sent nothing:
its copy is the memory file that all processes map, whose size is counted. The indices of the folds count as well: they
are not a part of the data, and a fiftieth of it or so.

    python benchmarks/plugs/gridsearch.py [--rounds 3] [--megabytes 200] [--only loky] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "executor"))

import rounds

WORKERS = 2
FEATURES = 50
LOKY, HERE, NODES = "joblib's loky", "envpack", "envpack, two nodes"


class Relay:
    """Passes connections on and counts the bytes that come back, which are those that a node is sent."""

    def __init__(self, host: str, port: int, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server((host, port))
        self.address = "tcp://{}:{}".format(*self._listener.getsockname()[:2])
        self.sent_bytes = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection(self._target)
            for source, sink, is_counted in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pass_on, args=(source, sink, is_counted), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 20):
                self.sent_bytes += len(data) * is_counted
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def loky() -> Iterator[Callable[[], float]]:
    import joblib

    with joblib.parallel_config(backend="loky", n_jobs=WORKERS):
        yield lambda: float("nan")


@contextlib.contextmanager
def here() -> Iterator[Callable[[], float]]:
    import joblib

    import envpack_executor.joblib

    with joblib.parallel_config(backend="envpack", n_jobs=WORKERS):
        yield held_bytes
    envpack_executor.joblib.shutdown()


@contextlib.contextmanager
def two_nodes() -> Iterator[Callable[[], float]]:
    import joblib

    import envpack_executor.joblib
    from envpack_executor import ContextExecutor, RemoteNodes

    with socket.create_server(("127.0.0.1", 0)) as free:
        bulk_port = free.getsockname()[1]
    nodes = RemoteNodes(bulk_port=bulk_port)
    with ContextExecutor(nodes=nodes) as executor, contextlib.ExitStack() as stack:
        target = "127.0.0.1", int(nodes.address.rpartition(":")[2])
        cables = []
        for number in range(WORKERS):
            host = f"127.0.1.{number + 1}"
            relays = Relay(host, 0, target), Relay(host, bulk_port, ("127.0.0.1", bulk_port))
            words = ["--cores", "1", "--connect", relays[0].address, "--key", str(nodes.key_file)]
            worker = subprocess.Popen([sys.executable, "-m", "envpack", "worker", *words], stderr=subprocess.DEVNULL)
            stack.callback(worker.wait)
            stack.callback(worker.terminate)
            cables.append(relays)
        while len(executor.nodes()) < WORKERS:
            time.sleep(0.05)
        with joblib.parallel_config(backend="envpack", executor=executor, n_jobs=WORKERS):
            yield lambda: max(sum(relay.sent_bytes for relay in relays) for relays in cables)
        envpack_executor.joblib.shutdown()


WAYS = {LOKY: loky, HERE: here, NODES: two_nodes}


def held_bytes() -> float:
    """Return the memory that all memory files take which this process has open."""
    total = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the folder itself
            if os.readlink(f"/proc/self/fd/{number}").startswith("/memfd:envpack-value"):
                total += os.stat(f"/proc/self/fd/{number}").st_blocks * 512
    return total


def search(features: Any, target: Any) -> tuple[float, float]:
    """Return the seconds of a search and a cross-validation after it, and the score."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV, cross_val_score

    started_s = time.perf_counter()
    found = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0, 10.0, 100.0]}, cv=3, refit=False).fit(features, target)
    scores = cross_val_score(Ridge(**found.best_params_), features, target, cv=3)
    return time.perf_counter() - started_s, float(scores.mean())


def measure(name: str, chosen: argparse.Namespace) -> rounds.Figures:
    """Return the figures of one backend."""
    import numpy

    size = (20 if chosen.quick else chosen.megabytes) * 1_000_000
    generator = numpy.random.default_rng(7)
    features = generator.random((size // 8 // FEATURES, FEATURES))
    target = features @ generator.random(FEATURES) + generator.random(len(features))
    with WAYS[name]() as moved:
        before = moved()
        first_s, score = search(features, target)
        again_s, _ = search(features, target)
        copies = (moved() - before) / (features.nbytes + target.nbytes)
    return {
        "first_s": first_s,
        "again_s": again_s,
        "moved": copies,
        "score": score,
    }


def main() -> None:
    chosen = rounds.options(__doc__, rounds=3, megabytes=200)
    found = rounds.run(__file__, chosen, list(WAYS), measure)
    columns = [
        ("first_s", "new processes, s", ".2f"),
        ("again_s", "again, s", ".2f"),
        ("moved", "copies of the data per node", ".3f"),
        ("score", "score", ".6f"),
    ]
    megabytes = 20 if chosen.quick else chosen.megabytes
    rounds.show(f"GridSearchCV and cross_val_score on {megabytes} MB", found, columns, chosen, against=LOKY)


if __name__ == "__main__":
    main()
