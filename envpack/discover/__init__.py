"""Which distributions and local files a function or a script needs, and why.

Map of the package, in the order in which an analysis passes through it:

- `expansion`, `target`, `packages`, `live`, `inline`: what is asked about, located in its source, and what it declares
  about itself; `loading`, `loaded`: what a script binds when it is imported, in a process of its own.
- `livewalk`, `held`, `bytecode`: what a live function takes along.
- `interpreter`, `distributions`, `editable`, `finder`: the asked environment, and where a module is in it.
- `source`, `notebook`, `nodes`, `guards`, `constants`, `scopes`, `codefile`, `searchpath`, `program`: the files of the
  program, as scopes and names.
- `purecalls`, `members`, `registers`, `substitutes`: what folding may call, constants of other modules and classes,
  tables that decorators fill, imports that leave `None` where they fail.
- `findings`, `loadfindings`, `reach`, `stars`, `lazy`: from a piece of code, along names, to imports.
- `callers`, `dynamic`, `loads`, `installed`, `executed`, `opened`, `configured`, `pickled`, `picklefile`: what calls
  load by name, path or command.
- `triggers`, `trigger_table`, `hidden`, `hints`: what libraries import because of how that code uses them.
- `parts`, `closure`, `sizes`, `references`, `merge`, `combine`, `dependencies`: from imports to distributions with
  role, evidence, size and origin; from several targets to one answer.
- `tracing`: what a run of the target shows, and whether the answer suffices.
- `analysis`: `analyze`, which does all of it; `changes`, `export`, `lock`, `package_index`: what differs, and the
  answer in formats of other tools.

The public names are loaded when they are first used: packing needs the facts of an interpreter, not the analyser.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envpack.discover.analysis import analyze
    from envpack.discover.dependencies import Dependencies, Distribution, Evidence, FunctionDependencies, Unresolved
    from envpack.discover.interpreter import Interpreter, inspect_interpreter

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
    **dict.fromkeys(__all__[6:], "interpreter"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
