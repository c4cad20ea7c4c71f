"""Claim: over real traces the default policy wastes less memory than every published policy, from the same cold start.

Each trace is replayed against each policy: every call is predicted, then observed, in the order of submission, and
nothing is known at the beginning. AWE is memory used times time over memory allocated times time, failed attempts
included; a failed attempt lasts the whole run (`end`) or until the crossing of the allocation (`curve`).

Below each table stands the waste of the default over that of the best of the others, trace by trace, once with the
cold start that each has of its own (1 GB, doubled), once with that of the default for all: then the best of the others
is a better one than was ever published. Policies that draw are run with several seeds; the mean counts.

    python benchmarks/prediction/replay.py TRACE.csv|FOLDER... [--policy NAME]... [--shuffle SEED]

Without a trace, the one among the tests is taken.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from envpack_monitor import Allocation
from envpack_monitor.predict import (
    HINT,
    POLICIES,
    ColdStart,
    FailedRun,
    Predictor,
    Trace,
    kill_mode,
    make_policy,
    read_trace,
    replay,
)
from envpack_monitor.predict.policies.bucketing import Bucketing

OURS = "default"
KILLS = ("end", "curve")
TRACES = Path(__file__).parents[2] / "tests" / "monitor" / "data"
NODE_BYTES = 128 * 10**9

Make = Callable[[str, Allocation, int, FailedRun], Predictor]


class Figures(NamedTuple):
    """What a policy reaches on a trace."""

    awe: float
    wasted_gbh: float


class Comparison(NamedTuple):
    """The waste of the default over that of the best other on a trace."""

    trace: str
    best: str
    ratio: float


Table = dict[str, list[Figures]]

QUICK = (OURS, "max-seen", "low-wastage", "greedy-bucketing")


def traces_of(names: Sequence[str]) -> list[Trace]:
    """Read files, and those of folders that hold traces."""
    files: list[Path] = []
    for name in names or [str(TRACES)]:
        path = Path(name)
        files += sorted(path.glob("*.csv")) if path.is_dir() else [path]
    traces = []
    for file in files:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            traces.append(read_trace(lines, file.stem))
    return traces


def shuffled(trace: Trace, seed: int) -> Trace:
    return replace(trace, calls=random.Random(seed).sample(trace.calls, len(trace.calls)))


def node_of(trace: Trace) -> Allocation:
    return Allocation(memory_bytes=max(NODE_BYTES, trace.largest_bytes))


def seeded(name: str, node: Allocation, seed: int, failed: FailedRun) -> Predictor:
    """Return a policy, with another seed where it draws."""
    policy = make_policy(name, node, failed)
    if isinstance(policy, Bucketing) and policy.random is not None:
        policy.random.seed(seed)
    return policy


def started_alike(name: str, node: Allocation, seed: int, failed: FailedRun) -> Predictor:
    """Return a policy whose categories begin as those of the default; bucketing then need not explore."""
    policy = seeded(name, node, seed, failed)
    if isinstance(policy, Bucketing):
        policy.exploring_calls = 1
    return policy if name == OURS else ColdStart(policy, make_policy(OURS, node, failed))


STARTS: dict[str, Make] = {"its own cold start": seeded, "the same cold start": started_alike}


def figures(name: str, trace: Trace, kill: str, seeds: int, make: Make) -> Figures:
    """Return AWE and waste of a policy on a trace, means over the seeds."""
    failed = kill_mode(kill)
    runs = seeds if isinstance(make_policy(name, node_of(trace)), Bucketing) else 1
    results = [replay(make(name, node_of(trace), seed, failed), trace.usages, failed) for seed in range(runs)]
    return Figures(
        statistics.mean(result.awe for result in results),
        statistics.mean(result.wasted_byte_s for result in results) / 3.6e12,
    )


def table(traces: Sequence[Trace], names: Sequence[str], kill: str, seeds: int, start: str) -> Table:
    """Return the figures of each policy on each trace."""
    rows = {}
    for name in names:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{kill}, {start}: {name}")
        rows[name] = [figures(name, trace, kill, seeds, STARTS[start]) for trace in traces]
    return rows


def against_best(rows: Table, traces: Sequence[Trace]) -> list[Comparison]:
    """Return per trace the waste of the default over that of the best other."""
    found = []
    for at, trace in enumerate(traces):
        # Where no user has said anything, presets are one lucky or unlucky guess, not a policy.
        said = any(HINT in usage.features for usage in trace.usages)
        others = {
            name: row[at].wasted_gbh for name, row in rows.items() if name != OURS and (name != "presets" or said)
        }
        best = min(others, key=lambda name: others[name])
        found.append(Comparison(trace.name, best, rows[OURS][at].wasted_gbh / (others[best] or 1e-12)))
    return found


def geometric_mean(ratios: Sequence[float]) -> float:
    return math.exp(statistics.mean(math.log(max(ratio, 1e-9)) for ratio in ratios))


def show(rows: Table, traces: Sequence[Trace], kill: str, start: str) -> None:
    print(f"\n\nAWE, {start}, failed attempts last until: {kill}\n")
    print(f"{'':36}" + "".join(f"{trace.name[-11:]:>13}" for trace in traces) + "         mean")
    for name, row in sorted(rows.items(), key=lambda item: -statistics.mean(each.awe for each in item[1])):
        cells = "".join(f"{each.awe:13.3f}" for each in row)
        print(f"{name:36}{cells}{statistics.mean(each.awe for each in row):13.3f}")
    if OURS not in rows or len(rows) == 1:
        return
    print("\nwaste of the default over the best other's\n")
    found = against_best(rows, traces)
    for each in found:
        print(f"{each.trace:36}{each.ratio:13.3f}  of {each.best}")
    ratios = [each.ratio for each in found]
    print(f"{'geometric mean':36}{geometric_mean(ratios):13.3f}\n{'worst':36}{max(ratios):13.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("traces", nargs="*", metavar="TRACE.csv|FOLDER")
    parser.add_argument(
        "--policy", action="append", metavar="NAME", help=f"repeatable; by default {', '.join(POLICIES)}"
    )
    parser.add_argument(
        "--kill", action="append", metavar="end|curve|FRACTION", help="repeatable; by default end and curve"
    )
    parser.add_argument("--no-features", action="store_true", help="without input sizes and users' presets")
    parser.add_argument("--shuffle", type=int, metavar="SEED", help="the calls of each trace in another order")
    parser.add_argument("--seeds", type=int, default=3, help="runs of policies that draw")
    parser.add_argument("--quick", action="store_true", help="a few policies, one seed")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args()
    traces = traces_of(chosen.traces)
    if chosen.no_features:
        traces = [trace.without_features() for trace in traces]
    if chosen.shuffle is not None:
        traces = [shuffled(trace, chosen.shuffle) for trace in traces]
    names = chosen.policy or (QUICK if chosen.quick else list(POLICIES))
    seeds = 1 if chosen.quick else chosen.seeds
    output: dict[str, dict[str, object]] = {}
    for kill in chosen.kill or KILLS:
        for start in STARTS:
            rows = table(traces, names, kill, seeds, start)
            awe = {name: [each.awe for each in row] for name, row in rows.items()}
            waste = {name: [each.wasted_gbh for each in row] for name, row in rows.items()}
            output.setdefault(kill, {})[start] = {"awe": awe, "wasted_gbh": waste}
            if not chosen.json:
                show(rows, traces, kill, start)
    if chosen.json:
        print(json.dumps({"traces": [trace.name for trace in traces], "kills": output}))


if __name__ == "__main__":
    main()
