"""2,000 calls with a context and a pack, on whatever machines the profile names.

    python examples/machines/months.py
    ENVPACK_PROFILE=examples/machines/slurm.toml python examples/machines/months.py
    ENVPACK_PROFILE=examples/machines/dask.toml python examples/machines/months.py

It says nothing about machines. What it prints is the same wherever it runs, but for the last two lines.
"""

from __future__ import annotations

import argparse
import hashlib

from working_days import working_days

from envpack_executor import ContextExecutor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000, help="how many months are looked at (default: 2000)")
    options = parser.parse_args()
    with ContextExecutor() as executor:
        results = list(executor.map(working_days, range(options.calls)))
        executor.prepare(working_days, max(1, executor.stats().processes)).result()  # none is still in its set-up
        stats, nodes = executor.stats(), executor.nodes()
    days = [count for count, _, _ in results]
    print(f"{len(days)} calls, {sum(days)} working days")
    print(f"sha256 of the results: {hashlib.sha256(repr(days).encode()).hexdigest()}")
    print(f"{stats.set_ups} set-ups in {stats.processes} processes")
    print(f"nodes: {len(nodes)}, processes that counted: {len({(host, pid) for _, host, pid in results})}")


if __name__ == "__main__":
    main()
