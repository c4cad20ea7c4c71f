"""What a history tells besides usages: sums of a category, and what was learned from its calls. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CategorySummary:
    """What the history holds about one category.

    Args:
        category: its name.
        calls: how many calls.
        rows: how many rows; fewer than calls where the history holds aggregates of many.
        wall_s: seconds of all calls together.
        cpu_s: processor seconds of all calls together.
        peak_memory_bytes: the largest peak; `None` if none was measured.
        last_at: when the last call began, seconds since the epoch.
    """

    category: str
    calls: int
    rows: int
    wall_s: float
    cpu_s: float
    peak_memory_bytes: int | None
    last_at: float

    def to_dict(self) -> dict[str, Any]:
        """Return an object that JSON can hold."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class SavedState:
    """Something that was learned from the history, kept beside it.

    Args:
        version: of the form of the data; whoever saved it says what it means.
        data: what was saved.
        seen_id: the newest call that it knows; `History.since` tells the later ones.
    """

    version: int
    data: bytes
    seen_id: int
