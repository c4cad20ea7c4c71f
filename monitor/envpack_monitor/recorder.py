"""Where a monitored call's figures go: the history of the settings, written by one background thread per process."""

from __future__ import annotations

import functools

from envpack_monitor.settings import history_path
from envpack_monitor.writer import HistoryWriter


@functools.cache
def default_writer() -> HistoryWriter | None:
    """Return this process's writer, or `None` if the settings keep no history. They are read once per process."""
    from envpack_monitor.history import History

    path = history_path()
    return None if path is None else HistoryWriter(History(path))


def flush_default() -> None:
    """Return when every call that was recorded before is in the history.

    Raises:
        HistoryError: something could not be written.
    """
    if default_writer.cache_info().currsize and (writer := default_writer()) is not None:
        writer.flush()
