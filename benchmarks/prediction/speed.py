"""Claim: with 10,000 categories the default policy predicts in 10 us, learns in 100 us, and needs less than 200 MB.

Calls of many categories, each with an input size and a user's guess, are predicted and observed in turn; first so many
of each category that all have one (young), then at random over all (grown). Medians, means and the largest tenth; the
memory is what the process has more at the end than before the policy was made.

    python benchmarks/prediction/speed.py [--policy NAME]... [--categories N] [--calls N] [--json]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time

from envpack_monitor import Allocation, Usage
from envpack_monitor.predict import HINT, POLICIES, make_policy

PEERS = ("default", "low-wastage", "greedy-bucketing", "max-seen")
NODE = Allocation(memory_bytes=128 * 10**9, cores=32)


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as figures:
        return int(figures.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def made_up(rng: random.Random, category: int) -> Usage:
    """Return a call: its peak grows with its input, its scale is that of its category."""
    size = rng.uniform(0.5, 1.5)
    peak = int((1 + category % 97) * 5e7 * size * rng.uniform(0.95, 1.05)) + 10**7
    features = {"input_bytes": size * 1e9, HINT: (1 + category % 97) * 2e8}
    return Usage(
        category=f"workflow.step_{category}",
        wall_s=rng.uniform(1, 60),
        cpu_user_s=1.0,
        cpu_system_s=0.1,
        peak_memory_bytes=peak,
        features=features,
    )


def measure(name: str, categories: int, calls: int) -> dict[str, float]:
    """Return the figures of one policy, in a process that did nothing else."""
    rng = random.Random(1)
    numbers = list(range(categories)) + [rng.randrange(categories) for _ in range(max(0, calls - categories))]
    gc.collect()
    before = resident_bytes()
    policy = make_policy(name, NODE)
    predict_s, observe_s = [], []
    for number in numbers:
        call = made_up(rng, number)
        begun = time.perf_counter()
        policy.predict(call.category, call.features)
        asked = time.perf_counter()
        policy.observe(call.category, call.features, call)
        observe_s.append(time.perf_counter() - asked)
        predict_s.append(asked - begun)
    gc.collect()
    return {
        "predict_median_us": statistics.median(predict_s) * 1e6,
        "predict_mean_us": statistics.mean(predict_s) * 1e6,
        "predict_tenth_us": statistics.quantiles(predict_s, n=10)[-1] * 1e6,
        "observe_median_us": statistics.median(observe_s) * 1e6,
        "observe_mean_us": statistics.mean(observe_s) * 1e6,
        "observe_tenth_us": statistics.quantiles(observe_s, n=10)[-1] * 1e6,
        "memory_mb": (resident_bytes() - before) / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", action="append", metavar="NAME", help=f"repeatable, of {', '.join(POLICIES)}")
    parser.add_argument("--categories", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=60_000)
    parser.add_argument("--quick", action="store_true", help="500 categories, 3,000 calls, the default policy")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    categories, calls = (500, 3000) if chosen.quick else (chosen.categories, chosen.calls)
    names = chosen.policy or (["default"] if chosen.quick else list(PEERS))
    if chosen.alone:
        print(json.dumps(measure(names[0], categories, calls)))
        return
    rows = {}
    for name in names:
        words = ["--alone", "--policy", name, "--categories", str(categories), "--calls", str(calls)]
        done = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True)
        rows[name] = json.loads(done.stdout)
    if chosen.json:
        print(json.dumps({"categories": categories, "calls": calls, "load": os.getloadavg()[0], "figures": rows}))
        return
    print(f"{categories} categories, {calls} calls, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    heads = ("predict us: median", "mean", "9th tenth", "observe us: median", "mean", "9th tenth", "MB")
    print(f"{'':34}" + "".join(f"{head:>20}" for head in heads))
    for name, row in rows.items():
        print(f"{name:34}" + "".join(f"{value:20.1f}" for value in row.values()))


if __name__ == "__main__":
    main()
