"""Claim: all calls submitted at once are packed onto one node in at most 1.25 times the time of an oracle.

The oracle knows every peak and takes the best of several orders, one of them by the true times. Each policy decides
about memory; who goes first and who may grow is the same for all (`envpack_monitor.predict.placement`). Shown are the
makespan over the oracle's when failed attempts cross their allocation as real calls do and may go on where memory is
free (`curve`), when they are killed then (`curve, no growth`), and when they last their whole run (`end`, no growth).

    python benchmarks/prediction/packing.py TRACE.csv|FOLDER... [--cores 32] [--memory 128GB] [--policy NAME]...

Without a trace, the one among the tests is taken.
"""

from __future__ import annotations

import argparse
import json
import sys

from replay import traces_of

from envpack_monitor import Allocation
from envpack_monitor.predict import POLICIES, killed_at_end, killed_on_crossing, make_policy
from envpack_monitor.predict.packing import lower_bound, oracle, pack
from envpack_monitor.units import parse_bytes

WAYS = {
    "curve": (killed_on_crossing, "dispatch", True),
    "curve, asked at submission": (killed_on_crossing, "submit", True),
    "curve, no growth": (killed_on_crossing, "dispatch", False),
    "end": (killed_at_end, "dispatch", False),
}
PEERS = ("default", "low-wastage", "greedy-bucketing", "max-seen", "presets")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("traces", nargs="*", metavar="TRACE.csv|FOLDER")
    parser.add_argument("--cores", type=float, default=32)
    parser.add_argument("--memory", default="128GB")
    parser.add_argument("--policy", action="append", metavar="NAME", help=f"repeatable, of {', '.join(POLICIES)}")
    parser.add_argument("--quick", action="store_true", help="the default policy")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args()
    names = chosen.policy or (["default"] if chosen.quick else list(PEERS))
    output = []
    for trace in traces_of(chosen.traces):
        node = Allocation(memory_bytes=max(parse_bytes(chosen.memory), trace.largest_peak_bytes), cores=chosen.cores)
        best_s = oracle(trace.calls, node)
        rows = {}
        for name in names:
            if sys.stderr.isatty():
                sys.stderr.write(f"\r\033[K{trace.name}: {name}")
            rows[name] = {
                way: pack(trace.calls, make_policy(name, node, kill), node, kill, ask, grow=grow).makespan_s / best_s
                for way, (kill, ask, grow) in WAYS.items()
            }
        output.append({"trace": trace.name, "oracle_s": best_s, "over_oracle": rows})
        if not chosen.json:
            bound = lower_bound(trace.calls, node) / best_s
            print(f"\n{trace.name}: {len(trace.calls)} calls, oracle {best_s:.0f} s, bound {bound:.3f} of it\n")
            print(f"{'':34}" + "".join(f"{way:>28}" for way in WAYS))
            for name, row in rows.items():
                print(f"{name:34}" + "".join(f"{row[way]:28.3f}" for way in WAYS))
    if chosen.json:
        print(json.dumps(output))


if __name__ == "__main__":
    main()
