"""Claim: an isolated call of a no-op costs at most twice a bare fork and wait, from a small parent.

A bare fork, an isolated call (`run_isolated`), the decorator without and with history, and a fresh interpreter take
turns, so that a noisy machine is noisy to all. Ratios to the bare fork are taken within a round; the median stands with
the 10th and 90th percentile. The same follows from a parent with 1 GB, where the fork itself is what costs.

    python benchmarks/monitoring/isolated.py [--rounds 300] [--ballast 1GB] [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

BAR = 2.0


def no_op() -> None:
    pass


def bare_fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def contestants(with_spawn: bool) -> dict[str, Callable[[], object]]:
    from envpack_monitor import Limits, monitor
    from envpack_monitor.isolated.isolate import run_isolated

    limits = Limits(memory_bytes=10**12, wall_s=60)
    found: dict[str, Callable[[], object]] = {
        "bare fork and wait": bare_fork,
        "run_isolated": lambda: run_isolated(no_op),
        "run_isolated, limits on": lambda: run_isolated(no_op, limits=limits),
        "@monitor(isolate='fork'), history off": monitor("off", isolate="fork", history=False)(no_op),
        "@monitor(isolate='fork'), history on": monitor("on", isolate="fork")(no_op),
    }
    if with_spawn:
        found["run_isolated, a fresh interpreter"] = lambda: run_isolated(no_op, method="spawn")
    return found


def measure(subjects: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return seconds per call, by subject and round."""
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds + 3):
        for name, run in subjects.items():
            start = time.perf_counter()
            run()
            if number >= 3:
                taken[name].append(time.perf_counter() - start)
    return taken


def report(title: str, taken: dict[str, list[float]]) -> float:
    """Print the table; return the median ratio of the isolated call."""
    bare = next(iter(taken.values()))
    print(f"{title}\n{'':40} {'median':>10} {'ratio':>7} {'10 %':>7} {'90 %':>7}")
    for name, values in taken.items():
        ratios = [value / base for value, base in zip(values, bare, strict=True)]
        low, *_, high = statistics.quantiles(ratios, n=10)
        median = statistics.median(values)
        print(f"{name:40} {median * 1e6:7.0f} us {statistics.median(ratios):7.2f} {low:7.2f} {high:7.2f}")
    return statistics.median(value / base for value, base in zip(taken["run_isolated"], bare, strict=True))


def main() -> int:
    from envpack_monitor.history.recorder import close_default
    from envpack_monitor.units import format_bytes, parse_bytes

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--ballast", type=parse_bytes, default=10**9, help="the size of the large parent")
    parser.add_argument("--quick", action="store_true", help="20 rounds and a ballast of 100 MB")
    options = parser.parse_args()
    rounds, ballast_bytes = (20, 10**8) if options.quick else (options.rounds, options.ballast)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ENVPACK_HISTORY"] = str(Path(folder) / "history.sqlite")
        ratio = report("from a small parent", measure(contestants(with_spawn=True), rounds))
        print()
        ballast = bytearray(os.urandom(1 << 20)) * (ballast_bytes >> 20)
        report(
            f"from a parent with {format_bytes(len(ballast))}", measure(contestants(with_spawn=False), rounds // 5 + 2)
        )
        close_default()
    is_kept = ratio <= BAR
    print(f"\nisolated call / bare fork: {ratio:.2f}, at most {BAR:.0f} claimed: {'kept' if is_kept else 'not kept'}")
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
