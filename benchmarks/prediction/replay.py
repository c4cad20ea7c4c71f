"""Claim: over real traces the default policy wastes less memory than every published policy, from the same cold start.

Each trace is replayed against each policy: every call is predicted, then observed, in the order of submission, and
nothing is known at the beginning. AWE is memory used times time over memory allocated times time, failed attempts
included; a failed attempt lasts the whole run (`end`) or until the crossing of the allocation (`curve`).

The second table lets all policies begin each category with the same guess, that of the default policy, and compares
the default with the best of the others on each trace: its waste over theirs, the geometric mean and the worst.
Policies that draw are run with several seeds; the mean counts.

    python benchmarks/prediction/replay.py TRACE.csv|FOLDER... [--policy NAME]... [--no-features] [--json]

Without a trace, the one among the tests is taken.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from envpack_monitor import Allocation
from envpack_monitor.predict import (
    HINT,
    POLICIES,
    ColdStart,
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


def node_of(trace: Trace) -> Allocation:
    return Allocation(memory_bytes=max(NODE_BYTES, trace.largest_bytes))


def seeded(name: str, node: Allocation, seed: int) -> Predictor:
    """Return a policy, with another seed where it draws."""
    policy = make_policy(name, node)
    if isinstance(policy, Bucketing) and policy.random is not None:
        policy.random.seed(seed)
    return policy


def started_alike(name: str, node: Allocation, seed: int) -> Predictor:
    """Return a policy whose categories begin as those of the default; bucketing then need not explore."""
    policy = seeded(name, node, seed)
    if isinstance(policy, Bucketing):
        policy.exploring_calls = 1
    return policy if name == OURS else ColdStart(policy, make_policy(OURS, node))


def figures(
    name: str, trace: Trace, kill: str, seeds: int, make: Callable[[str, Allocation, int], Predictor]
) -> tuple[float, float]:
    """Return AWE and wasted GB h of a policy on a trace, means over the seeds."""
    runs = seeds if isinstance(make_policy(name, node_of(trace)), Bucketing) else 1
    results = [replay(make(name, node_of(trace), seed), trace.usages, kill_mode(kill)) for seed in range(runs)]
    return (
        statistics.mean(result.awe for result in results),
        statistics.mean(result.wasted_byte_s for result in results) / 3.6e12,
    )


def table(traces: Sequence[Trace], names: Sequence[str], kill: str, seeds: int, alike: bool) -> dict[str, list[float]]:
    """Return per policy its AWE, or its waste, on each trace."""
    make = started_alike if alike else seeded
    rows = {}
    for name in names:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{kill}: {name}")
        rows[name] = [figures(name, trace, kill, seeds, make)[1 if alike else 0] for trace in traces]
    return rows


def against_best(rows: dict[str, list[float]], traces: Sequence[Trace]) -> list[dict[str, object]]:
    """Return per trace the waste of the default over that of the best other."""
    found = []
    for at, trace in enumerate(traces):
        # Where no user has said anything, presets are one lucky or unlucky guess, not a policy.
        said = any(HINT in usage.features for usage in trace.usages)
        others = [name for name in rows if name != OURS and (name != "presets" or said)]
        best = min(others, key=lambda name: rows[name][at])
        ratio = rows[OURS][at] / rows[best][at] if rows[best][at] else 1.0
        found.append({"trace": trace.name, "best": best, "ratio": ratio, "ours_gbh": rows[OURS][at]})
    return found


def geometric_mean(ratios: Sequence[float]) -> float:
    return math.exp(statistics.mean(math.log(max(ratio, 1e-9)) for ratio in ratios))


def show_awe(rows: dict[str, list[float]], traces: Sequence[Trace], kill: str) -> None:
    print(f"\n\nAWE, failed attempts last until: {kill}\n")
    print(f"{'':36}" + "".join(f"{trace.name[-11:]:>13}" for trace in traces) + "         mean")
    for name, row in sorted(rows.items(), key=lambda item: -statistics.mean(item[1])):
        print(f"{name:36}" + "".join(f"{value:13.3f}" for value in row) + f"{statistics.mean(row):13.3f}")


def show_waste(found: Sequence[dict[str, object]], kill: str) -> None:
    print(f"\n\nwaste of the default over the best other's, the same cold start, failed attempts last until: {kill}\n")
    for each in found:
        print(f"{each['trace']!s:36}{each['ratio']:8.3f}  of {each['best']}")
    ratios = [float(str(each["ratio"])) for each in found]
    print(f"{'geometric mean':36}{geometric_mean(ratios):8.3f}\n{'worst':36}{max(ratios):8.3f}")


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
    parser.add_argument("--seeds", type=int, default=3, help="runs of policies that draw")
    parser.add_argument("--quick", action="store_true", help="a few policies, one seed")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args()
    traces = traces_of(chosen.traces)
    if chosen.no_features:
        traces = [trace.without_features() for trace in traces]
    names = chosen.policy or (QUICK if chosen.quick else list(POLICIES))
    seeds = 1 if chosen.quick else chosen.seeds
    output = {}
    for kill in chosen.kill or KILLS:
        awe = table(traces, names, kill, seeds, alike=False)
        found = []
        if OURS in names and len(names) > 1:
            found = against_best(table(traces, names, kill, seeds, alike=True), traces)
        output[kill] = {"awe": awe, "waste": found}
        if not chosen.json:
            show_awe(awe, traces, kill)
            if found:
                show_waste(found, kill)
    if chosen.json:
        print(json.dumps({"traces": [trace.name for trace in traces], "kills": output}))


if __name__ == "__main__":
    main()
