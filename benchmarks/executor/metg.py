"""Claim: calls of 0.1 ms keep two workers half busy, and calls of 10 ms keep them 97 % busy.

METG(50 %) is the shortest call with which workers spend half of the wall time in calls ("minimum effective task
granularity", Slaughter et al., Task Bench, SC 2020). Calls look at the clock until their time is over. Two processes
that make the same calls and talk to nobody say, before and after, how long that takes on this machine at the time: the
efficiency is their wall time, divided by that of the executor. Between two lengths that were tried it is taken as
straight over the logarithm of the length.

    python benchmarks/executor/metg.py [--rounds 3] [--only envpack loky] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time

import functions
import peers
import rounds

LENGTHS_S = (0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003, 0.00001)
HALF = 0.5
LOOP = """
import sys, functions
sys.stdout.write("ready\\n"); sys.stdout.flush()
sys.stdin.readline()
for number in range(int(sys.argv[2])): functions.spin(float(sys.argv[1]))
"""


def efficiency(executor: peers.Running, length_s: float, busy_s: float) -> float:
    """Return the part of the wall time that workers spend in calls of one length."""
    calls = max(20, int(busy_s * peers.WORKERS / length_s))
    command = [sys.executable, "-c", LOOP, str(length_s), str(calls // peers.WORKERS // 2)]
    executor.results([executor.submit(functions.spin, length_s) for _ in range(max(10, calls // 10))])
    bare_s = rounds.side_by_side(command, peers.WORKERS)
    started_s = time.perf_counter()
    executor.results([executor.submit(functions.spin, length_s) for _ in range(calls)])
    wall_s = time.perf_counter() - started_s
    return (bare_s + rounds.side_by_side(command, peers.WORKERS)) / wall_s


def crossing(found: list[tuple[float, float]]) -> float:
    """Return the length at which efficiency falls to one half; the shortest one that was tried if it never does."""
    for (longer_s, above), (shorter_s, below) in itertools.pairwise(found):
        if below < HALF <= above:
            part = (above - HALF) / (above - below)
            return math.exp(math.log(longer_s) + part * (math.log(shorter_s) - math.log(longer_s)))
    return found[-1][0] if found[-1][1] >= HALF else math.nan


def measure(name: str, chosen: argparse.Namespace) -> rounds.Figures:
    """Return METG(50 %) of one executor in milliseconds, and its efficiency with calls of 10 ms and of 1 ms."""
    found: list[tuple[float, float]] = []
    with peers.PEERS[name].start() as executor:
        executor.results([executor.submit(functions.spin, 0.01) for _ in range(20)])
        for length_s in LENGTHS_S:
            found.append((length_s, efficiency(executor, length_s, 0.5 if chosen.quick else 2.0)))
            if found[-1][1] < HALF:
                break
    by_length = dict(found)
    return {"metg_ms": crossing(found) * 1e3, "at_10_ms": by_length[0.01], "at_1_ms": by_length.get(0.001, 0.0)}


def main() -> None:
    chosen = rounds.options(__doc__, rounds=3)
    found = rounds.run(__file__, chosen, list(peers.PEERS), measure)
    columns = [
        ("metg_ms", "METG(50 %), ms", ".3f"),
        ("at_10_ms", "efficiency at 10 ms", ".3f"),
        ("at_1_ms", "at 1 ms", ".3f"),
    ]
    rounds.show("shortest calls that keep two workers half busy", found, columns, chosen)


if __name__ == "__main__":
    main()
