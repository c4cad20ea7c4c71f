"""Where a monitored call's figures go: the history of the settings, written by one background thread per process."""

from __future__ import annotations

import os
import threading

from envpack_monitor.history.writer import HistoryWriter
from envpack_monitor.settings import history_path

_chosen: list[HistoryWriter | None] = []
_lock = threading.Lock()


def default_writer() -> HistoryWriter | None:
    """Return this process's writer, or `None` if the settings keep no history. They are read once per process."""
    if not _chosen:
        with _lock:
            # Of threads that make their first calls at once, one makes the writer.
            if not _chosen:
                _chosen.append(_make_writer())
    return _chosen[0]


def flush_default() -> None:
    """Return when every call that was recorded before is in the history.

    Raises:
        HistoryError: something could not be written.
    """
    if _chosen and (writer := _chosen[0]) is not None:
        writer.flush()


def close_default() -> None:
    """Flush and close the writer; the next recorded call reads the settings again.

    Raises:
        HistoryError: something could not be written.
    """
    while _chosen:
        if (writer := _chosen.pop()) is not None:
            writer.close()


def _make_writer() -> HistoryWriter | None:
    from envpack_monitor.history.history import History

    path = history_path()
    return None if path is None else HistoryWriter(History(path))


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


# A thread that does not exist in a forked child may have held it.
os.register_at_fork(after_in_child=_renew_lock)
