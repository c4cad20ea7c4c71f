"""Claim: `@monitor` costs some microseconds a call, history included, and sees spikes that pollers miss.

Prints the median overhead per call of a no-op: bare, with the bracket alone, with `@monitor` without and with history,
and beside a thread that polls psutil. They take turns, so that a noisy machine is noisy to all; the 10th and 90th
percentile of the rounds stand beside. Then the peak that each reports for a spike of 200 MB of some 20 ms.
memory_profiler takes part where it can be imported.

    python benchmarks/monitor_overhead.py [--rounds 30] [--calls 300] [--quick]
"""

from __future__ import annotations

import argparse
import mmap
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

SPIKE_BYTES = 200_000_000
POLL_S = 0.01


def spike() -> None:
    memory = mmap.mmap(-1, SPIKE_BYTES)
    for offset in range(0, SPIKE_BYTES, 4096):
        memory[offset] = 1
    memory.close()


def no_op() -> None:
    pass


class PsutilPoller:
    """What monitors without the kernel's peak do: a thread that looks at the resident memory every 10 ms."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self.peak_bytes = 0

    def measure(self, function: Callable[[], None]) -> None:
        self.peak_bytes = 0
        over = threading.Event()
        thread = threading.Thread(target=self._poll, args=(over,))
        thread.start()
        try:
            function()
        finally:
            over.set()
            thread.join()

    def _poll(self, over: threading.Event) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
            if over.wait(POLL_S):
                return


def contestants() -> dict[str, Callable[[], None]]:
    from envpack_monitor import Bracket, monitor

    bracket, poller = Bracket(), PsutilPoller()

    def bracketed() -> None:
        bracket.start()
        no_op()
        bracket.stop()

    found = {
        "bare call": no_op,
        "bracket alone": bracketed,
        "@monitor, history off": monitor("off", history=False)(no_op),
        "@monitor, history on": monitor("on")(no_op),
        "psutil, polled every 10 ms": lambda: poller.measure(no_op),
    }
    try:
        from memory_profiler import memory_usage
    except ImportError:
        return found
    return found | {"memory_profiler": lambda: memory_usage((no_op, (), {}), interval=POLL_S)}


def overheads(rounds: int, calls: int) -> dict[str, list[float]]:
    """Return microseconds per call of each contestant, one median per round, taken in turns."""
    ways = contestants()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, call in ways.items():
            count = calls if "poll" not in name and "profiler" not in name else max(3, calls // 100)
            found[name].append(statistics.median(timed(call) for _ in range(count)) * 1e6)
    return found


def timed(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def spikes() -> dict[str, float]:
    """Return how many MB each way reports for the spike."""
    from envpack_monitor import monitor

    with monitor("spike", history=False) as block:
        spike()
    assert block.usage is not None
    poller = PsutilPoller()
    poller.measure(no_op)
    before = poller.peak_bytes
    poller.measure(spike)
    return {
        "really": SPIKE_BYTES / 1e6,
        "@monitor": (block.usage.memory_difference_bytes or 0) / 1e6,
        "psutil, polled every 10 ms": (poller.peak_bytes - before) / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.calls = 5, 100
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ENVPACK_HISTORY"] = str(Path(folder) / "history.sqlite")
        found = overheads(options.rounds, options.calls)
        from envpack_monitor.recorder import flush_default

        flush_default()
    bare = statistics.median(found["bare call"])
    print(f"{'per call of a no-op':28} {'median us':>10} {'p10':>8} {'p90':>8} {'over bare':>10}")
    for name, times in found.items():
        low, *_, high = statistics.quantiles(times, n=10)
        median = statistics.median(times)
        print(f"{name:28} {median:10.2f} {low:8.2f} {high:8.2f} {median - bare:10.2f}")
    print(f"\n{'spike of 200 MB':28} {'MB':>10}")
    for name, size in spikes().items():
        print(f"{name:28} {size:10.1f}")


if __name__ == "__main__":
    main()
