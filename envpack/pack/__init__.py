"""Content-named layers, the manifest of an environment, and the store that unpacks each layer once.

- `manifest`: what an environment consists of, as a value.
- `layer`: one layer, its entry list and its file.
- `sources`: what goes into layers.
- `store`: the store, safe for many processes and for sudden death.
- `formats`: files that hold a whole environment.
- `packing`: the function `pack`; `building`: layers from their sources.
- `unpacking`: a pack into a folder of its own; `importing`: a file into a store.

A node that only unpacks and runs needs the store; what builds layers is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from envpack.pack.manifest import LayerRef, Manifest
from envpack.pack.store.store import Store, StoreContent, StoredLayer

if TYPE_CHECKING:
    from envpack.pack.building import LayerEvent
    from envpack.pack.importing import import_environment
    from envpack.pack.packing import pack
    from envpack.pack.sources.libraries import MissingLibrary
    from envpack.pack.store.collection import Collection
    from envpack.pack.unpacking import unpack

__all__ = [
    "pack",
    "unpack",
    "import_environment",
    "Manifest",
    "LayerRef",
    "LayerEvent",
    "MissingLibrary",
    "Store",
    "StoreContent",
    "StoredLayer",
    "Collection",
]

_HOMES = {
    "Collection": "store.collection",
    "LayerEvent": "building",
    "MissingLibrary": "sources.libraries",
    "pack": "packing",
    "import_environment": "importing",
    "unpack": "unpacking",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _CallablePackage(ModuleType):
    """Makes `envpack.pack` the function as well as the package.

    Importing any module of this package binds the package to the name `pack` of `envpack`, where `from envpack import
    pack` is promised to give the function.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Manifest:
        from envpack.pack.packing import pack

        return pack(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
