"""How much memory a context process has, with everything that it has started: resident pages, read from `/proc`.

Looked at many times a second, so it reads two small files per process. Pages that processes share are counted in each:
rather too much than too little.
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
