"""Every environment variable that `envpack_monitor` reads, in one place.

| variable | meaning | default |
|---|---|---|
| `ENVPACK_HISTORY` | SQLite file of the history; an empty value keeps no history | `$XDG_STATE_HOME/envpack/history.sqlite`, else `~/.local/state/envpack/history.sqlite` |
| `ENVPACK_HISTORY_ROWS` | so many rows a second may one process write for long; above, calls become a sample and exact aggregates; `0` for one row per call always | 1000 |
"""  # noqa: E501 - a row of a table is one line

from __future__ import annotations

import os
from pathlib import Path

from envpack_monitor.errors import FormatError

ROWS_PER_S = 1000.0


def history_path() -> Path | None:
    """Return the file of the default history, or `None` if none shall be kept; the file may not exist yet."""
    explicit = os.environ.get("ENVPACK_HISTORY")
    if explicit is not None:
        return Path(explicit).expanduser().absolute() if explicit else None
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser().absolute() / "envpack" / "history.sqlite"


def history_rows_per_s() -> float:
    """Return above how many rows a second a process writes aggregates; 0 for never.

    Raises:
        FormatError: the variable is not a number.
    """
    text = os.environ.get("ENVPACK_HISTORY_ROWS") or str(ROWS_PER_S)
    try:
        if (value := float(text)) >= 0:
            return value
    except ValueError:
        pass
    raise FormatError(f"ENVPACK_HISTORY_ROWS: a number of rows a second expected, {text!r} met", "0 for no bound")
