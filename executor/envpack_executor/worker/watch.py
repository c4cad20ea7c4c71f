"""How much memory a context process has, with everything that it has started, read from `/proc`. Two questions:

| | asked | counts |
|---|---|---|
| `tree_bytes` | many times a second | resident pages; those that processes share in each: rather too much |
| `tree_kept_bytes` | now and then | proportional set size: a page that four processes share as a quarter in each |
"""

from __future__ import annotations

import os

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def tree_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants in bytes; 0 when it is gone.

    Descendants of its other threads count, too. One that ends meanwhile is left out.
    """
    own = _resident_bytes(pid)
    return own + sum(tree_bytes(child) for child in _children(pid)) if own else 0


def tree_kept_bytes(pid: int) -> int:
    """Return the proportional set size of a process and its descendants in bytes; 0 when it is gone.

    It can be added up: what context processes have in common is counted once.
    """
    own = _proportional_bytes(pid)
    return own + sum(tree_kept_bytes(child) for child in _children(pid)) if own else 0


def _proportional_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass  # no such file in this kernel, or not for us
    return _resident_bytes(pid)


def _resident_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    children = []
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                children += [int(word) for word in file.read().split()]
        except OSError:
            continue
    return children
