"""Content-named layers, the manifest of an environment, and the store that unpacks each layer once.

- `manifest`, `entries`, `tarformat`: what an environment, a layer and an archive are, as pure values.
- `writer`, `reader`: one layer file, written and read.
- `bytecode`, `scripts`, `distributions`, `conda`, `trees`: what goes into a layer; `index`: which one it gave before.
- `placeholders`: the path of an environment in files of conda packages, taken out and put in.
- `locks`, `layers`, `environment`, `packfile`, `store`: the store, safe for many processes and for sudden death.
- `uses`, `processes`, `plan`, `collection`: who uses what, and taking out what nobody uses.
- `sharing`, `syncing`: stores of several users, and power failures.
- `elf`, `libraries`: whether the shared libraries that machine code asks for are there.
- `packing`: the function `pack`.
- `unpacking`: a pack into a folder of its own.

A node that only unpacks and runs needs the store; what builds layers is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from envpack.pack.manifest import LayerRef, Manifest
from envpack.pack.store import Store, StoreContent, StoredLayer

if TYPE_CHECKING:
    from envpack.pack.collection import Collection
    from envpack.pack.libraries import MissingLibrary
    from envpack.pack.packing import LayerEvent, pack
    from envpack.pack.unpacking import unpack

__all__ = [
    "pack",
    "unpack",
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
    "Collection": "collection",
    "LayerEvent": "packing",
    "MissingLibrary": "libraries",
    "pack": "packing",
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
