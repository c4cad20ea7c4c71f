"""One more name for a file, or the next best: its blocks shared by the file system, or its bytes copied."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from errno import EMLINK, ENOTSUP, EPERM, EXDEV

# Another file system, too many links, links forbidden (as for other users' files), links unknown.
_CANNOT_LINK = (EXDEV, EMLINK, EPERM, ENOTSUP)
# _IOW(0x94, 9, int) of linux/fs.h: Btrfs, XFS, bcachefs, OCFS2, NFS 4.2 and others give both files the same blocks.
_FICLONE = 0x40049409


def link(source: str, target: str) -> None:
    """Make a file that has the content, mode and times of another one, at the least cost that the file system allows.

    Args:
        source: the file.
        target: the path of the new one, which must be free.

    Raises:
        OSError: it can be made in no way.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        _copy(source, target)


def _copy(source: str, target: str) -> None:
    with open(source, "rb") as original, open(target, "xb") as copy:
        if not _shares_blocks(original.fileno(), copy.fileno()):
            shutil.copyfileobj(original, copy, 1 << 20)
    shutil.copystat(source, target)


def _shares_blocks(original: int, copy: int) -> bool:
    with suppress(OSError):  # most file systems cannot
        fcntl.ioctl(copy, _FICLONE, original)
        return True
    return False
