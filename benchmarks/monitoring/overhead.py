"""Claim: `@monitor` costs at most 10 us a call with history on (median, no-op), and at most 1 % of a 1 ms function.

They take turns, so that a noisy machine is noisy to all; a round gives one median, and the table the median of the
rounds with the 10th and 90th percentile beside. `cpu` is the processor time of the whole process per call, the thread
that writes the history included. For the function of a millisecond the function times itself: what the caller sees
beyond that is the overhead, without the noise of the function.

    python benchmarks/monitoring/overhead.py [--rounds 30] [--calls 3000] [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

Sample = tuple[float, float]


def no_op() -> None:
    pass


def spin() -> float:
    """Compute for about a millisecond, and return how long it took."""
    start = time.perf_counter()
    while time.perf_counter() - start < 0.001:
        pass
    return time.perf_counter() - start


def no_op_contestants() -> dict[str, Callable[[], object]]:
    from envpack_monitor import Bracket, monitor

    bracket = Bracket()

    def bracketed() -> None:
        bracket.start()
        no_op()
        bracket.stop()

    def block() -> None:
        with monitor("block", history=False):
            no_op()

    return {
        "bare call": no_op,
        "@monitor, history on": monitor("on")(no_op),
        "@monitor, history off": monitor("off", history=False)(no_op),
        "@monitor(return_usage=True)": monitor("told", return_usage=True)(no_op),
        "bracket alone": bracketed,
        "with monitor(...)": block,
    }


def round_of(call: Callable[[], object], calls: int) -> Sample:
    """Return the median wall time and the mean processor time of a call, in microseconds."""
    times = []
    cpu = time.process_time()
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6, (time.process_time() - cpu) / calls * 1e6


def slow_round_of(call: Callable[[], object], calls: int) -> Sample:
    """The same with pauses, so that each call becomes a row of the history."""
    times = []
    for _ in range(max(20, calls // 100)):
        time.sleep(0.012)
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6, float("nan")


def millisecond_round_of(call: Callable[[], float], calls: int) -> Sample:
    """Return the median overhead of a call that takes a millisecond, in microseconds."""
    times = []
    for _ in range(max(50, calls // 20)):
        start = time.perf_counter()
        own = call()
        times.append(time.perf_counter() - start - own)
    return statistics.median(times) * 1e6, float("nan")


def print_table(title: str, found: dict[str, list[Sample]], bare: str) -> None:
    base = statistics.median(wall for wall, _ in found[bare])
    print(f"{title:34} {'median us':>10} {'p10':>8} {'p90':>8} {'over bare':>10} {'cpu us':>8}")
    for name, samples in found.items():
        walls = [wall for wall, _ in samples]
        low, *_, high = statistics.quantiles(walls, n=10)
        median, cpu = statistics.median(walls), statistics.median(cpu for _, cpu in samples)
        print(f"{name:34} {median:10.2f} {low:8.2f} {high:8.2f} {median - base:10.2f} {cpu:8.2f}")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.calls = 5, 1000
    from envpack_monitor import monitor
    from envpack_monitor.history.recorder import flush_default

    with tempfile.TemporaryDirectory() as folder:
        os.environ["ENVPACK_HISTORY"] = str(Path(folder) / "history.sqlite")
        quick = no_op_contestants()
        slow = {"bare call": no_op, "@monitor, history on": monitor("slow")(no_op)}
        long = {"bare call": spin, "@monitor, history on": monitor("long")(spin)}
        tables: list[dict[str, list[Sample]]] = [{name: [] for name in ways} for ways in (quick, slow, long)]
        for _ in range(options.rounds):
            for name, call in quick.items():
                tables[0][name].append(round_of(call, options.calls))
            for name, call in slow.items():
                tables[1][name].append(slow_round_of(call, options.calls))
            for name, measured in long.items():
                tables[2][name].append(millisecond_round_of(measured, options.calls))
        flush_default()
    print_table("no-op, one call after the other", tables[0], "bare call")
    print_table("no-op, every 12 ms", tables[1], "bare call")
    print_table("1 ms: what the caller sees beyond", tables[2], "bare call")


if __name__ == "__main__":
    main()
