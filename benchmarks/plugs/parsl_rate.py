"""Claim: through Parsl's data-flow kernel no-ops pass at three times the rate of HTEX; the kernel is what limits it.

The same as Parsl's own parsl-perf: an app that returns a number is called many times, and all futures are waited for.
HTEX and ours have one block on this machine with two workers each and take turns. Two more executors show what the
kernel alone costs: Parsl's threads, and one that gives back a future that is done before it is asked.

A profile follows: of the time that the client's threads compute for a call, what the kernel takes for itself, and what
is spent in the executor, below `submit` and in its own thread. Python runs one thread at a time, so their sum is what
bounds the rate. Clocks of the threads are read where kernel and executor call each other: no profiler slows them down.

    python benchmarks/plugs/parsl_rate.py [--rounds 5] [--calls 5000] [--log 1] [--only HTEX] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "executor"))

import rounds

WORKERS = 2
OURS, HTEX, THREADS, NOTHING = "ContextReuseExecutor", "HTEX", "threads", "kernel alone"
PARTS = {
    "kernel_call_us": "kernel, when an app is called",
    "kernel_launch_us": "kernel, when it is launched",
    "kernel_end_us": "kernel, when a result comes",
    "ours_submit_us": "executor, below submit",
    "ours_thread_us": "executor, its own thread",
}


def subjects() -> dict[str, Callable[[], Any]]:
    from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
    from parsl.providers import LocalProvider

    from envpack_executor.parsl import ContextReuseExecutor

    def block() -> Any:
        return LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1)

    return {
        OURS: lambda: ContextReuseExecutor(label="it", max_workers_per_node=WORKERS, provider=block()),
        HTEX: lambda: HighThroughputExecutor(
            label="it", address="127.0.0.1", max_workers_per_node=WORKERS, provider=block()
        ),
        THREADS: lambda: ThreadPoolExecutor(label="it", max_threads=WORKERS),
        NOTHING: _nothing,
    }


def _nothing() -> Any:
    """Return an executor that costs nothing: each call is done before it began."""
    from concurrent.futures import Future

    from parsl.executors.base import ParslExecutor

    class Nothing(ParslExecutor):  # type: ignore[misc]
        label = "it"

        def submit(self, func: Any, resource_specification: Any, *args: Any, **kwargs: Any) -> Future[int]:
            future: Future[int] = Future()
            future.set_result(7)
            return future

        def shutdown(self) -> None:
            super().shutdown()

    return Nothing()


class Clocks:
    """What the client's threads compute, told apart where kernel and executor call each other.

    Args:
        kernel: the data-flow kernel, loaded.
    """

    def __init__(self, kernel: Any) -> None:
        self.submit_ns = self.end_ns = 0
        executor = kernel.executors["it"]
        self._submit, self._update = executor.submit, kernel.handle_exec_update
        executor.submit, kernel.handle_exec_update = self._timed_submit, self._timed_end

    def _timed_submit(self, *args: Any, **kwargs: Any) -> Any:
        begun_ns = time.thread_time_ns()
        try:
            return self._submit(*args, **kwargs)
        finally:
            self.submit_ns += time.thread_time_ns() - begun_ns

    def _timed_end(self, *args: Any, **kwargs: Any) -> Any:
        begun_ns = time.thread_time_ns()
        try:
            return self._update(*args, **kwargs)
        finally:
            self.end_ns += time.thread_time_ns() - begun_ns


def thread_ns(name: str) -> int:
    """Return what the thread of that name has computed so far."""
    (thread,) = (thread for thread in threading.enumerate() if thread.name == name)
    assert thread.ident is not None
    return time.clock_gettime_ns(time.pthread_getcpuclockid(thread.ident))


def measure(name: str, chosen: argparse.Namespace) -> rounds.Figures:
    """Return the rate of one executor; of ours also where the time goes, measured by itself."""
    import parsl
    from parsl import python_app
    from parsl.config import Config

    @python_app
    def seven() -> int:
        return 7

    def run(calls: int) -> float:
        begun_s = time.perf_counter()
        for future in [seven() for _ in range(calls)]:
            assert future.result() == 7
        return time.perf_counter() - begun_s

    calls = 500 if chosen.quick else chosen.calls
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        config = Config(
            executors=[subjects()[name]()], run_dir=folder, strategy="none", initialize_logging=bool(chosen.log)
        )
        with parsl.load(config) as kernel:
            run(calls // 10)  # workers start, and learn the app
            client_s, tree_s = time.process_time(), rounds.tree_cpu_s(os.getpid())
            wall_s = run(calls)
            client_s, tree_s = time.process_time() - client_s, rounds.tree_cpu_s(os.getpid()) - tree_s
            found = {"per_s": calls / wall_s, "client_us": client_s / calls * 1e6, "all_us": tree_s / calls * 1e6}
            return found | (_profile(kernel, run, calls) if name == OURS else {})


def _profile(kernel: Any, run: Callable[[int], float], calls: int) -> rounds.Figures:
    clocks = Clocks(kernel)
    all_ns, main_ns, manager_ns = time.process_time_ns(), time.thread_time_ns(), thread_ns("envpack-manager")
    run(calls)
    all_ns = time.process_time_ns() - all_ns
    main_ns, manager_ns = time.thread_time_ns() - main_ns, thread_ns("envpack-manager") - manager_ns
    found = {
        "kernel_call_us": main_ns,
        # Calls are launched in a thread of the kernel, where `submit` is called as well.
        "kernel_launch_us": all_ns - main_ns - manager_ns - clocks.submit_ns,
        "kernel_end_us": clocks.end_ns,
        "ours_submit_us": clocks.submit_ns,
        "ours_thread_us": manager_ns - clocks.end_ns,
    }
    return {part: ns / calls / 1e3 for part, ns in found.items()}


def show_profile(profiled: list[rounds.Figures]) -> None:
    print("\nwhere the client computes, microseconds per call, medians\n")
    medians = {part: statistics.median(rounds.values(profiled, part)) for part in PARTS}
    total = sum(medians.values())
    for part, text in PARTS.items():
        print(f"  {text:<30}{medians[part]:>8.1f}{medians[part] / total:>8.0%}")
    kernel = sum(microseconds for part, microseconds in medians.items() if part.startswith("kernel"))
    print(f"\n  the kernel: {kernel:.0f} of {total:.0f} us, {kernel / total:.0%}; its threads and ours take turns")


def main() -> None:
    chosen = rounds.options(__doc__, rounds=5, calls=5000, log=0)
    names = [OURS, HTEX, THREADS, NOTHING]
    found = rounds.run(__file__, chosen, names, measure)
    columns = [("per_s", "calls/s", ",.0f"), ("client_us", "CPU us/call, client", ",.0f")]
    columns.append(("all_us", "CPU us/call, all", ",.0f"))
    rounds.show("no-ops through Parsl's data-flow kernel, two workers", found, columns, chosen, against=HTEX)
    if OURS in found and not chosen.json:
        show_profile(found[OURS])


if __name__ == "__main__":
    main()
