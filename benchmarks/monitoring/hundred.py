"""Claim: of a hundred functions with limits all that exceed one are reported, ended within 100 ms, and none survives.

Spikes, ramps, heaps, threads, trees of children, daemons after two forks, mapped and written files, sleeps, busy loops
and many processes run as isolated calls. Each notes when it is about to cross its limit; from then until the call has
come back, with all of its processes gone, is the time above. A survivor would still have the mark that this program
bears in its environment, which a forked process keeps and a started one inherits.

    python benchmarks/monitoring/hundred.py [--functions 100] [--quick]
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import sys
from pathlib import Path

from functions import Verdict, cases, judge

MARK = "ENVPACK_BENCHMARK_MARK"
BAR_S = 0.1


def survivors() -> list[int]:
    """Return the other processes that bear this program's mark."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def report(verdicts: list[Verdict], left: list[int]) -> bool:
    print(f"{'':20} {'calls':>6} {'reported':>9} {'ended':>6} {'above, median':>14} {'most':>8}")
    for name in dict.fromkeys(verdict.case.name for verdict in verdicts):
        of_kind = [verdict for verdict in verdicts if verdict.case.name == name]
        above = [verdict.above_s * 1e3 for verdict in of_kind if verdict.above_s is not None]
        times = f"{statistics.median(above):11.0f} ms {max(above):5.0f} ms" if above else ""
        reported = sum(verdict.is_reported for verdict in of_kind)
        ended = sum(verdict.was_ended for verdict in of_kind if verdict.case.exceeds and not verdict.case.is_short)
        print(f"{name:20} {len(of_kind):6} {reported:9} {ended:6} {times}")
    must_end = [verdict for verdict in verdicts if verdict.case.exceeds and not verdict.case.is_short]
    above = [verdict.above_s for verdict in must_end if verdict.above_s is not None]
    reported = sum(verdict.is_reported for verdict in verdicts)
    ended = sum(verdict.was_ended for verdict in must_end)
    print(f"\nreported {reported} of {len(verdicts)}, ended {ended} of {len(must_end)}, survivors: {len(left)}")
    print(f"above the limit: median {statistics.median(above) * 1e3:.0f} ms, most {max(above) * 1e3:.0f} ms")
    late = sum(above_s > BAR_S for above_s in above)
    print(f"above it for more than {BAR_S * 1e3:.0f} ms: {late}")
    return reported == len(verdicts) and ended == len(must_end) and not left


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--functions", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="one of each kind")
    options = parser.parse_args()
    if MARK not in os.environ:
        # It has to be there when a program begins: what is changed later no other process can see.
        environment = os.environ | {MARK: secrets.token_hex(8)}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    kinds = len(cases(1))
    wanted = kinds if options.quick else options.functions
    verdicts = [judge(case) for case in cases(-(-wanted // kinds))[:wanted]]
    is_kept = report(verdicts, survivors())
    print("kept" if is_kept else "not kept")
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
