"""Small tools of the monitor's tests."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from pathlib import Path

MB = 1_000_000


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = 20.0) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(0.005)


def touch(size: int) -> mmap.mmap:
    """Make `size` bytes resident, past the allocator, which would keep freed memory for the next one."""
    memory = mmap.mmap(-1, size)
    for offset in range(0, size, 4096):
        memory[offset] = 1
    return memory


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
