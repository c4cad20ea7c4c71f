"""Claim: on peaks drawn from one shape, the default policy reaches 0.97 of the best ladder chosen in hindsight.

Nobody can predict a draw. What can be reached at best is computed: of all ladders of allocations that stay the same
for all calls, the cheapest over the very peaks that came (`envpack_monitor.predict.ladder`). Each figure is AWE over
that of this ladder, from a cold start, and the mean over the seeds; a failed attempt lasts its whole run. Phases, shown
below, are not of one shape: there a policy that forgets can pass the ladder.

    python benchmarks/prediction/synthetic.py [--policy NAME]... [--calls N] [--seeds N] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

from shapes import PHASES, SHAPES, draw

from envpack_monitor import Allocation, Usage
from envpack_monitor.predict import POLICIES, make_policy, replay
from envpack_monitor.predict.ladder import best_ladder

NODE = Allocation(memory_bytes=128 * 10**9)
BAR = 0.97
PEERS = ("default", "greedy-bucketing-deterministic", "exhaustive-bucketing", "min-waste")


def in_hindsight(calls: list[Usage]) -> float:
    """Return the AWE of the best ladder that stays the same."""
    peaks = sorted(float(call.peak_memory_bytes or 0) for call in calls)
    return sum(peaks) / best_ladder(peaks, [1.0] * len(peaks))[1]


def scores(name: str, shape: str, calls: int, seeds: int) -> list[float]:
    """Return AWE over that of the best ladder, for each seed."""
    found = []
    for seed in range(seeds):
        drawn = draw(shape, calls, seed)
        found.append(replay(make_policy(name, NODE), drawn).awe / in_hindsight(drawn))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", action="append", metavar="NAME", help=f"repeatable, of {', '.join(POLICIES)}")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="the default policy, 300 calls, one seed")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args()
    names = chosen.policy or (["default"] if chosen.quick else list(PEERS))
    calls, seeds = (300, 1) if chosen.quick else (chosen.calls, chosen.seeds)
    rows = {}
    for shape in (*SHAPES, *PHASES):
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{shape}")
        rows[shape] = {name: scores(name, shape, calls, seeds) for name in names}
    if chosen.json:
        print(json.dumps({"calls": calls, "scores": rows}))
        return
    print(f"AWE over that of the best ladder in hindsight, {calls} calls, mean of {seeds} seeds (worst)\n")
    print(f"{'':28}" + "".join(f"{name:>34}" for name in names))
    for shape, row in rows.items():
        cells = (f"{statistics.mean(row[name]):.3f} ({min(row[name]):.3f})" for name in names)
        print(f"{shape:28}" + "".join(f"{cell:>34}" for cell in cells))
    for name in names:
        worst = min(statistics.mean(rows[shape][name]) for shape in SHAPES)
        mean = statistics.mean(statistics.mean(rows[shape][name]) for shape in SHAPES)
        print(f"{name}: mean {mean:.3f}, worst shape {worst:.3f} (bar {BAR}); phases apart")


if __name__ == "__main__":
    main()
