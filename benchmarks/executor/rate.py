"""Claim: no-ops submitted one by one pass at ten times the rate of ProcessPoolExecutor, at 15 us of CPU each.

100,000 calls are handed in one after the other, their futures are kept, and all are waited for; the garbage collector
is as Python sets it. Lambdas, too: a function that is pickled by value. Beside the rate stands the CPU time per call of
client, workers and helpers together. Executors that are many times slower are given fewer calls.

    python benchmarks/executor/rate.py [--rounds 5] [--calls 100000] [--only envpack loky] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable

import functions
import peers
import rounds

LAMBDA = ", lambdas"
WITHOUT_HISTORY = "envpack, history=None"


def subjects() -> list[str]:
    plain = [peers.OURS, WITHOUT_HISTORY, *list(peers.PEERS)[1:]]
    return [*plain, *(name + LAMBDA for name, peer in peers.PEERS.items() if peer.carries_lambdas)]


def measure(name: str, chosen: argparse.Namespace) -> rounds.Figures:
    """Return the rate of one executor, and what a call costs all its processes."""
    peer = peers.PEERS[name.removesuffix(LAMBDA)] if name != WITHOUT_HISTORY else peers.PEERS[peers.OURS]
    start = functools.partial(peers.envpack, history=None) if name == WITHOUT_HISTORY else peer.start
    function: Callable[..., None] = (lambda: None) if name.endswith(LAMBDA) else functions.no_op
    calls = int((5_000 if chosen.quick else chosen.calls) * peer.share)
    with start() as executor:
        executor.results([executor.submit(function) for _ in range(calls // 10 + 10)])
        cpu_s, started_s = rounds.tree_cpu_s(os.getpid()), time.perf_counter()
        executor.results([executor.submit(function) for _ in range(calls)])
        wall_s = time.perf_counter() - started_s
        cpu_s = rounds.tree_cpu_s(os.getpid()) - cpu_s
    return {"calls": calls, "per_s": calls / wall_s, "cpu_us": cpu_s / calls * 1e6}


def main() -> None:
    chosen = rounds.options(__doc__, rounds=5, calls=100_000)
    found = rounds.run(__file__, chosen, subjects(), measure)
    columns = [("per_s", "calls/s", ",.0f"), ("cpu_us", "CPU us/call, all", ",.1f"), ("calls", "calls", ",.0f")]
    rounds.show("no-ops submitted one by one, two workers", found, columns[:2], chosen)


if __name__ == "__main__":
    main()
