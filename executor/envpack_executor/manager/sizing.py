"""What calls are promised, and what is learned from them: between the executor and a predictor. Pure.

Usages are kept until the predictor is asked about their category again: it may take a millisecond for each, and no
result should wait for that.

| what was measured | what is learned |
|---|---|
| a call alone | its usage, with its features |
| short calls together | one call of their mean time, with the largest peak of all and without features |
| a call that raised, or was ended | nothing: it may have needed more |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.protocol import Predictor
from envpack_monitor.usage import FIELDS, Usage

MOST_PENDING = 64
"""So many usages of a category wait to be learned; of more, those with the largest peaks are."""

_NO_FEATURES: Mapping[str, float] = {}
_KNOWN = frozenset(FIELDS) - {"category", "features", "calls"}


class Sizer:
    """Asks a predictor, and tells it what calls have used.

    Args:
        predictor: any; changed by what it is told.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._pending: dict[str, list[Usage]] = {}
        self._asked: set[str] = set()

    def ask(self, category: str, features: Mapping[str, float] | None) -> Allocation:
        """Return what the next call of a category should be promised."""
        if category in self._asked:
            self._learn(category)
        else:
            self._asked.add(category)
            self.learn_all()  # what the others use is all that can be known of a new one
        return self.predictor.predict(category, features or _NO_FEATURES)

    def retry(self, category: str, features: Mapping[str, float] | None, failed: Allocation) -> Allocation:
        """Return what a call should be promised that has used up `failed`."""
        self._learn(category)
        return self.predictor.retry(category, features or _NO_FEATURES, failed)

    def note(
        self,
        category: str,
        features: Mapping[str, float] | None,
        calls: int,
        figures: Mapping[str, Any],
        seen_bytes: int,
    ) -> None:
        """Take the usage of calls that are done.

        Args:
            category: theirs.
            features: of the call, if it is one.
            calls: how many they are.
            figures: what all of them used, as `Bracket.stop` says it.
            seen_bytes: the most that was seen of the call from outside, its child processes included.
        """
        peak_bytes = max(figures.get("peak_memory_bytes") or 0, seen_bytes)
        if not peak_bytes or figures.get("exception") is not None:
            return
        known = {name: value for name, value in figures.items() if name in _KNOWN}
        if calls > 1:
            # Means where there are sums: of these, a predictor looks at times alone.
            known |= {name: known[name] / calls for name in ("wall_s", "cpu_user_s", "cpu_system_s") if name in known}
        known["peak_memory_bytes"] = peak_bytes
        usage = Usage(**known, category=category, features=dict(features or _NO_FEATURES))
        pending = self._pending.setdefault(category, [])
        pending.append(usage)
        if len(pending) > MOST_PENDING:
            pending.remove(min(pending, key=lambda each: each.peak_memory_bytes or 0))

    def learn_all(self) -> None:
        """Let the predictor learn everything that waits to be learned."""
        for category in list(self._pending):
            self._learn(category)

    def _learn(self, category: str) -> None:
        for usage in self._pending.pop(category, ()):
            self.predictor.observe(category, usage.features, usage)
