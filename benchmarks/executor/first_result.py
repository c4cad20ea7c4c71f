"""Claim: 80 ms after an executor is made, its first result is there; imports are done before.

A process imports the executor's library, looks at the clock, makes the executor, submits one call of a function that
does nothing, and waits for its result.

    python benchmarks/executor/first_result.py [--rounds 9] [--only envpack loky] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import time

import functions
import peers
import rounds

SPAWNING = "ProcessPoolExecutor, spawn"
MODULES = {"Parsl HTEX": "parsl.concurrent"}


def measure(name: str, chosen: argparse.Namespace) -> rounds.Figures:
    """Return the time from making one executor to its first result, in seconds, and the CPU time of all processes."""
    peer = peers.PEERS[name.removesuffix(", spawn")]
    start = functools.partial(peers.process_pool, "spawn") if name == SPAWNING else peer.start
    importlib.import_module(MODULES.get(name, peer.module))
    if name == peers.OURS:
        _ = importlib.import_module("envpack_executor").ContextExecutor
    cpu_s, started_s = rounds.tree_cpu_s(os.getpid()), time.perf_counter()
    with start() as executor:
        executor.results([executor.submit(functions.no_op)])
        wall_s = time.perf_counter() - started_s
        cpu_s = rounds.tree_cpu_s(os.getpid()) - cpu_s
    return {"first_s": wall_s, "cpu_s": cpu_s}


def main() -> None:
    chosen = rounds.options(__doc__, rounds=9)
    names = [*list(peers.PEERS)[:2], SPAWNING, *list(peers.PEERS)[2:]]
    found = rounds.run(__file__, chosen, names, measure)
    columns = [("first_s", "first result, s", ".3f"), ("cpu_s", "CPU s, all", ".3f")]
    rounds.show("first result after making the executor", found, columns, chosen)


if __name__ == "__main__":
    main()
