"""Which file system holds a file, and whether other machines may hold it too. Pure but for one read of /proc.

SQLite's write-ahead log needs memory that all processes share, so all of them must be on one machine. On a file system
of many machines the history is kept with a rollback journal instead, which needs nothing but locks.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_SHARED = re.compile(
    r"nfs\d*|lustre|gpfs|ceph|beegfs|cifs|smb\d*|afs|9p|orangefs|pvfs2|panfs|wekafs|ocfs2|gfs2|virtiofs|fuse.*"
)
_ESCAPE = re.compile(rb"\\([0-7]{3})")


def is_shared(path: Path) -> bool:
    """Tell whether several machines may hold the file system of a file; also where nobody knows what it is (FUSE)."""
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return False
    return _SHARED.fullmatch(file_system_of(path, mounts)) is not None


def file_system_of(path: Path, mounts: bytes) -> str:
    """Return the name of the file system that a path belongs to, or an empty text.

    Args:
        path: an absolute path; it need not exist.
        mounts: what `/proc/self/mountinfo` says.
    """
    wanted = os.fsencode(os.path.realpath(path))
    best, found = b"", b""
    for line in mounts.splitlines():
        before, _, after = line.partition(b" - ")
        words = before.split(b" ")
        if len(words) < 5 or not after:
            continue
        point = _ESCAPE.sub(lambda octal: bytes([int(octal[1], 8)]), words[4])
        inside = wanted == point or wanted.startswith(point.rstrip(b"/") + b"/")
        # Of two mounts at one place the later one is seen.
        if inside and len(point) >= len(best):
            best, found = point, after.split(b" ")[0]
    return found.decode()
