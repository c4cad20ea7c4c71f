"""Claim: two contexts that are called in turn, with a plain call between, are set up once in each process.

100 rounds of: a call of the first context, a plain call, a call of the second, a plain call. Each is submitted when the
one before has its result; then once more with four rounds submitted at a time. A set-up leaves a byte in a file: what
is counted happened. In a system that keeps one context, or the last one, each of the 200 calls pays for a set-up.

    python benchmarks/executor/contexts_in_turn.py [--rounds 3] [--turns 100] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import functions
import peers
import rounds

WAYS = {"one call at a time": 1, "four rounds at a time": 4}


def load(name: str, folder: str) -> dict[str, Any]:
    """Set a context up, and leave a byte that says so."""
    with open(os.path.join(folder, name), "ab") as file:
        file.write(b".")
    return {"name": name, "table": list(range(100_000))}


def use(number: int, name: str, table: list[int]) -> tuple[str, int, int]:
    """Use what the set-up has left."""
    return name, os.getpid(), table[number]


def measure(way: str, chosen: argparse.Namespace) -> rounds.Figures:
    """Return how often contexts were set up, and in how many processes they ran."""
    from envpack_executor import ContextExecutor, task

    at_once, turns = WAYS[way], 20 if chosen.quick else chosen.turns
    answers: list[Any] = []
    with tempfile.TemporaryDirectory() as folder, ContextExecutor(peers.WORKERS, history=None) as executor:
        tasks = [task(context=(load, name, folder))(use) for name in ("first", "second")]
        started_s = time.perf_counter()
        for begin in range(0, turns, at_once):
            futures = []
            for number in range(begin, min(turns, begin + at_once)):
                for one in tasks:
                    futures += [(executor.submit(one, number),), (executor.submit(functions.no_op), None)]
                    if at_once == 1:
                        [each[0].result() for each in futures]
            answers += [each[0].result() for each in futures if len(each) == 1]
        wall_s = time.perf_counter() - started_s
        set_ups = sum(path.stat().st_size for path in Path(folder).iterdir())
    processes = len({(name, pid) for name, pid, _ in answers})
    return {"set_ups": set_ups, "processes": processes, "calls": len(answers), "call_us": wall_s / turns / 4 * 1e6}


def main() -> None:
    chosen = rounds.options(__doc__, rounds=3, turns=100)
    found = rounds.run(__file__, chosen, list(WAYS), measure)
    columns = [
        ("calls", "calls in contexts", ",.0f"),
        ("processes", "contexts x processes", ",.0f"),
        ("set_ups", "set-ups", ",.0f"),
        ("call_us", "us/call, set-ups included", ",.0f"),
    ]
    rounds.show("two contexts in turn, a plain call between, two workers", found, columns, chosen)


if __name__ == "__main__":
    main()
