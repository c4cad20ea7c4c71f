"""Every environment variable that `envpack` reads, in one place.

| variable | meaning | default |
|---|---|---|
| `ENVPACK_STORE` | folder of the store | `$XDG_CACHE_HOME/envpack`, else `~/.cache/envpack` |
| `PIP_INDEX_URL` | index that is asked for addresses and hashes of a lock file | none: `--format pylock` needs it |
"""

from __future__ import annotations

import os
from pathlib import Path


def index_url() -> str | None:
    """Return the address of the package index; None if the user named none."""
    return os.environ.get("PIP_INDEX_URL") or None


def store_folder() -> Path:
    """Return the folder of the default store; it may not exist yet."""
    if explicit := os.environ.get("ENVPACK_STORE"):
        return Path(explicit).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "envpack"
