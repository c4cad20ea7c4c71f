"""Claim: 100 MB as an argument, or as a result, take at most twice one copy through a pipe, and go to a node once.

The pipe: one process writes 100 MB, another reads them into new memory, touches every page, and says that it has them.
With an executor, a warm worker touches every page of an argument and returns a number, or returns bytes that the client
touches: once as NumPy arrays, once as `bytes`, whose pickle is one more copy. Each value is another one: nothing is
there before. `put, ten calls`: one value in ten calls, by `put` or the like of the executor, per call. What the node
holds then is counted in the memory files of the client.

    python benchmarks/executor/large_values.py [--rounds 5] [--megabytes 100] [--only envpack pipe] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import functions
import peers
import rounds

PIPE = "pipe, one copy"
ARRAY = ", array"
CALLS = 10
READER = """
import os, sys, functions
size = int(sys.argv[1])
while True:
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        count = os.readv(0, [view[filled:]])
        if not count: sys.exit()
        filled += count
    functions.touch(data)
    os.write(1, b".")
"""


def fresh(size: int, is_array: bool = False) -> Any:
    """Return a value that never was before, quickly."""
    if not is_array:
        return os.urandom(64) + bytes(size - 64)
    import numpy

    array = numpy.zeros(size, dtype=numpy.uint8)
    array[:64] = numpy.frombuffer(os.urandom(64), dtype=numpy.uint8)
    return array


def seconds(action: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    action()
    return time.perf_counter() - started_s


def through_pipe(size: int) -> rounds.Figures:
    """Return the seconds in which another process has the bytes."""
    command = [sys.executable, "-c", READER, str(size)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        target, answers = reader.stdin.fileno(), reader.stdout

        def copy(data: bytes) -> None:
            left = memoryview(data)
            while left:
                left = left[os.write(target, left) :]
            answers.read(1)

        copy(fresh(size))
        data = fresh(size)
        once_s = seconds(lambda: copy(data))
        reader.stdin.close()
    return {"argument_s": once_s, "result_s": once_s, "repeated_s": once_s, "held_mb": float("nan")}


def through_executor(name: str, size: int, is_array: bool) -> rounds.Figures:
    """Return the seconds in which a worker has an argument, and the client a result."""
    make = functions.make_array if is_array else functions.make
    with peers.PEERS[name].start() as executor:

        def call(function: Callable[..., Any], argument: Any) -> Any:
            return executor.results([executor.submit(function, argument)])[0]

        for _ in range(peers.WORKERS):
            call(functions.touch, fresh(size, is_array))
            functions.touch(call(make, size))
        data = fresh(size, is_array)
        argument_s = seconds(lambda: call(functions.touch, data))
        result_s = seconds(lambda: functions.touch(call(make, size)))
        data = fresh(size, is_array)
        before, started_s = held_bytes(), time.perf_counter()
        kept = executor.put(data)
        executor.results([executor.submit(functions.touch, kept) for _ in range(CALLS)])
        repeated_s = (time.perf_counter() - started_s) / CALLS
        held_mb = (held_bytes() - before) / 1e6 if name == peers.OURS else float("nan")
    return {"argument_s": argument_s, "result_s": result_s, "repeated_s": repeated_s, "held_mb": held_mb}


def held_bytes() -> int:
    """Return the size of all memory files that this process has open."""
    total = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("/memfd:"):
                total += os.stat(f"/proc/self/fd/{number}").st_size
        except OSError:
            continue  # the folder itself
    return total


def measure(name: str, chosen: argparse.Namespace) -> rounds.Figures:
    """Return the figures of the pipe, or of one executor with one kind of value."""
    size = (10 if chosen.quick else chosen.megabytes) * 1_000_000
    return through_pipe(size) if name == PIPE else through_executor(name.removesuffix(ARRAY), size, ARRAY in name)


def main() -> None:
    chosen = rounds.options(__doc__, rounds=5, megabytes=100)
    found = rounds.run(
        __file__, chosen, [PIPE, *(name + kind for name in peers.PEERS for kind in (ARRAY, ""))], measure
    )
    columns = [
        ("argument_s", "argument, s", ".3f"),
        ("result_s", "result, s", ".3f"),
        ("repeated_s", "put, ten calls, s/call", ".3f"),
        ("held_mb", "held on the node, MB", ".0f"),
    ]
    megabytes = 10 if chosen.quick else chosen.megabytes
    rounds.show(f"{megabytes} MB from process to process, two workers", found, columns, chosen, against=PIPE)


if __name__ == "__main__":
    main()
