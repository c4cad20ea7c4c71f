"""Which distributions and local files a function or a script needs, and why.

Map of the package, in the order in which an analysis passes through it:

- `target`, `live`, `inline`: what is asked about, located in its source, and what it declares about itself.
- `interpreter`, `distributions`, `editable`, `finder`: the asked environment, and where a module is in it.
- `source`, `notebook`, `guards`, `constants`, `scopes`, `codefile`, `searchpath`, `program`: the files of the
  program, as scopes and names.
- `reach`, `dynamic`: from a piece of code, along names, to imports.
- `triggers`, `trigger_table`, `hidden`: what libraries import because of how that code uses them.
- `closure`, `merge`, `dependencies`: from imports to distributions with role and evidence.
- `analysis`: `analyze`, which does all of it; `export`: the answer in formats of other tools.
"""

from __future__ import annotations

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
