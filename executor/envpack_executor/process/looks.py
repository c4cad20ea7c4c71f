"""What the child of a context process uses while it runs, with all its descendants: read from `/proc`. Standard library
only.

Not to be confused with `envpack_monitor.trees`, which measures for its own sake: here somebody waits for the answer.
"""

from __future__ import annotations

import os

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def look(pid: int) -> dict[str, float]:
    """Return what a process and its descendants use now, by the names of the fields of `Limits`.

    The memory of one process is what is resident. That of several is shared out (PSS), so that pages which they share
    count once.
    """
    pids = [pid]
    for each in pids:  # grows while it is read
        pids += _children(each)
    memory_bytes, cpu_s, processes = 0.0, 0.0, 0
    for each in pids:
        # The name, in brackets, may hold anything; what follows the last bracket are single words.
        words = _read(f"/proc/{each}/stat").rpartition(b")")[2].split()
        if words and words[0] not in (b"Z", b"X"):
            processes += 1
            cpu_s += sum(map(int, words[11:15])) / _TICKS_PER_S
            memory_bytes += int(words[21]) * _PAGE_BYTES
    if processes > 1:
        memory_bytes = _shared_out_bytes(pids) or memory_bytes
    return {"memory_bytes": memory_bytes, "cpu_s": cpu_s, "processes": processes}


def _shared_out_bytes(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        text = _read(f"/proc/{pid}/smaps_rollup")
        at = text.find(b"\nPss:")
        if at >= 0:
            total += int(text[at + 5 : text.index(b"kB", at)]) * 1024
    return total


def _children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [int(child) for thread in threads for child in _read(f"/proc/{pid}/task/{thread}/children").split()]


def _read(path: str) -> bytes:
    """Return the content of a file of `/proc`; nothing when its process has gone."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
