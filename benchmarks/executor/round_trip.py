"""Claim: a call whose result is waited for takes at most 0.45 (p50) and 0.5 (p99) of what ProcessPoolExecutor takes.

2,000 calls of a function that does nothing, each submitted when the one before has its result.

    python benchmarks/executor/round_trip.py [--rounds 5] [--calls 2000] [--only envpack loky] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import os
import time

import functions
import peers
import rounds


def measure(name: str, chosen: argparse.Namespace) -> rounds.Figures:
    """Return quantiles of the round trip of one executor, in microseconds, and the CPU time of a call."""
    calls = 300 if chosen.quick else chosen.calls
    times = []
    with peers.PEERS[name].start() as executor:
        for _ in range(calls // 10):
            executor.results([executor.submit(functions.no_op)])
        cpu_s = rounds.tree_cpu_s(os.getpid())
        for _ in range(calls):
            started_s = time.perf_counter()
            executor.results([executor.submit(functions.no_op)])
            times.append((time.perf_counter() - started_s) * 1e6)
        cpu_s = rounds.tree_cpu_s(os.getpid()) - cpu_s
    times.sort()
    return {"p50_us": times[calls // 2], "p99_us": times[calls * 99 // 100], "cpu_us": cpu_s / calls * 1e6}


def main() -> None:
    chosen = rounds.options(__doc__, rounds=5, calls=2_000)
    found = rounds.run(__file__, chosen, list(peers.PEERS), measure)
    columns = [("p50_us", "p50, us", ",.0f"), ("p99_us", "p99, us", ",.0f"), ("cpu_us", "CPU us/call, all", ",.0f")]
    rounds.show("round trip of sequential calls, two workers", found, columns, chosen)


if __name__ == "__main__":
    main()
