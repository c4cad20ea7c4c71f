"""Claim: of what people monitor Python with, ours costs least and misses least.

Each contestant measures the same work: nothing, a spike of 200 MB for 20 ms, one of 20 MB for 5 ms, and 50 MB held for
300 ms. `cost` is how much longer a call (or a command) takes than bare, the median of several, in turns with bare ones.
The errors are what it reports for a spike, less what it reports for nothing, less the size of the spike, in MB: the one
of five runs that is furthest off. What only looks at a process every so often is asked at 0.01 s as well as at its
default. Each contestant works in a process of its own, with the interpreter of the peers; what is missing is said.

    make bench-monitoring        or        python benchmarks/monitoring/comparison.py --peers FOLDER/bin [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MB, MIB = 1_000_000, 1 << 20
WORK = {"nothing": (0, 0.0), "200 MB 20 ms": (200, 0.020), "20 MB 5 ms": (20, 0.005), "50 MB 300 ms": (50, 0.300)}
SPIKES = tuple(WORK)[1:]
RUNS = 5
ROOT = Path(__file__).resolve().parents[2]

Measure = Callable[[int, float], float]
"""Does the work under a monitor, and returns the peak that it reports, in bytes."""


def work(size_mb: int, hold_s: float) -> None:
    """Hold some memory for some time."""
    import mmap

    if not size_mb:
        return
    memory = mmap.mmap(-1, size_mb * MB)
    for offset in range(0, size_mb * MB, 4096):
        memory[offset] = 1
    time.sleep(hold_s)
    memory.close()


def command_of(size_mb: int, hold_s: float) -> list[str]:
    return [sys.executable, __file__, "--work", str(size_mb), str(hold_s)]


def ours() -> Measure:
    from envpack_monitor import monitor

    measured = monitor("compared", return_usage=True)(work)

    def measure(size_mb: int, hold_s: float) -> float:
        return float(measured(size_mb, hold_s)[1].peak_memory_bytes)

    return measure


def ours_plain() -> Measure:
    """As users have it: the figures go into the history. What it says of spikes is what the line above says."""
    from envpack_monitor import monitor

    measured = monitor("compared")(work)

    def measure(size_mb: int, hold_s: float) -> float:
        measured(size_mb, hold_s)
        return float("nan")

    return measure


def ours_isolated() -> Measure:
    from envpack_monitor import monitor

    measured = monitor("compared", return_usage=True, isolate="fork")(work)

    def measure(size_mb: int, hold_s: float) -> float:
        return float(measured(size_mb, hold_s)[1].peak_memory_bytes)

    return measure


def memory_profiler(interval_s: float) -> Measure:
    from memory_profiler import memory_usage

    def measure(size_mb: int, hold_s: float) -> float:
        seen = memory_usage((work, (size_mb, hold_s), {}), interval=interval_s, max_usage=True)
        return float(seen) * MIB

    return measure


def parsl(interval_s: float) -> Measure:
    """The helper process with which Parsl watches each task; its messages go to files, as on a cluster."""
    from parsl.monitoring.message_type import MessageType
    from parsl.monitoring.radios.filesystem import FilesystemRadio
    from parsl.monitoring.remote import monitor_wrapper

    def measure(size_mb: int, hold_s: float) -> float:
        with tempfile.TemporaryDirectory() as folder:
            radio = FilesystemRadio()
            radio.run_dir = folder
            call, args, kwargs = monitor_wrapper(
                f=work, args=(size_mb, hold_s), kwargs={}, x_try_id=0, x_task_id=0, radio_config=radio, run_id="run",
                logging_level=50, sleep_dur=interval_s, monitor_resources=True, run_dir=folder,
            )  # fmt: skip
            call(*args, **kwargs)
            messages = [pickle.loads(file.read_bytes()) for file in Path(folder).rglob("new/*")]
        seen = [
            content["psutil_process_memory_resident"] for kind, content in messages if kind == MessageType.RESOURCE_INFO
        ]
        return float(max(seen, default=0))

    return measure


def psutil_thread(interval_s: float) -> Measure:
    import psutil

    process = psutil.Process()

    def measure(size_mb: int, hold_s: float) -> float:
        over, seen = threading.Event(), [0]

        def look() -> None:
            while True:
                seen.append(process.memory_info().rss)
                if over.wait(interval_s):
                    return

        thread = threading.Thread(target=look)
        thread.start()
        try:
            work(size_mb, hold_s)
        finally:
            over.set()
            thread.join()
        return float(max(seen))

    return measure


def bare_command() -> Measure:
    def measure(size_mb: int, hold_s: float) -> float:
        subprocess.run(command_of(size_mb, hold_s), check=True)
        return 0.0

    return measure


def ours_command() -> Measure:
    from envpack_monitor import run_command

    def measure(size_mb: int, hold_s: float) -> float:
        return float(run_command(command_of(size_mb, hold_s), history=False).usage.peak_memory_bytes or 0)

    return measure


def psrecord(interval_s: float) -> Measure:
    def measure(size_mb: int, hold_s: float) -> float:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            line = " ".join(command_of(size_mb, hold_s))
            tool = [sys.executable, "-m", "psrecord", line, "--log", str(log), "--interval", str(interval_s)]
            subprocess.run([*tool, "--include-children"], check=True, stdout=subprocess.DEVNULL)
            rows = [line.split() for line in log.read_text().splitlines() if not line.startswith("#")]
        return max((float(row[2]) for row in rows if len(row) > 2), default=0.0) * MIB

    return measure


def gnu_time() -> Measure:
    if (tool := shutil.which("time", path="/usr/bin:/bin:/usr/local/bin")) is None:
        raise ModuleNotFoundError("there is no GNU time on this machine", name="/usr/bin/time")

    def measure(size_mb: int, hold_s: float) -> float:
        command = [tool, "-v", *command_of(size_mb, hold_s)]
        report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        line = next(line for line in report.splitlines() if "Maximum resident set size" in line)
        return float(line.rpartition(" ")[2]) * 1024

    return measure


def bare_call() -> Measure:
    def measure(size_mb: int, hold_s: float) -> float:
        work(size_mb, hold_s)
        return 0.0

    return measure


CALLS: dict[str, Callable[[], Measure]] = {
    "envpack @monitor": ours_plain,
    "envpack @monitor(return_usage=True)": ours,
    "envpack @monitor(isolate='fork')": ours_isolated,
    "memory_profiler, 0.1 s": lambda: memory_profiler(0.1),
    "memory_profiler, 0.01 s": lambda: memory_profiler(0.01),
    "Parsl monitoring, 30 s": lambda: parsl(30.0),
    "Parsl monitoring, 0.01 s": lambda: parsl(0.01),
    "psutil in a thread, 0.01 s": lambda: psutil_thread(0.01),
}
COMMANDS: dict[str, Callable[[], Measure]] = {
    "envpack monitor": ours_command,
    "psrecord, 0.01 s": lambda: psrecord(0.01),
    "/usr/bin/time -v": gnu_time,
}


def one(name: str, rounds: int) -> dict[str, Any]:
    """Return the cost and the errors of one contestant; for a process of its own."""
    is_call = name in CALLS
    measure, bare = (CALLS | COMMANDS)[name](), bare_call() if is_call else bare_command()
    costs = []
    for _ in range(rounds):
        for do, sign in ((bare, -1), (measure, 1)):
            start = time.perf_counter()
            do(0, 0.0)
            costs.append(sign * (time.perf_counter() - start))
    cost_s = statistics.median(costs[1::2]) + statistics.median(costs[0::2])
    # What nothing needs is asked again before each: a process grows a little, whoever measures.
    errors = {
        spike: max((-measure(0, 0.0) + measure(*WORK[spike]) - WORK[spike][0] * MB for _ in range(RUNS)), key=abs) / MB
        for spike in SPIKES
    }
    return {"cost_s": cost_s, "errors": errors}


def ask(python: str, name: str, rounds: int) -> dict[str, Any] | str:
    """Return what a contestant finds, or why it does not take part."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join([str(ROOT / "monitor"), *filter(None, [os.environ.get("PYTHONPATH")])])
        env = {**os.environ, "PYTHONPATH": path, "ENVPACK_HISTORY": str(Path(folder) / "history.sqlite")}
        command = [python, __file__, "--one", name, str(rounds)]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=600)
    if outcome.returncode:
        return outcome.stderr.strip().splitlines()[-1]
    found: dict[str, Any] = json.loads(outcome.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="folder of the interpreter that has them; this one by default")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(int(options.work[0]), float(options.work[1]))
        return
    if options.one:
        print(json.dumps(one(options.one[0], int(options.one[1]))))
        return
    python = str(options.peers / "python") if options.peers else sys.executable
    for title, contestants, rounds in (("a call", CALLS, 200), ("a command", COMMANDS, 20)):
        print(f"{title:36} {'cost, ms':>10}" + "".join(f"{spike:>16}" for spike in SPIKES))
        for name in contestants:
            found = ask(python, name, max(5, rounds // 10) if options.quick else rounds)
            if isinstance(found, str):
                print(f"{name:36} left out: {found}")
                continue
            errors = "".join(f"{found['errors'][spike]:>+16.1f}" for spike in SPIKES)
            print(f"{name:36} {found['cost_s'] * 1e3:>10.3f}{errors}".replace("+nan", "    "))
        print()


if __name__ == "__main__":
    main()
