"""How large a folder has become."""

from __future__ import annotations

import os
import time
from pathlib import Path

from envpack_monitor.errors import FormatError
from envpack_monitor.limits import Limits

_SHARE_OF_TIME = 0.1


class FolderSize:
    """The growth of a folder since this object was made, in bytes on disk.

    Args:
        folder: what to measure; files in it that cannot be read are left out.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._next_look = 0.0
        self._most = 0
        self._first = self._measure()

    @classmethod
    def needed_for(cls, limits: Limits | None, folder: str | os.PathLike[str] | None) -> FolderSize | None:
        """Return the size of the folder, if there is one.

        Raises:
            FormatError: there is none, and a disk limit needs it.
        """
        if folder is not None:
            return cls(Path(folder))
        if limits is not None and limits.disk_bytes is not None:
            raise FormatError("limits: disk needs a folder to measure", "folder=...")
        return None

    def growth(self, look: bool = False) -> int:
        """Return the largest growth seen so far.

        Args:
            look: look again in any case, otherwise so seldom that a tenth of the time goes into looking.
        """
        if look or time.monotonic() >= self._next_look:
            self._most = max(self._most, self._measure() - self._first)
        return self._most

    def _measure(self) -> int:
        start = time.monotonic()
        total = _size_of(str(self._folder))
        now = time.monotonic()
        self._next_look = now + (now - start) / _SHARE_OF_TIME
        return total


def _size_of(folder: str) -> int:
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        total += _size_of(entry.path)
                except FileNotFoundError:
                    # Deleted between being listed and being looked at.
                    continue
    except OSError:
        # Deleted, or not ours to read.
        return total
    return total
