"""The journal of a history: which kind a file system allows, and whether a write-ahead log lost what it held."""

from __future__ import annotations

import logging
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envpack_monitor.history.filesystems import is_shared

if TYPE_CHECKING:
    import sqlite3

BUSY_TIMEOUT_S = 60.0

_log = logging.getLogger(__name__)
_WAL_HEADER, _FRAME_HEADER = 32, 24


class Journal:
    """What the write-ahead log held before it was opened: SQLite drops without a word what follows damage in it."""

    def __init__(self, path: Path) -> None:
        self._path = Path(f"{path}-wal")
        self._salt, self._committed = self._read()

    def check(self, connection: sqlite3.Connection) -> None:
        """Say so, and keep a copy, when transactions that were committed are no longer taken for such."""
        if not self._committed or not self._lacks(connection):
            return
        number = 1
        while (copy := self._path.with_name(f"{self._path.name}.damaged-{number}")).exists():
            number += 1
        copy.write_bytes(self._path.read_bytes())
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _log.warning("the journal of the history was damaged: the newest calls are lost; a copy was kept: %s", copy)

    def _lacks(self, connection: sqlite3.Connection) -> bool:
        # A writer that has written a transaction and not yet announced it is done once the lock can be had.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
        _, valid, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        salt, _ = self._read()
        return salt == self._salt and 0 <= valid < self._committed

    def _read(self) -> tuple[bytes, int]:
        """Return the salt of the log, and the number of its last frame that ends a transaction."""
        try:
            with self._path.open("rb") as file:
                header = file.read(_WAL_HEADER)
                if len(header) < _WAL_HEADER:
                    return b"", 0
                salt, frame_size = header[16:24], _FRAME_HEADER + struct.unpack_from(">I", header, 8)[0]
                frames = (os.fstat(file.fileno()).st_size - _WAL_HEADER) // frame_size
                for number in range(frames, 0, -1):
                    frame = os.pread(file.fileno(), _FRAME_HEADER, _WAL_HEADER + (number - 1) * frame_size)
                    if frame[8:16] == salt and frame[4:8] != b"\0\0\0\0":
                        return salt, number
                return salt, 0
        except (FileNotFoundError, PermissionError):
            return b"", 0


def choose_journal(connection: sqlite3.Connection, path: Path) -> None:
    """Set the journal that all who may hold the file can use; as it was decided for a file that exists."""
    if is_shared(path):
        _retry_while_locked(lambda: connection.execute("PRAGMA journal_mode = DELETE"))
        return
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        # Takes effect only before the first table is made.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    # A file with a rollback journal stays so if somebody has decided it: another machine, which sees it by another
    # name of the same file system.
    elif connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        return
    _retry_while_locked(lambda: connection.execute("PRAGMA journal_mode = WAL"))
    # In WAL mode NORMAL loses nothing when a process dies; only a power cut may cost the last transactions.
    connection.execute("PRAGMA synchronous = NORMAL")


def _retry_while_locked(action: Callable[[], Any]) -> None:
    """Changing the journal mode does not wait for other processes by itself as other statements do."""
    import sqlite3

    deadline = time.monotonic() + BUSY_TIMEOUT_S
    pause_s = 0.001
    while True:
        try:
            action()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.05)
