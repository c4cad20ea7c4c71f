"""Content-named layers, the manifest of an environment, and the store that unpacks each layer once.

- `manifest`, `entries`, `tarformat`: what an environment, a layer and an archive are, as pure values.
- `writer`, `reader`: one layer file, written and read.
- `bytecode`, `scripts`, `distributions`, `trees`, `index`: what goes into a layer, and which layer that gave before.
- `locks`, `layers`, `environment`, `packfile`, `store`: the store, safe for many processes and for sudden death.
- `packing`: the function `pack`.
- `unpacking`: a pack into a folder of its own.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from envpack.pack.manifest import LayerRef, Manifest
from envpack.pack.packing import LayerEvent, pack
from envpack.pack.store import Store, StoreContent, StoredLayer
from envpack.pack.unpacking import unpack

__all__ = ["pack", "unpack", "Manifest", "LayerRef", "LayerEvent", "Store", "StoreContent", "StoredLayer"]


class _CallablePackage(ModuleType):
    """Makes `envpack.pack` the function as well as the package.

    Importing any module of this package binds the package to the name `pack` of `envpack`, where `from envpack import
    pack` is promised to give the function.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Manifest:
        return pack(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
