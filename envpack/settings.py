"""Every environment variable that `envpack` reads, in one place.

| variable | meaning | default |
|---|---|---|
| `ENVPACK_STORE` | folder of the store | `$XDG_CACHE_HOME/envpack`, else `~/.cache/envpack` |
| `ENVPACK_SYNC` | `0`: a store does not wait for the disk, and a power failure may damage layers | `1` |
| `ENVPACK_INDEX_CACHE` | folder of what is known of environments; empty: none | `envpack-index` beside the store's |
| `UV_*` | configuration of uv, which fetches what is packed for another machine | that of pip |
| `PIP_INDEX_URL`, `PIP_EXTRA_INDEX_URL`, `PIP_FIND_LINKS`, `PIP_NO_INDEX` | where uv is to look | pip's files |
| `PIP_CERT`, `PIP_TRUSTED_HOST`, `PIP_CONFIG_FILE` | how uv gets there, and which file says all of it | pip's files |
| `PIP_INDEX_URL` | index that is asked for addresses and hashes of a lock file | none: `--format pylock` needs it |
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path


def index_url() -> str | None:
    """Return the address of the package index; None if the user named none."""
    return os.environ.get("PIP_INDEX_URL") or None


def store_folder() -> Path:
    """Return the folder of the default store; it may not exist yet."""
    from pathlib import Path  # 5 ms that an analysis does without

    if explicit := os.environ.get("ENVPACK_STORE"):
        return Path(explicit).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "envpack"


def syncs() -> bool:
    """Tell whether what is made in a store is to be on the disk before it is seen there."""
    return os.environ.get("ENVPACK_SYNC", "1") != "0"


def index_cache_folder() -> str:
    """Return the folder of the cached facts about environments; it may not exist yet. Empty if there is to be none."""
    explicit = os.environ.get("ENVPACK_INDEX_CACHE")
    if explicit == "":
        return ""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return os.path.abspath(os.path.expanduser(explicit or os.path.join(cache, "envpack-index")))
