"""Claim: of a tree of 50 short children memory and CPU are within 2 % by cgroup, and bounded from above without one.

The children hold what they allocate until a number of them hold it at the same time, so what the tree has at once is
known; then each burns a known time of CPU. What the same tree takes when its children allocate nothing is taken off its
memory, and what its first process says that it burned itself off its CPU. `envpack, /proc` is what is said where no
cgroup can be made, with its quality. Beside them stand what a parent is told of its children (`ru_maxrss`) and a poller
of resident memory every 25 ms, where psutil is installed.

    python benchmarks/monitoring/tree.py [--rounds 5] [--children 50] [--quick]
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MB = 1_000_000
CHILD_BYTES = 40 * MB
CHILD_CPU_S = 0.1
BAR = 0.02
POLL_S = 0.025

TREE = """
import mmap, os, sys, time
children, together, size, cpu_s = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
def child(ready, go):
    memory = mmap.mmap(-1, max(size, 4096))
    for offset in range(0, size, 4096):
        memory[offset] = 1
    os.write(ready, b"x")
    os.read(go, 1)
    memory.close()
    while time.process_time() < cpu_s:
        pass
    os._exit(0)
for _ in range(children // together):
    ready_out, ready_in = os.pipe()
    go_out, go_in = os.pipe()
    pids = []
    for _ in range(together):
        pid = os.fork()
        if pid == 0:
            child(ready_in, go_out)
        pids.append(pid)
    for _ in pids:
        os.read(ready_out, 1)
    os.write(go_in, b"x" * together)
    for pid in pids:
        os.waitpid(pid, 0)
    for fd in (ready_out, ready_in, go_out, go_in):
        os.close(fd)
with open(sys.argv[5], "w") as file:
    file.write(str(time.process_time()))
"""
ALONE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss * 1024, used.ru_utime + used.ru_stime)
"""


@dataclass(frozen=True)
class Found:
    """What one way of measuring has found.

    Args:
        memory_bytes: the peak.
        cpu_s: of all.
        quality: what it says of the peak.
        processes: in total, where it counts them.
    """

    memory_bytes: float
    cpu_s: float
    quality: str
    processes: int | None = None


Measure = Callable[[list[str]], Found]


def by_envpack(mechanism: str) -> Measure:
    from envpack_monitor import run_command

    def measure(words: list[str]) -> Found:
        result = run_command(words, mechanism=mechanism, history=False)  # type: ignore[arg-type]
        usage = result.usage
        if result.exit_code or usage.peak_memory_bytes is None or usage.cpu_s is None:
            raise RuntimeError(f"the tree failed: {result}")
        return Found(usage.peak_memory_bytes, usage.cpu_s, usage.quality_of("peak_memory_bytes"), usage.processes_total)

    return measure


def by_rusage(words: list[str]) -> Found:
    out = subprocess.run([sys.executable, "-c", ALONE, *words], capture_output=True, text=True, check=True).stdout
    memory_bytes, cpu_s = map(float, out.split())
    return Found(memory_bytes, cpu_s, "the largest process")


def by_polling(words: list[str]) -> Found:
    import psutil

    process = psutil.Popen(words)
    peak, seen = 0, {}
    while process.poll() is None:
        try:
            members = [process, *process.children(recursive=True)]
            peak = max(peak, sum(member.memory_info().rss for member in members))
            seen |= {member.pid: sum(member.cpu_times()[:2]) for member in members}
        except psutil.NoSuchProcess:
            continue
        time.sleep(POLL_S)
    return Found(peak, sum(seen.values()), "polled")


def subjects() -> dict[str, Measure]:
    from envpack_monitor.errors import MechanismError
    from envpack_monitor.trees.cgroup import POOL

    found: dict[str, Measure] = {}
    try:
        POOL.give(POOL.take())
        found["envpack, cgroup"] = by_envpack("cgroup")
    except MechanismError as error:
        print(f"no cgroup here: {error}")
    found |= {"envpack, /proc": by_envpack("proc"), "ru_maxrss of children": by_rusage}
    if importlib.util.find_spec("psutil") is not None:
        found["psutil every 25 ms"] = by_polling
    return found


def once(measure: Measure, children: int, together: int, size: int) -> Found:
    """Measure one tree; return it without the CPU of its first process."""
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "own"
        words = [sys.executable, "-S", "-E", "-c", TREE, *map(str, (children, together, size, CHILD_CPU_S, own))]
        found = measure(words)
        return Found(found.memory_bytes, found.cpu_s - float(own.read_text()), found.quality, found.processes)


def compare(children: int, together: int, rounds: int) -> bool:
    """Print a table; tell whether what is claimed was kept."""
    memory_bytes, cpu_s = CHILD_BYTES * together, CHILD_CPU_S * children
    print(f"{children} children, {together} at once: {memory_bytes / MB:.0f} MB at once, {cpu_s:.2f} s of CPU")
    print(f"{'':24} {'memory':>10} {'error':>8} {'least':>8} {'most':>8} {'cpu':>9} {'error':>8}  processes, quality")
    every = subjects()
    pairs: dict[str, list[tuple[Found, Found]]] = {name: [] for name in every}
    for _ in range(rounds):
        for name, measure in every.items():
            pairs[name].append((once(measure, children, together, 0), once(measure, children, together, CHILD_BYTES)))
    kept = [_row(name, found, memory_bytes, cpu_s) for name, found in pairs.items()]
    return all(kept)


def _row(name: str, pairs: list[tuple[Found, Found]], memory_bytes: int, cpu_s: float) -> bool:
    peaks = [full.memory_bytes - empty.memory_bytes for empty, full in pairs]
    errors = [peak / memory_bytes - 1 for peak in peaks]
    used = [full.cpu_s for _, full in pairs]
    cpu_error = statistics.median(used) / cpu_s - 1
    last = pairs[-1][1]
    if last.quality == "upper bound":
        # Bounds are not taken off each other.
        peaks = [full.memory_bytes for _, full in pairs]
        errors = [peak / memory_bytes - 1 for peak in peaks]
    spread = f"{statistics.median(errors):+8.1%} {min(errors):+8.1%} {max(errors):+8.1%}"
    cpu_text = f"{statistics.median(used):7.2f} s {cpu_error:+8.1%}"
    print(
        f"{name:24} {statistics.median(peaks) / MB:7.1f} MB {spread} {cpu_text}",
        f"{last.processes or '-'}, {last.quality}",
        sep="  ",
    )
    if name == "envpack, cgroup":
        return abs(statistics.median(errors)) <= BAR and abs(cpu_error) <= BAR
    return name != "envpack, /proc" or (last.quality == "upper bound" and min(errors) >= 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--children", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="one round of 10 children")
    options = parser.parse_args()
    children, rounds = (10, 1) if options.quick else (options.children, options.rounds)
    kept = []
    for together in (1, 5, children):
        kept.append(compare(children, together, rounds))
        print()
    print("kept" if all(kept) else "not kept")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
