"""Making sure that content is on the disk before its name is, so that a power failure leaves no empty files.

One `syncfs` for a whole layer: 2,471 files of 172 MB take 0.3 s so, and 6.5 s with one `fsync` each.
"""

from __future__ import annotations

import os
from pathlib import Path

from envpack import settings


def settle(folder: Path) -> None:
    """Wait until all that was written to the file system of a folder is on the disk."""
    if not settings.syncs():
        return
    import ctypes  # only here: an environment that is there is found without it

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if not hasattr(library, "syncfs"):
            os.sync()
        elif library.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def settle_file(file: Path) -> None:
    """Wait until one file is on the disk."""
    if settings.syncs():
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
