"""Which names a star import brings, as far as the imported module can be read."""

from __future__ import annotations

import builtins
import sys

from envpack.discover.code.program import Program
from envpack.errors import EnvpackError

BUILTINS = frozenset(dir(builtins))
_MAX_DEPTH = 8


def provides(program: Program, module: str, name: str, depth: int = 0) -> bool | None:
    """Whether a star import of a module gives a name; `None` if that cannot be read."""
    location = program.finder.find(module)
    if location.kind in ("stdlib", "missing", "namespace"):
        return _standard_has(module, name) if location.kind == "stdlib" else False
    if not location.file.endswith(".py") or depth > _MAX_DEPTH:
        return None
    try:
        file = program.module(location)
    except EnvpackError:
        return None
    root = file.scopes.root
    if name in root.bindings:
        return True
    inner = [provides(program, file.absolute(star), name, depth + 1) for star in root.stars]
    if True in inner:
        return True
    return None if None in inner or "__getattr__" in root.bindings or "__all__" not in root.bindings else False


def _standard_has(module: str, name: str) -> bool:
    # Only modules that this process has loaded anyway are looked at; others are taken to hold any name but built-ins.
    loaded = sys.modules.get(module)
    return hasattr(loaded, name) if loaded is not None else name not in BUILTINS
