"""The first allocation of a category that has no calls yet: a ladder over what first calls elsewhere needed. Pure.

Four groups of samples have a say, each with a weight of its own: the first peaks of all categories; the same in
proportion to the users' own guesses, where there is one; those of calls for which the same was guessed; and the peaks
of categories of the same name elsewhere (`rnaseq:STAR_ALIGN` and `scrnaseq:STAR_ALIGN`). The guess itself is always a
rung: hardly anybody guesses too little.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from envpack_monitor.predict.failed import FailedRun
from envpack_monitor.predict.ladder import ladder_over
from envpack_monitor.predict.protocol import HINT, Features

Samples = list[tuple[float, float]]
PeaksOf = Callable[[str], Sequence[float]]

REMEMBERED = 100
GROWN = 1.15
"""A ladder is computed anew when it would rest on so many times as many calls."""
SAME_NAME_REMEMBERED = 5
BESIDE = 1.3
"""Each first peak stands for one a little larger, too: rungs right above a crowd of them fail by a hair."""
_ALL, _HINTED, _SAME_HINT, _SAME_NAME = 1.0, 2.0, 1.0, 6.0
_ABOVE = (1.1, 1.4, 2.0, 3.0, 5.0, 10.0)
"""What is assumed of first peaks above the last rung before any was seen, as multiples of it."""
_ALIKE = 0.01


@dataclass(frozen=True, slots=True)
class _First:
    """The first call of a category: what it needed, and what the user had guessed (0 if nothing)."""

    peak: float
    hint: float


class Newcomers:
    """What is known about first calls.

    Args:
        first_bytes: what the very first call gets.
        failed: the share of its run that a failed attempt costs.
    """

    def __init__(self, first_bytes: float, failed: FailedRun) -> None:
        self._first_bytes = first_bytes
        self._failed = failed
        self._firsts: deque[_First] = deque(maxlen=REMEMBERED)
        self._names: dict[str, deque[str]] = {}
        self._above = deque(_ABOVE, maxlen=REMEMBERED)
        self._ladders: dict[tuple[str, float], tuple[int, list[float], str]] = {}
        self._beyond: list[float] = []
        self._count = 0

    def ladder(self, category: str, features: Features, peaks_of: PeaksOf) -> tuple[list[float], str]:
        """Return a ladder in bytes, and the rule in words.

        Args:
            category: which calls it is for.
            features: numbers known before the call.
            peaks_of: gives the newest peaks of a known category.
        """
        rungs, rule = self._rungs(category, features, peaks_of)
        return [*rungs, *(rungs[-1] * factor for factor in self._beyond)], rule

    def learn(self, category: str, features: Features, peak: float, peaks_of: PeaksOf) -> None:
        """Take in the first call of a category."""
        if self._firsts:
            largest = self._rungs(category, features, peaks_of)[0][-1]
            if peak > largest or not self._beyond:
                self._above.append(max(peak / largest, _ABOVE[0]))
                self._beyond = ladder_over([(factor, 1.0) for factor in self._above], self._failed)
        self._firsts.append(_First(peak, max(features.get(HINT, 0.0), 0.0)))
        self._names.setdefault(_last_part(category), deque(maxlen=SAME_NAME_REMEMBERED)).append(category)
        self._count += 1

    def _rungs(self, category: str, features: Features, peaks_of: PeaksOf) -> tuple[list[float], str]:
        hint = max(features.get(HINT, 0.0), 0.0)
        namesakes = self._names.get(_last_part(category), ())
        key = (category if namesakes else "", hint)
        count, rungs, rule = self._ladders.get(key, (-1, [], ""))
        peaks = [peaks_of(name) for name in namesakes]
        known = self._count + sum(map(len, peaks))
        if count < 0 or known > GROWN * count:
            rungs, rule = self._make(hint, peaks)
            if len(self._ladders) > REMEMBERED:
                self._ladders.clear()
            self._ladders[key] = (known, rungs, rule)
        return rungs, rule

    def _make(self, hint: float, of_namesakes: Iterable[Sequence[float]]) -> tuple[list[float], str]:
        if not self._firsts:
            if hint:
                return [hint], "no calls yet: the hint"
            return [self._first_bytes], "no calls yet, nor of any other category"
        samples: Samples = []
        beside = (1.0,) if hint else (1.0, BESIDE)
        _join(samples, _ALL, [first.peak * factor for first in self._firsts for factor in beside])
        rule = "the first calls of other categories"
        if hint:
            hinted = [first for first in self._firsts if first.hint]
            _join(samples, _HINTED, [first.peak / first.hint * hint for first in hinted])
            alike = [first.peak / first.hint * hint for first in hinted if abs(first.hint / hint - 1) < _ALIKE]
            _join(samples, _SAME_HINT, alike)
            rule = "the hint, corrected as others' were" if hinted else rule
        for peaks in of_namesakes:
            _join(samples, _SAME_NAME / SAME_NAME_REMEMBERED, peaks)
            rule = "the calls of categories of the same name"
        rungs = ladder_over(samples, self._failed)
        if hint > rungs[-1]:
            rungs.append(hint)
        return rungs, f"no calls yet: {rule}"


def _join(samples: Samples, mass: float, values: Sequence[float]) -> None:
    """Add values that together weigh `mass`."""
    samples += [(value, mass / len(values)) for value in values if value > 0]


def _last_part(category: str) -> str:
    """Return the name without the module or the workflow that it belongs to."""
    return re.split(r"[:./]", category)[-1].lower()
