"""What is measured around a call of this process besides the bracket: threads, processes, folder, GPU, shared memory.

These cost from some microseconds (threads) to milliseconds (a folder of many files). So they are measured for blocks,
and for calls of which somebody wants to know each (`callback`, `return_usage`, `limits`, `folder`, `shared_out`).

How many threads there were at most is not kept by the kernel. But it numbers threads and processes alike, in one
sequence: where the last number that it gave is the same before and after, none has begun, and the count is exact.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from envpack_monitor.calls import gpu
from envpack_monitor.calls.bracket import Figures
from envpack_monitor.calls.counters import note_own_read, open_high
from envpack_monitor.trees import tree
from envpack_monitor.trees.folders import FolderSize


class Extras:
    """Measures from now until `add_to`.

    Args:
        folder: whose growth is measured.
        shared_out: measure the memory with shared pages shared out (milliseconds per gigabyte).
    """

    __slots__ = ("_disk", "_gpu", "_last_number", "_shared_out", "_threads")

    def __init__(self, folder: str | os.PathLike[str] | None = None, shared_out: bool = False) -> None:
        self._disk = None if folder is None else FolderSize(Path(folder))
        self._gpu = gpu.begin()
        self._shared_out = _shared_out_now() if shared_out else None
        self._threads = _threads_now()
        self._last_number = _last_number()

    def add_to(self, figures: Figures) -> Figures:
        """Add what was found to the figures of a bracket, with its quality, and return them."""
        none_began = self._last_number is not None and _last_number() == self._last_number
        default, *exceptions = str(figures["quality"]).split("; ")
        # A process whose memory is missing in the peak is one that was waited for.
        had_children = "peak_memory_bytes: lower bound" in exceptions
        found: list[tuple[str, int, str]] = []
        threads, counted = _threads_now(), "exact" if none_began else "lower bound"
        if threads is not None and self._threads is not None:
            found.append(("threads_max", max(self._threads, threads), counted))
            found.append(("processes_total", 1 + had_children, counted))
        if self._shared_out is not None:
            found.append(("shared_out_bytes", max(self._shared_out, _shared_out_now()), "lower bound"))
        if self._disk is not None:
            found.append(("disk_bytes", self._disk.growth(look=True), "lower bound"))
        if self._gpu is not None and (gpu_memory := self._gpu.end()) is not None:
            found.append(("gpu_memory_bytes", *gpu_memory))
        for name, value, quality in found:
            figures[name] = value
            if quality != default:
                exceptions.append(f"{name}: {quality}")
        figures["quality"] = "; ".join([default, *exceptions])
        return figures


def _shared_out_now() -> int:
    return tree.shared_out_bytes([os.getpid()]) or 0


def _threads_now() -> int | None:
    """Return how many threads this process has: each is a folder, and each folder a link of the one around it."""
    try:
        return os.stat("/proc/self/task").st_nlink - 2
    except OSError:
        return None


@functools.cache
def _loadavg() -> int:
    """Return a descriptor that is good for forked children, too: what it tells is the same for all."""
    return open_high("/proc/loadavg", os.O_RDONLY)


def _last_number() -> bytes | None:
    """Return the number that the kernel gave to the last thread or process of this machine or container."""
    try:
        text = os.pread(_loadavg(), 128, 0)
    except OSError:
        return None
    note_own_read(len(text))
    words = text.split()
    # Somebody may have closed the descriptor and opened something else.
    return words[4] if len(words) == 5 and b"/" in words[3] else None
