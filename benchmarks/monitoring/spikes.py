"""Claim: the peak of a short spike of memory is measured within 1 MB, also in calls that are repeated.

Spikes of 200 MB for 20 ms and of 20 MB for 5 ms, as a mapped region, a bytearray and (where numpy is installed) an
array, in this process and isolated, five calls each. `absolute` is the error of the peak itself, against what was
resident in a fresh process before plus the spike; `difference` that of the peak above what was resident before the
call. Where the C library keeps freed memory for the next call, the difference is 0 from the second call on, and the
absolute peak is right all the same; `returning` is after `return_freed_memory()`.

    python benchmarks/monitoring/spikes.py [--quick]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import mmap
import subprocess
import sys
import time
from collections.abc import Callable

MB = 1_000_000
SPIKES = ((200 * MB, 0.020), (20 * MB, 0.005))
CALLS = 5


def mapped(size: int, hold_s: float) -> None:
    memory = mmap.mmap(-1, size)
    for offset in range(0, size, 4096):
        memory[offset] = 1
    time.sleep(hold_s)
    memory.close()


def byte_array(size: int, hold_s: float) -> None:
    memory = bytearray(b"\1") * size
    time.sleep(hold_s)
    del memory


def numpy_array(size: int, hold_s: float) -> None:
    import numpy as np

    memory = np.ones(size, dtype=np.uint8)
    time.sleep(hold_s)
    del memory


KINDS: dict[str, Callable[[int, float], None]] = {"mmap": mapped, "bytearray": byte_array, "numpy": numpy_array}


def one(kind: str, size: int, hold_s: float, how: str) -> list[tuple[float, float]]:
    """Return the errors of each call in MB, absolute and of the difference; for a process of its own."""
    from envpack_monitor import monitor
    from envpack_monitor.calls.allocator import return_freed_memory

    if how == "returning":
        return_freed_memory()
    call = monitor("spike", history=False, return_usage=True, isolate="fork" if how == "isolated" else False)
    spike = call(KINDS[kind])
    if kind == "numpy":
        import numpy as np

        np.ones(1)
    # What is loaded by the first call is no part of the spike.
    spike(1, 0.0)
    errors, resident = [], None
    for _ in range(CALLS):
        _, usage = spike(size, hold_s)
        resident = usage.memory_before_bytes if resident is None else resident
        absolute = usage.peak_memory_bytes - resident - size
        errors.append((absolute / MB, (usage.memory_difference_bytes - size) / MB))
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the same; it takes seconds")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kind, size, hold_s, how = options.one
        print(json.dumps(one(kind, int(size), float(hold_s), how)))
        return
    print(f"{'spike':22} {'':10} {'absolute error, MB':>24} {'error of the difference, MB':>50}")
    print(f"{'':22} {'':10} {'largest of 5':>24} {'call by call':>50}")
    for kind in KINDS:
        if kind == "numpy" and importlib.util.find_spec("numpy") is None:
            print("numpy is not installed: left out")
            continue
        for size, hold_s in SPIKES:
            for how in ("plain", "returning", "isolated"):
                command = [sys.executable, __file__, "--one", kind, str(size), str(hold_s), how]
                found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                name = f"{kind} {size // MB} MB {hold_s * 1e3:.0f} ms"
                largest = max((absolute for absolute, _ in found), key=abs)
                differences = "  ".join(f"{difference:+.2f}" for _, difference in found)
                print(f"{name:22} {how:10} {largest:+24.2f} {differences:>50}")


if __name__ == "__main__":
    main()
