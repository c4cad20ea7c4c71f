"""Claim: a pending call takes at most 500 bytes of the client, and a million of them slow nothing down.

Two calls block the workers; then calls of a function that does nothing are submitted, and their futures are kept. What
the client's own memory has grown by then, divided by the calls, is the cost of one. Then the workers are let go: the
rate is that of submitting and of finishing all calls. With 10,000 pending, this is repeated until as many have passed
as 200,000. Of the others, those that finish 100,000 calls within a minute are asked for so many.

    python benchmarks/executor/pending.py [--rounds 3] [--only envpack loky] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import functions
import peers
import rounds

FEW, MANY, MOST = 10_000, 100_000, 1_000_000
REPEATED = 20
SUBJECTS = {
    **{f"{peers.OURS}, {count:,}": (peers.OURS, count) for count in (FEW, MANY, MOST)},
    **{f"{name}, {MANY:,}": (name, MANY) for name in ("ProcessPoolExecutor", "loky", "executorlib")},
}


def fill(executor: peers.Running, calls: int, folder: str) -> tuple[int, float, float]:
    """Have many calls pending; return their bytes, and the seconds of submitting and of finishing them."""
    gates = [os.path.join(folder, f"gate-{number}") for number in range(peers.WORKERS)]
    for gate in gates:
        os.mkfifo(gate)
    blocked = [executor.submit(functions.wait_for, gate) for gate in gates]
    writers = [open(gate, "wb") for gate in gates]  # noqa: SIM115  # returns when the reader is there: the worker is busy
    before = rounds.private_bytes()
    started_s = time.perf_counter()
    futures = [executor.submit(functions.no_op) for _ in range(calls)]
    submitted_s = time.perf_counter()
    size = rounds.private_bytes() - before
    for gate, writer in zip(gates, writers, strict=True):
        writer.close()
        os.unlink(gate)
    freed_s = time.perf_counter()
    executor.results(futures)
    ended_s = time.perf_counter()
    executor.results(blocked)
    return size, submitted_s - started_s, ended_s - freed_s


def measure(subject: str, chosen: argparse.Namespace) -> rounds.Figures:
    """Return bytes and rates of one executor with so many pending calls."""
    name, calls = SUBJECTS[subject]
    repeated = REPEATED if calls <= FEW else 1
    with tempfile.TemporaryDirectory() as folder, peers.PEERS[name].start() as executor:
        executor.results([executor.submit(functions.no_op) for _ in range(1_000)])
        found = [fill(executor, calls, folder) for _ in range(repeated)]
    submit_s, finish_s = sum(each[1] for each in found), sum(each[2] for each in found)
    return {
        "bytes": found[0][0] / calls,
        "submitted_per_s": calls * repeated / submit_s,
        "finished_per_s": calls * repeated / finish_s,
        "per_s": calls * repeated / (submit_s + finish_s),
    }


def main() -> None:
    chosen = rounds.options(__doc__, rounds=3)
    names = [name for name, (_, calls) in SUBJECTS.items() if calls < MOST or not chosen.quick]
    found = rounds.run(__file__, chosen, names, measure)
    columns = [
        ("bytes", "bytes/call", ",.0f"),
        ("submitted_per_s", "submitted/s", ",.0f"),
        ("finished_per_s", "finished/s", ",.0f"),
        ("per_s", "calls/s, all", ",.0f"),
    ]
    rounds.show("pending calls, two workers", found, columns, chosen, against=f"{peers.OURS}, {FEW:,}")


if __name__ == "__main__":
    main()
