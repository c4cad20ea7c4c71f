"""Which distributions and local files a function or a script needs, and why.

Map of the package, in the order in which an analysis passes through it:

- `target`, `expansion`, `parts`: what is asked about, and to which code that leads.
- `environment`: the asked interpreter, its distributions, and where a module is in it.
- `code`: the files of the program as scopes, names and constants.
- `live`: functions as objects, and what their values say.
- `findings`, `reach`: from a piece of code, along names, to imports.
- `loads`: what calls load by name, path, command or metadata.
- `hidden`: what libraries import because of how that code uses them.
- `tracing`: what a run of the target shows, and whether the answer suffices.
- `merge`, `combine`, `dependencies`: from findings to distributions with role and evidence.
- `analysis`: `analyze`, which does all of it; `changes`, `formats`: what differs, and the answer for other tools.
- `children`: processes that run the user's code.

The public names are loaded when they are first used: packing needs the facts of an interpreter, not the analyser.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envpack.discover.analysis import analyze
    from envpack.discover.dependencies import Dependencies, Distribution, Evidence, FunctionDependencies, Unresolved
    from envpack.discover.environment.interpreter import Interpreter, inspect_interpreter

__all__ = [
    "analyze",
    "Dependencies",
    "FunctionDependencies",
    "Distribution",
    "Evidence",
    "Unresolved",
    "Interpreter",
    "inspect_interpreter",
]

_HOMES = {
    "analyze": "analysis",
    **dict.fromkeys(__all__[1:6], "dependencies"),
    **dict.fromkeys(__all__[6:], "environment.interpreter"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
