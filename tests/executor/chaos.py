"""Calls over several workers while a seeded killer ends processes, workers and cables: each ends once, and rightly.

    python -m tests.executor.chaos [--calls 50000] [--workers 4] [--seconds 60] [--seed 1] [--relays]

Calls are submitted evenly over the time. The killer kills context processes and workers (another one comes in their
place), suspends workers, cuts cables for shorter and for longer than the silence that is borne, and resets connections.
Checked in the end: so many calls, so many ends, every result right; nothing runs that was started, and the client's
memory has not grown since a fifth of the calls was done.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from envpack_executor import ContextExecutor, RemoteNodes
from envpack_executor.nodes import Heartbeat
from tests.executor import functions, networks
from tests.executor.helpers import are_gone, descendants, environ, wait_until
from tests.executor.networks import Network

SILENCE_S = 2.0
MOST_PENDING = 2000
MAX_GROWN_MB = 30.0


class Workers:
    """The workers of a run, each with a cable of its own.

    Args:
        network: their cables.
        count: how many.
        key_file: of the executor.
        folder: for their stores.
    """

    def __init__(self, network: Network, count: int, key_file: Path, folder: Path) -> None:
        self._network = network
        self._key_file = key_file
        self._folder = folder
        self.seen: set[int] = set()
        self.running = [self._start(number) for number in range(count)]

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        address, store = self._network.address(number), self._folder / f"store-{number}"
        command = [sys.executable, "-m", "envpack", "worker", "--connect", address, "--key", str(self._key_file)]
        options = ["--cores", "1", "--store", str(store), "--join-within", "60s"]
        with (self._folder / f"worker-{number}.err").open("ab") as errors:
            worker = subprocess.Popen(
                [*self._network.command(number), *command, *options], env=environ(), stderr=errors
            )
        self.seen.add(worker.pid)
        return worker

    def processes(self, number: int) -> list[int]:
        """Return the context processes of a worker."""
        found = descendants(self.running[number].pid)
        self.seen.update(found)
        return found

    def replace(self, number: int) -> None:
        """Kill a worker and start another one in its place."""
        self.processes(number)
        self.running[number].kill()
        self.running[number].wait()
        self.running[number] = self._start(number)

    def told(self) -> str:
        """Return how each worker stands and what it has written last, for a failure."""
        return "; ".join(
            f"worker {number}: exit status {worker.poll()}, {self._written(number)!r}"
            for number, worker in enumerate(self.running)
        )

    def _written(self, number: int) -> str:
        return (self._folder / f"worker-{number}.err").read_text(errors="replace")[-1000:]

    def end(self) -> list[int]:
        """Wait until all have left by themselves; return their exit statuses."""
        return [worker.wait(60) for worker in self.running]

    def kill(self) -> None:
        """End those that still run."""
        for worker in self.running:
            worker.kill()
            worker.wait()


class Killer:
    """Does one harm after another, drawn by a seed, until it is told to stop.

    Args:
        network: the cables.
        workers: the workers.
        seed: of the draws.
        every_s: mean time between two harms.
        set_ups: how many processes have become ready so far.
    """

    def __init__(
        self, network: Network, workers: Workers, seed: int, every_s: float, set_ups: Callable[[], int]
    ) -> None:
        self._network = network
        self._workers = workers
        self._random = random.Random(seed)
        self._every_s = every_s
        self._set_ups = set_ups
        self._set_ups_before = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer")
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._harmed: set[int] = set()
        self.error: BaseException | None = None
        self.harms: Counter[str] = Counter()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and leave everything whole."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._is_over.wait(self._random.expovariate(1 / self._every_s)):
                self._heal(time.monotonic())
                self._harm()
            self._heal(float("inf"))
        except BaseException as error:
            self.error = error

    def _heal(self, now_s: float) -> None:
        due = [heal for at_s, heal in self._later if at_s <= now_s]
        self._later = [(at_s, heal) for at_s, heal in self._later if at_s > now_s]
        for heal in due:
            heal()

    def _harm(self) -> None:
        numbers = range(len(self._workers.running))
        number = self._random.choice(numbers)
        kind = self._random.choice(["process", "process", "worker", "suspended", "cut", "reset"])
        for_s = self._random.uniform(0.2, 2 * SILENCE_S)
        if number in self._harmed:
            return  # it has enough to bear already
        if kind == "process" and not self._is_one_more_ready():
            return  # a context fails rightly when its processes are killed again and again before they are ready
        self.harms[kind] += 1
        match kind:
            case "process":
                for pid in self._workers.processes(number)[:1]:
                    _signal(pid, signal.SIGKILL)
            case "worker":
                self._workers.replace(number)
            case "suspended":
                worker = self._workers.running[number]
                worker.send_signal(signal.SIGSTOP)
                self._heal_later(number, for_s, partial(worker.send_signal, signal.SIGCONT))
            case "cut":
                self._network.cut(number)
                self._heal_later(number, for_s, partial(self._network.mend, number))
            case "reset":
                self._network.reset(number)

    def _is_one_more_ready(self) -> bool:
        before, self._set_ups_before = self._set_ups_before, self._set_ups()
        return self._set_ups_before > before

    def _heal_later(self, number: int, after_s: float, heal: Callable[[], None]) -> None:
        def whole_again() -> None:
            heal()
            self._harmed.discard(number)

        self._harmed.add(number)
        self._later.append((time.monotonic() + after_s, whole_again))


class Load:
    """Submits calls evenly over a time and takes their ends.

    Args:
        executor: where.
        calls: how many.
        seconds: over how long.
    """

    def __init__(self, executor: ContextExecutor, calls: int, seconds: float) -> None:
        self._executor = executor
        self._calls = calls
        self._seconds = seconds
        self._room = threading.Semaphore(MOST_PENDING)
        self._lock = threading.Lock()
        self.ends = bytearray(calls)
        self.wrong: list[str] = []
        self.memory: list[int] = []

    def run(self) -> None:
        """Submit all, and wait until each has an end."""
        begun_s = time.monotonic()
        for number in range(self._calls):
            ahead_s = number * self._seconds / self._calls - (time.monotonic() - begun_s)
            if ahead_s > 0.01:
                time.sleep(ahead_s)
            if not self._room.acquire(timeout=120):
                raise AssertionError(f"no call has ended for 120 s; {sum(self.ends)} of {number} have")
            self._executor.submit(functions.double, number).add_done_callback(partial(self._ended, number))
            if number % max(1, self._calls // 50) == 0:
                self.memory.append(_resident_bytes())
        wait_until(lambda: sum(self.ends) >= self._calls, "every call has ended", deadline_s=120)

    def _ended(self, number: int, future: Future[int]) -> None:
        error = future.exception()
        with self._lock:
            self.ends[number] += 1
            if error is not None or future.result() != 2 * number:
                self.wrong.append(f"{number}: {error or future.result()}")
        self._room.release()

    def problems(self) -> list[str]:
        """Return what is not as it should be."""
        found = self.wrong[:5]
        if set(self.ends) != {1}:
            found.append(f"ends by call: {Counter(self.ends)}")
        fifth = max(1, len(self.memory) // 5)
        grown_mb = (max(self.memory[fifth:]) - max(self.memory[: fifth + 1])) / 1e6 if len(self.memory) > 1 else 0.0
        if grown_mb > MAX_GROWN_MB:
            found.append(f"the client's memory has grown by {grown_mb:.0f} MB")
        return found


def run(calls: int, workers_count: int, seconds: float, seed: int, network: Network) -> list[str]:
    """Make one run; return what went wrong in it."""
    nodes = RemoteNodes(network.bind, heartbeat=Heartbeat(every_s=SILENCE_S / 10, silence_s=SILENCE_S))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="envpack-chaos-")))
        executor = stack.enter_context(ContextExecutor(nodes=nodes, max_tries=1000, history=None))
        stack.callback(network.close)
        network.open(nodes.address)
        workers = Workers(network, workers_count, nodes.key_file, folder)
        stack.callback(workers.kill)
        wait_until(lambda: executor.stats().nodes == workers_count, "all workers have joined")
        load = Load(executor, calls, seconds)
        killer = Killer(
            network, workers, seed, every_s=min(0.5, seconds / 30), set_ups=lambda: executor.stats().set_ups
        )
        killer.start()
        try:
            load.run()
        finally:
            killer.stop()
        ended_s = time.monotonic()
        wait_until(
            lambda: time.monotonic() > ended_s + 2 * SILENCE_S and executor.stats().nodes == workers_count,
            lambda: f"all workers have come again; {executor.stats().nodes} are there, {workers.told()}",
            deadline_s=60,
        )
        stats = executor.stats()
        executor.shutdown()
        statuses = workers.end()
        problems = load.problems()
        if killer.error is not None:
            problems.append(f"the killer failed: {killer.error!r}")
        if not are_gone(workers.seen):
            problems.append("processes were left behind")
        if any(statuses):
            problems.append(f"workers ended with {statuses}: {workers.told()}")
    harms = ", ".join(f"{count} {kind}" for kind, count in sorted(killer.harms.items()))
    memory = f"{min(load.memory) / 1e6:.0f} to {max(load.memory) / 1e6:.0f} MB"
    print(
        f"chaos: {sum(load.ends):,} ends of {calls:,} calls; {stats.set_ups} set-ups; harms: {harms}; client {memory}"
    )
    return problems


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def main() -> int:
    """Run and tell; the exit code is 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--relays", action="store_true", help="no namespaces, even where they can be had")
    options = parser.parse_args()
    if not options.relays:
        inside = networks.run_inside(["-m", "tests.executor.chaos", *sys.argv[1:]])
        if inside is not None:
            return inside
    network = networks.make(options.workers)
    print(f"chaos: {type(network).__name__.lower()}, seed {options.seed}", flush=True)
    problems = run(options.calls, options.workers, options.seconds, options.seed, network)
    for problem in problems:
        print(f"chaos: wrong: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
