"""Claim: calls of unlike sizes finish sooner when measured memory decides how many run at once.

The same calls, a few large among many small ones, run on a node that is told to be small. A fixed number of workers
must be so few that the largest calls fit side by side. With `allocations="auto"` nothing is known at first (cold), or
what the run before has left in the history (warm). All run turn by turn; printed are medians with the range, and the
most memory that calls had in use at the same time.

    python benchmarks/executor/allocations.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from envpack_executor import ContextExecutor, task

MB = 1_000_000
NODE_BYTES = 700 * MB
LARGE_BYTES, SMALL_BYTES = 300 * MB, 20 * MB
WORKERS = 8


def hold(size: int, seconds: float) -> tuple[float, float, int]:
    """Have `size` bytes in memory for a while; return from when to when, and the resident memory."""
    with mmap.mmap(-1, size) as memory:
        for offset in range(0, size, mmap.PAGESIZE):
            memory[offset] = 1
        started = time.monotonic()
        time.sleep(seconds)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return started, time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE")


LARGE, SMALL = task(category="large")(hold), task(category="small")(hold)


def run(executor: ContextExecutor, calls: int, seconds: float) -> dict[str, float]:
    """Run one large call for each eight small ones; return the seconds and the most bytes in use at once."""
    with executor:
        executor.submit(os.getpid).result()
        started = time.monotonic()
        futures = [
            executor.submit(*((LARGE, LARGE_BYTES, 4 * seconds) if number % 9 == 0 else (SMALL, SMALL_BYTES, seconds)))
            for number in range(calls)
        ]
        spans = [future.result() for future in futures]
        wall_s = time.monotonic() - started
    most = max(sum(size for begin, end, size in spans if begin <= moment < end) for moment, _, _ in spans)
    return {"wall_s": wall_s, "most_bytes": most}


def fixed() -> ContextExecutor:
    return ContextExecutor(NODE_BYTES // (LARGE_BYTES + 20 * MB), history=None)


def sized(history: str | None) -> ContextExecutor:
    return ContextExecutor(WORKERS, allocations="auto", memory=NODE_BYTES, cores=WORKERS, history=history)


def measure(rounds: int, calls: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """Return what each way took in each round."""
    found: dict[str, list[dict[str, float]]] = {"fixed workers": [], "auto, cold": [], "auto, warm": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            history = os.path.join(folder, "history.sqlite")
            found["fixed workers"].append(run(fixed(), calls, seconds))
            found["auto, cold"].append(run(sized(history), calls, seconds))
            found["auto, warm"].append(run(sized(history), calls, seconds))
    return found


def summary(found: list[dict[str, float]]) -> dict[str, Any]:
    walls = [each["wall_s"] for each in found]
    return {
        "median_s": statistics.median(walls),
        "least_s": min(walls),
        "most_s": max(walls),
        "most_bytes": max(each["most_bytes"] for each in found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and calls")
    parser.add_argument("--json", action="store_true", help="print one object")
    options = parser.parse_args()
    rounds, calls, seconds = (1, 36, 0.1) if options.quick else (3, 54, 0.15)
    results = {name: summary(found) for name, found in measure(rounds, calls, seconds).items()}
    if options.json:
        print(json.dumps(results))
        return
    cores, load = os.cpu_count(), os.getloadavg()[0]
    print(f"{calls} calls, a node of {NODE_BYTES // MB} MB; {cores} cores, load {load:.1f}; {rounds} rounds in turn\n")
    for name, each in results.items():
        spread = f"({each['least_s']:.2f} to {each['most_s']:.2f})"
        print(f"  {name:<16} {each['median_s']:6.2f} s {spread:<18} {each['most_bytes'] / MB:6.0f} MB at most at once")


if __name__ == "__main__":
    main()
