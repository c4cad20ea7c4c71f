"""Claim: the event log costs a call about 4 us of CPU for three lines of JSON, and nothing where nobody asks for it.

No-ops are submitted one by one, as in `rate`, by an executor without a log and by one with it; they take turns. The
file is on the disk of the temporary files. `--json` has the bytes that were written for each call, too.

    python benchmarks/executor/events.py [--rounds 5] [--calls 100000] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import functions
import peers
import rounds

SUBJECTS = ("without a log", "with a log")


def measure(name: str, chosen: argparse.Namespace) -> rounds.Figures:
    """Return rate and CPU time per call, and the size of what was written down of each."""
    calls = 5_000 if chosen.quick else chosen.calls
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "events.jsonl")
        with peers.envpack(history=None, events=path if name == SUBJECTS[1] else None) as executor:
            executor.results([executor.submit(functions.no_op) for _ in range(calls // 10 + 10)])
            cpu_s, started_s = rounds.tree_cpu_s(os.getpid()), time.perf_counter()
            executor.results([executor.submit(functions.no_op) for _ in range(calls)])
            wall_s = time.perf_counter() - started_s
            cpu_s = rounds.tree_cpu_s(os.getpid()) - cpu_s
        size = os.path.getsize(path) if name == SUBJECTS[1] else 0
    return {"per_s": calls / wall_s, "cpu_us": cpu_s / calls * 1e6, "bytes": size / (calls + calls // 10 + 10)}


def main() -> None:
    chosen = rounds.options(__doc__, rounds=5, calls=100_000)
    found = rounds.run(__file__, chosen, SUBJECTS, measure)
    columns = [("per_s", "calls/s", ",.0f"), ("cpu_us", "CPU us/call, all", ",.1f")]
    rounds.show("no-ops with and without an event log, two workers", found, columns, chosen, against=SUBJECTS[0])


if __name__ == "__main__":
    main()
