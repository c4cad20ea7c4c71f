"""`Thinner`: above a rate, a history gets exact aggregates and a sample instead of one row per call. Pure.

Up to `rows_per_s` rows a second, and a burst of as many as 20 seconds bring, every call has a row of its own. Above
that, calls that are alike (category, end, quality) share what room there is, small groups first: of a large group the
call with the largest peak and a random sample keep their rows, and one row is the exact aggregate of the others. So
sums and largest peaks over the rows are those of all calls, whatever the rate.
"""

from __future__ import annotations

import random

from envpack_monitor.history.rows import Row, aggregate, alike

BURST_S = 20.0


class Thinner:
    """Decides which calls keep a row of their own.

    Args:
        rows_per_s: how many rows a second may be written for long; `None` for no bound.
        seed: of the samples.
    """

    def __init__(self, rows_per_s: float | None, seed: int | None = None) -> None:
        self._rows_per_s = rows_per_s
        self._room = self._most = BURST_S * rows_per_s if rows_per_s is not None else 0.0
        self._at_s: float | None = None
        # Not the module's own generator: a user's seed must give the user's numbers.
        self._random = random.Random(seed)

    def thin(self, rows: list[Row], now_s: float) -> list[Row]:
        """Return what to write for these calls.

        Args:
            rows: one per call, in the order in which the calls ended.
            now_s: seconds of a clock that never goes back.
        """
        if self._rows_per_s is None:
            return rows
        passed_s = now_s - self._at_s if self._at_s is not None else 0.0
        self._at_s = now_s
        self._room = min(self._most, self._room + passed_s * self._rows_per_s)
        written = rows if len(rows) <= self._room else self._share_out(rows, int(self._room))
        self._room = max(0.0, self._room - len(written))
        return written

    def _share_out(self, rows: list[Row], room: int) -> list[Row]:
        groups: dict[tuple[object, ...], list[Row]] = {}
        for row in rows:
            groups.setdefault(alike(row), []).append(row)
        written: list[Row] = []
        for left, group in enumerate(sorted(groups.values(), key=len)):
            share = (room - len(written)) // (len(groups) - left)
            written += self._sample(group, share)
        return written

    def _sample(self, group: list[Row], share: int) -> list[Row]:
        if len(group) <= max(share, 1):
            return group
        # One of the share is for the aggregate.
        kept = set(self._random.sample(range(len(group)), max(share - 2, 0)))
        if share > 1:
            kept.add(max(range(len(group)), key=lambda at: group[at].get("peak_memory_bytes", 0)))
        others = [row for at, row in enumerate(group) if at not in kept]
        return [aggregate(others), *(group[at] for at in sorted(kept))]
