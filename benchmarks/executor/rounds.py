"""What the benchmarks of the executor share: rounds of processes that take turns, CPU time of whole trees, the table.

Every measurement is a process of its own: it starts one executor, warms it up, measures, and prints what it found. A
round is one such process for each executor, one after the other, so that what else the machine does falls on all of
them alike; ratios are taken within a round. CPU time is that of the client, its workers and helpers, those that have
ended included: whatever they orphan is left to the measuring process.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peers import PEERS

HERE = Path(__file__).parent
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE_S = 900

Figures = dict[str, Any]
Measure = Callable[[str, argparse.Namespace], Figures]


# --- CPU time and memory of a tree


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that its CPU time is not lost."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def tree(root: int) -> list[int]:
    """Return a process and its descendants, those that have ended and were not reaped included."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = [root]
    for pid in found:  # grows while it is read
        found += children.get(pid, [])
    return found


def tree_cpu_s(root: int) -> float:
    """Return the CPU seconds that a process and all its descendants have used so far, reaped ones included."""
    return sum(_cpu_s(pid) for pid in tree(root))


def _stat(pid: int) -> list[str] | None:
    """Return the fields of a process from its state on; None when it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    if fields is None:
        return 0.0
    own, reaped = (sum(map(int, fields[at : at + 2])) / _TICKS_PER_S for at in (11, 13))
    try:
        own = time.clock_gettime((~pid << 3) | 2)  # the clock of another process: exact, where ticks are 10 ms
    except OSError:
        pass  # it has ended and was not reaped: what the ticks say is what is left
    return own + reaped


def private_bytes() -> int:
    """Return the memory of this process that it shares with nobody."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024


def side_by_side(command: Sequence[str], count: int) -> float:
    """Return the seconds that equal processes take from the word to begin, which each waits for, to the end of all.

    Args:
        command: a program that writes a line when it is ready, and reads one before it begins.
        count: how many.
    """
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(count)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    started_s = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("begin\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    return time.perf_counter() - started_s


# --- one process a measurement, rounds, tables


def options(text: str, rounds: int, **more: Any) -> argparse.Namespace:
    """Return what was asked for on the command line.

    Args:
        text: the docstring of the benchmark.
        rounds: how many without `--quick`.
        more: further options with their defaults.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help=f"{rounds} by default")
    parser.add_argument("--quick", action="store_true", help="two rounds, fewer calls")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only those that have one of these in their names")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--subject", help=argparse.SUPPRESS)
    for name, default in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    chosen = parser.parse_args()
    chosen.rounds = chosen.rounds or (2 if chosen.quick else rounds)
    return chosen


def run(file: str, chosen: argparse.Namespace, names: Sequence[str], measure: Measure) -> dict[str, list[Figures]]:
    """Return the figures of each subject by rounds; in the process of one subject, measure it and end.

    Args:
        file: the benchmark.
        chosen: its options.
        names: its subjects; those that fail are named with the reason and left out from then on.
        measure: measures one subject in this process.
    """
    if chosen.subject:
        adopt_orphans()
        figures = measure(chosen.subject, chosen)
        sys.stdout.write("\n" + json.dumps(figures) + "\n")
        sys.stdout.flush()
        raise SystemExit
    asked = [name for name in names if not chosen.only or any(part.lower() in name.lower() for part in chosen.only)]
    found: dict[str, list[Figures]] = {name: [] for name in asked}
    for _ in range(chosen.rounds):
        for name in list(found):
            answer = _ask(file, name)
            if isinstance(answer, str):
                print(f"{name} is left out: {answer}", file=sys.stderr)
                del found[name]
            else:
                found[name].append(answer)
    return found


def _ask(file: str, name: str) -> Figures | str:
    """Measure one subject in a process of its own; return its figures, or why there are none."""
    peer = PEERS.get(name.partition(",")[0])
    module = peer.module if peer is not None else "json"
    if importlib.util.find_spec(module) is None:
        return f"{module} is not installed"
    with tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        quiet = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"}
        history = str(Path(folder, "history.sqlite"))
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environ = {**kept, **quiet, "PYTHONPATH": path, "PATH": programs, "ENVPACK_HISTORY": history}
        command = [sys.executable, file, *sys.argv[1:], "--subject", name]
        try:
            outcome = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return f"no end within {_PATIENCE_S} s"
    if outcome.returncode:
        return (outcome.stderr.strip().splitlines() or [f"exit code {outcome.returncode}"])[-1]
    figures: Figures = json.loads(outcome.stdout.splitlines()[-1])
    return figures


def values(rounds: Sequence[Figures], key: str) -> list[float]:
    """Return one figure of each round."""
    return [figures[key] for figures in rounds]


def spread(numbers: Sequence[float], form: str = ",.0f") -> str:
    """Return median and range in words."""
    return f"{statistics.median(numbers):{form}} ({min(numbers):{form}} to {max(numbers):{form}})"


def ratios(ours: Sequence[Figures], theirs: Sequence[Figures], key: str) -> list[float]:
    """Return how many times theirs ours is, round by round."""
    pairs = zip(values(ours, key), values(theirs, key), strict=False)
    return [mine / other if other else float("nan") for mine, other in pairs]


def show(
    title: str,
    found: dict[str, list[Figures]],
    columns: Sequence[tuple[str, str, str]],
    chosen: argparse.Namespace,
    against: str = "ProcessPoolExecutor",
) -> None:
    """Print the table of all subjects, and how many times the figures of `against` theirs are.

    Args:
        title: what was measured.
        found: figures by subject and round.
        columns: key of a figure, its heading, its format.
        chosen: the options of the command line.
        against: the subject that ratios are taken of.
    """
    load = os.getloadavg()[0]
    if chosen.json:
        print(json.dumps({"title": title, "load": load, "figures": found}))
        return
    rounds = max(map(len, found.values()), default=0)
    python = ".".join(map(str, sys.version_info[:3]))
    machine = f"Python {python}, {os.cpu_count()} cores, load {load:.1f}"
    print(f"{title}\n{machine}, {rounds} rounds in turn, medians (range)\n")
    print(f"  {'':<26}" + "".join(f"{heading:>32}" for _, heading, _ in columns))
    for name, rounds_of in found.items():
        cells = [spread(values(rounds_of, key), form) for key, _, form in columns]
        print(f"  {name:<26}" + "".join(f"{cell:>32}" for cell in cells))
    if against not in found:
        return
    print(f"\n  times {against}")
    for name, rounds_of in found.items():
        if name != against:
            cells = [spread(ratios(rounds_of, found[against], key), ".3g") for key, _, _ in columns]
            print(f"  {name:<26}" + "".join(f"{cell:>32}" for cell in cells))
