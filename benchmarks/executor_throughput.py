"""Claim: short calls go through `ContextExecutor` faster than through `ProcessPoolExecutor`, in rate and in latency.

Both run in this process on the same machine, turn by turn (A B A B ...), each with two workers that are warm. Printed
are medians with the range, and the ratio pair by pair: on a shared machine only the ratio means something.

    python benchmarks/executor_throughput.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor

from envpack_executor import ContextExecutor

WORKERS = 2


def no_op() -> None:
    pass


def throughput(executor: Executor, calls: int) -> float:
    """Return no-ops per second, submitted one by one."""
    started = time.perf_counter()
    futures = [executor.submit(no_op) for _ in range(calls)]
    for future in futures:
        future.result()
    return calls / (time.perf_counter() - started)


def round_trip_us(executor: Executor, calls: int) -> float:
    """Return the median time of a call whose result is waited for, in microseconds."""
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        executor.submit(no_op).result()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def compare(measure: Callable[[Executor, int], float], calls: int, rounds: int) -> dict[str, list[float]]:
    """Measure both executors in turn; each is warmed up first."""
    figures: dict[str, list[float]] = {"ContextExecutor": [], "ProcessPoolExecutor": []}
    with ContextExecutor(WORKERS, history=None) as ours, ProcessPoolExecutor(WORKERS) as theirs:
        for executor in (ours, theirs):
            measure(executor, max(100, calls // 10))
        for _ in range(rounds):
            figures["ContextExecutor"].append(measure(ours, calls))
            figures["ProcessPoolExecutor"].append(measure(theirs, calls))
    return figures


def show(title: str, figures: dict[str, list[float]], better: str) -> None:
    print(f"\n{title}")
    for name, values in figures.items():
        print(f"  {name:<20} {statistics.median(values):>10,.0f}   ({min(values):,.0f} to {max(values):,.0f})")
    ours, theirs = figures.values()
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"  ratio                {statistics.median(ratios):>10.2f}   {spread}, {better}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer calls and rounds")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    calls, trips, rounds = (5_000, 300, 3) if options.quick else (50_000, 2_000, 7)
    rate = compare(throughput, calls, rounds)
    trip = compare(round_trip_us, trips, rounds)
    if options.json:
        print(json.dumps({"load": os.getloadavg()[0], "no_ops_per_s": rate, "round_trip_us": trip}))
        return
    print(f"{WORKERS} workers, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {rounds} rounds in turn")
    show(f"no-ops per second, {calls:,} submitted one by one", rate, "larger is better")
    show(f"round trip in µs, median of {trips:,}", trip, "smaller is better")


if __name__ == "__main__":
    main()
