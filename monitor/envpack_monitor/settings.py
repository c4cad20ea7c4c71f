"""Every environment variable that `envpack_monitor` reads, in one place.

| variable | meaning | default |
|---|---|---|
| `ENVPACK_HISTORY` | SQLite file of the history; an empty value keeps no history | `$XDG_STATE_HOME/envpack/history.sqlite`, else `~/.local/state/envpack/history.sqlite` |
"""  # noqa: E501 - a row of a table is one line

from __future__ import annotations

import os
from pathlib import Path


def history_path() -> Path | None:
    """Return the file of the default history, or `None` if none shall be kept; the file may not exist yet."""
    explicit = os.environ.get("ENVPACK_HISTORY")
    if explicit is not None:
        return Path(explicit).expanduser().absolute() if explicit else None
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser().absolute() / "envpack" / "history.sqlite"
