"""The words that an answer uses for its kinds of things.

Apart, because only checking a saved answer, and type checkers, read them: `typing` would cost every analysis a tenth.
"""

from __future__ import annotations

from typing import Literal

Role = Literal["direct", "hidden", "optional", "transitive"]
Source = Literal["wheel", "conda", "editable", "local", "system"]
EvidenceKind = Literal["static", "conditional", "optional", "dynamic", "runtime", "included", "hidden", "declared"]
UnresolvedKind = Literal[
    "missing", "conditional", "dynamic", "source", "requirement", "run", "uncalled", "verification"
]
