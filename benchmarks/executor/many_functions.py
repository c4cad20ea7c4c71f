"""Claim: 20,000 simple calls take 0.4 s in warm processes, and in a fork each twice what bare forks cost.

The bare loop forks, lets the child end at once, and waits for it; two processes run it side by side, 10,000 times each,
as two workers would. Its processes are as small as Python processes are, which is as cheap as forks get.

    python benchmarks/executor/many_functions.py [--rounds 5] [--calls 20000] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import functions
import peers
import rounds

BARE = "bare os.fork + wait"
MODES = {"envpack, direct": "direct", "envpack, fork": "fork"}
LOOP = """
import os, sys
sys.stdout.write("ready\\n"); sys.stdout.flush()
sys.stdin.readline()
for number in range(int(sys.argv[1])):
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
"""


def ours(mode: str, calls: int) -> tuple[float, float]:
    """Return wall and CPU seconds of all calls, submitted one by one to warm processes."""
    from envpack_executor import ContextExecutor, task

    with ContextExecutor(peers.WORKERS) as executor:
        function = task(mode=mode)(functions.add)
        for future in [executor.submit(function, number, 1) for number in range(calls // 20)]:
            future.result()
        cpu_s, started_s = rounds.tree_cpu_s(os.getpid()), time.perf_counter()
        futures = [executor.submit(function, number, 1) for number in range(calls)]
        total = sum(future.result() for future in futures)
        wall_s = time.perf_counter() - started_s
        cpu_s = rounds.tree_cpu_s(os.getpid()) - cpu_s
    assert total == sum(range(1, calls + 1))
    return wall_s, cpu_s


def measure(name: str, chosen: argparse.Namespace) -> rounds.Figures:
    """Return wall and CPU time of all calls of one way."""
    calls = 2_000 if chosen.quick else chosen.calls
    if name == BARE:
        cpu_s = rounds.tree_cpu_s(os.getpid())
        command = [sys.executable, "-c", LOOP, str(calls // peers.WORKERS)]
        wall_s = rounds.side_by_side(command, peers.WORKERS)
        cpu_s = rounds.tree_cpu_s(os.getpid()) - cpu_s
    else:
        wall_s, cpu_s = ours(MODES[name], calls)
    return {"wall_s": wall_s, "cpu_us": cpu_s / calls * 1e6}


def main() -> None:
    chosen = rounds.options(__doc__, rounds=5, calls=20_000)
    found = rounds.run(__file__, chosen, [BARE, *MODES], measure)
    columns = [("wall_s", "all calls, s", ".3f"), ("cpu_us", "CPU us/call, all", ",.0f")]
    calls = 2_000 if chosen.quick else chosen.calls
    rounds.show(f"{calls:,} simple calls, two workers", found, columns, chosen, against=BARE)


if __name__ == "__main__":
    main()
