"""Claim: a network kept in warm processes costs a call what a bare loop costs; a fresh process, ten times that.

A residual network of 18 layers in torch, its weights in a file, 16 images a call, 200 calls, two workers with one
thread each. The ways:

- L1: everything per call: a folder is made, code and weights are copied into it, a fresh interpreter runs there.
- L2: the environment stays where it is, a fresh interpreter per call (`mode="fresh"`).
- direct, fork: the set-up is kept in warm processes.
- bare loop: two processes that have loaded the network make the calls and talk to nobody.

L1 and L2 are given a tenth of the calls, and are compared by call. The warm ways take turns, 20 calls each, so that
what else the machine does falls on all alike; `with set-ups` is what 200 calls cost, with starting and setting up the
processes that make them. `inference` is the time in the network, inside a call.

    python benchmarks/executor/context_reuse.py [--rounds 3] [--calls 200] [--only L1 warm] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import peers
import rounds

IMAGES = 16
BARE, L1, L2, DIRECT, FORK = "bare loop", "L1, everything per call", "L2, fresh process", "direct", "fork"
WARM = "warm"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
FEWER = 10
TURN = 20
FRESH = """
import sys, network
model = network.load("weights.pt", int(sys.argv[2]))["model"]
print(*network.infer(int(sys.argv[1]), int(sys.argv[2]), model))
"""
LOOP = """
import sys, network
model = network.load(sys.argv[1], int(sys.argv[3]))["model"]
while True:
    sys.stdout.write("ready\\n"); sys.stdout.flush()
    if not sys.stdin.readline(): break
    for seed in range(int(sys.argv[2])): network.infer(seed, int(sys.argv[3]), model)
"""


class Bare:
    """Two warm processes that make the calls of a turn and talk to nobody."""

    set_ups = peers.WORKERS
    set_up_s = 0.0
    inference_s: tuple[float, ...] = ()

    def __init__(self, weights: str) -> None:
        command = [sys.executable, "-c", LOOP, weights, str(TURN // peers.WORKERS), str(IMAGES)]
        pipe = subprocess.PIPE
        self._loops = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(peers.WORKERS)]
        self._wait()

    def turn(self) -> None:
        for loop in self._loops:
            assert loop.stdin is not None
            loop.stdin.write("go on\n")
            loop.stdin.flush()
        self._wait()

    def _wait(self) -> None:
        for loop in self._loops:
            assert loop.stdout is not None
            loop.stdout.readline()

    def close(self) -> None:
        for loop in self._loops:
            loop.communicate()


class Ours:
    """Two workers of an executor, each set up before the first turn."""

    def __init__(self, weights: str, mode: str) -> None:
        import network

        from envpack_executor import ContextExecutor, task

        self._marks = tempfile.TemporaryDirectory()
        started_s = time.perf_counter()
        self._executor = ContextExecutor(peers.WORKERS)
        self._function = task(context=(network.load, weights, IMAGES, self._marks.name), mode=mode)(network.infer)
        self.inference_s: list[float] = []
        while self.set_ups < peers.WORKERS:
            self.run(2 * peers.WORKERS)
        self.set_up_s = time.perf_counter() - started_s

    @property
    def set_ups(self) -> int:
        return len(os.listdir(self._marks.name))

    def turn(self) -> None:
        self.run(TURN)

    def run(self, calls: int) -> None:
        futures = [self._executor.submit(self._function, seed, IMAGES) for seed in range(calls)]
        self.inference_s += [future.result()[1] for future in futures]

    def close(self) -> None:
        self._executor.shutdown()
        self._marks.cleanup()


def warm(weights: str, calls: int) -> rounds.Figures:
    """Let the warm ways take turns; return, for each, the seconds of a call in each turn, and its other figures."""
    ways = {BARE: Bare(weights), DIRECT: Ours(weights, "direct"), FORK: Ours(weights, "fork")}
    walls: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(max(1, calls // TURN)):
        for name, way in ways.items():
            started_s = time.perf_counter()
            way.turn()
            walls[name].append((time.perf_counter() - started_s) / TURN)
    found = {}
    for name, way in ways.items():
        figures = {
            "with_set_up_s": (way.set_up_s + sum(walls[name]) * TURN) / calls,
            "set_ups": way.set_ups,
            "inference_s": statistics.median(way.inference_s or [float("nan")]),
        }
        found[name] = [{"call_s": wall_s, **figures} for wall_s in walls[name]]
        way.close()
    return found


def fresh(weights: str, calls: int) -> rounds.Figures:
    """Make each call in a process that the executor starts for it."""
    import network

    from envpack_executor import ContextExecutor, task

    with tempfile.TemporaryDirectory() as marks, ContextExecutor(peers.WORKERS) as executor:
        function = task(context=(network.load, weights, IMAGES, marks), mode="fresh")(network.infer)
        started_s = time.perf_counter()
        found = [future.result() for future in [executor.submit(function, seed, IMAGES) for seed in range(calls)]]
        wall_s = time.perf_counter() - started_s
        return _cold(wall_s / calls, len(os.listdir(marks)), [each[1] for each in found])


def everything(weights: str, calls: int) -> rounds.Figures:
    """Make each call in a folder and an interpreter of its own, as many at a time as there are workers."""

    def one(seed: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(Path(__file__).with_name("network.py"), folder)
            shutil.copy(weights, os.path.join(folder, "weights.pt"))
            command = [sys.executable, "-c", FRESH, str(seed), str(IMAGES)]
            environ = {**os.environ, "PYTHONPATH": folder}
            words = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=True).stdout
        return float(words.split()[1])

    started_s = time.perf_counter()
    with ThreadPoolExecutor(peers.WORKERS) as pool:
        inference_s = list(pool.map(one, range(calls)))
    return _cold((time.perf_counter() - started_s) / calls, calls, inference_s)


def _cold(call_s: float, set_ups: int, inference_s: list[float]) -> rounds.Figures:
    median_s = statistics.median(inference_s)
    return {"call_s": call_s, "with_set_up_s": call_s, "set_ups": set_ups, "inference_s": median_s}


def measure(way: str, chosen: argparse.Namespace) -> rounds.Figures:
    """Return what a call costs one way, or each of the warm ones."""
    os.environ.update(ONE_THREAD)
    calls = 40 if chosen.quick else chosen.calls
    few = max(peers.WORKERS, calls // FEWER)
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "weights.pt")
        subprocess.run([sys.executable, "-c", f"import network; network.write_weights({weights!r})"], check=True)
        if way == WARM:
            return warm(weights, calls)
        return everything(weights, few) if way == L1 else fresh(weights, few)


def main() -> None:
    chosen = rounds.options(__doc__, rounds=3, calls=200)
    found = rounds.run(__file__, chosen, [L1, L2, WARM], measure)
    for each in found.pop(WARM, []):
        for name, turns in each.items():
            found.setdefault(name, []).extend(turns)
    columns = [
        ("call_s", "wall s/call", ".4f"),
        ("with_set_up_s", "with set-ups", ".4f"),
        ("inference_s", "inference, s", ".4f"),
        ("set_ups", "set-ups", ",.0f"),
    ]
    title = f"{IMAGES} images a call, two workers (wall time is per call of both together)"
    rounds.show(title, found, columns, chosen, against=BARE)
    if not chosen.json and found.get(L1) and found.get(DIRECT):
        saved = 1 - statistics.median(rounds.values(found[DIRECT], "with_set_up_s")) / statistics.median(
            rounds.values(found[L1], "call_s")
        )
        print(f"\n  direct with its set-ups takes {saved:.1%} less than L1")


if __name__ == "__main__":
    main()
