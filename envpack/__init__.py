"""Discover what a Python function needs, and pack it so that it runs where nothing is installed.

Map of the package:

- `envpack.discover`: which distributions and local files a function or script needs, and why.
- `envpack.pack`: content-named layers, the manifest of an environment, the store that unpacks each layer once.
- `envpack.commands`: the command `envpack`; the only room that prints.
- `envpack.errors`: every error that a caller may want to tell apart.
- `envpack.settings`: every environment variable that is read.

The public names are loaded when they are first used, so that `import envpack` and `envpack --help` stay cheap.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envpack.discover import Dependencies, analyze
    from envpack.errors import EnvpackError
    from envpack.pack import Manifest, Store, pack

__all__ = ["analyze", "pack", "Dependencies", "Manifest", "Store", "EnvpackError"]

_HOMES = {
    "analyze": "envpack.discover",
    "Dependencies": "envpack.discover",
    "pack": "envpack.pack",
    "Manifest": "envpack.pack",
    "Store": "envpack.pack",
    "EnvpackError": "envpack.errors",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
