"""The default predictor: many cheap rules side by side, and the one that would have cost least decides. Pure.

A rule is a location model times a headroom. When a call is over, it is known exactly what every rule would have cost
for it, retries included; so each rule is scored on calls that it had not seen. The score of a rule in a category is its
cost over the least possible cost, with a short and a long memory, and with a prior: how the same rule did in other
categories when they were as young. A new category so begins with what has been good for beginners.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.ladder import cost_of
from envpack_monitor.predict.location import WINDOW, Constant, Line, Location, Nearest, Proportional
from envpack_monitor.predict.protocol import HINT, Explanation, Features, larger
from envpack_monitor.predict.residuals import Residuals
from envpack_monitor.usage import Usage

HEADROOMS = (1.0, 1.02, 1.05, 1.1, 1.2, 1.4, 1.8)
FEATURES_USED = 3
LONG_MEMORY, SHORT_MEMORY = 0.995, 0.85
SILENCE = 1.3
PRIOR_CALLS = 3.0
AGES = (1, 2, 3, 5, 9, 17, 33)
"""Categories are as old as each other when they have seen about as many calls; the bounds of the age groups."""


@dataclass(slots=True)
class _Score:
    """Costs of one rule, discounted."""

    long: float = 0.0
    short: float = 0.0


class _Model:
    """A location model of one feature in one category, with its residuals and the scores of its headrooms."""

    def __init__(self, kind: str, feature: str, location: Location, window: int, failed_share: float) -> None:
        self.kind = kind
        self.feature = feature
        self.location = location
        self.residuals = Residuals(window, failed_share)
        self.scores = [_Score() for _ in HEADROOMS]

    def place(self, features: Features) -> float | None:
        """Return where the peak is expected, or `None` while the model cannot say."""
        return self._locate(features) if len(self.residuals) else None

    def learn(self, features: Features, peak: float, wall_s: float) -> None:
        """Learn from a call, the residual first: it is one of a call that the model had not seen."""
        place = self._locate(features)
        if place is not None:
            self.residuals.add(peak / place, place * wall_s)
        if self.feature in features or not self.feature:
            self.location.learn(features.get(self.feature, 0.0), peak)

    def _locate(self, features: Features) -> float | None:
        if self.feature and self.feature not in features:
            return None
        return self.location.locate(features.get(self.feature, 0.0))


class _Category:
    """All models of one category."""

    def __init__(self, failed_share: float) -> None:
        self.failed_share = failed_share
        self.calls = 0
        self.ideal = _Score()
        self.models = [
            _Model("all calls", "", Constant(), 8 * WINDOW, failed_share),
            _Model("recent calls", "", Constant(), WINDOW // 4, failed_share),
        ]
        self.cores: list[float] = []
        self.longest_s = 0.0
        self.ranking: list[tuple[_Model, float]] | None = None
        self._features: set[str] = set()

    def meet(self, features: Features) -> None:
        """Make models for features that are new."""
        for name in sorted(set(features) - self._features)[: FEATURES_USED - len(self._features)]:
            self._features.add(name)
            share, window = self.failed_share, 4 * WINDOW
            self.models += [
                _Model("proportional to", name, Proportional(), window, share),
                _Model("line over", name, Line(), window, share),
                _Model("nearest in", name, Nearest(), window, share),
            ]


class BestLadder:
    """The default policy.

    Args:
        node: what the largest node has; no allocation has more memory. Without one there is no bound.
        first: what the very first call gets when nothing at all is known; a quarter of the node by default.
        failed_share: the share of a run that a failed attempt is expected to cost, 0 to 1.
    """

    def __init__(
        self, node: Allocation | None = None, first: Allocation | None = None, failed_share: float = 1.0
    ) -> None:
        self.most_bytes = (node.memory_bytes if node else None) or 1 << 50
        self.first = first or Allocation(memory_bytes=min(2_000_000_000, self.most_bytes // 4))
        self.failed_share = failed_share
        self._categories: dict[str, _Category] = {}
        self._prior: dict[tuple[int, str, int], list[float]] = {}
        self._hints = Residuals(8 * WINDOW, failed_share)
        self._first_peaks = Residuals(8 * WINDOW, failed_share)

    def predict(self, category: str, features: Features) -> Allocation:
        """Return the first rung of the rule that would have cost least."""
        rungs, _ = self._ladder(category, features)
        known = self._categories.get(category)
        return Allocation(
            memory_bytes=min(math.ceil(rungs[0]), self.most_bytes),
            cores=_usual_cores(known.cores) if known else self.first.cores,
            wall_s=3 * known.longest_s + 1 if known and known.calls >= 3 else self.first.wall_s,
        )

    def observe(self, category: str, features: Features, usage: Usage) -> None:
        """Score every rule on the call, then let the models learn from it."""
        if not usage.peak_memory_bytes:
            return
        known = self._categories.get(category)
        if known is None:
            known = self._categories[category] = _Category(self.failed_share)
            self._first_peaks.add(usage.peak_memory_bytes, 1.0)
        peak, wall_s = float(usage.peak_memory_bytes), max(usage.wall_s, 1e-6)
        if features.get(HINT, 0.0) > 0:
            self._hints.add(peak / features[HINT], 1.0)
        known.meet(features)
        if known.calls:
            self._score(known, features, peak, wall_s)
        for model in known.models:
            model.learn(features, peak, wall_s)
        known.calls += 1
        known.ranking = None
        known.longest_s = max(known.longest_s, usage.wall_s)
        if usage.cores is not None:
            known.cores = [*known.cores[-WINDOW:], usage.cores]

    def retry(self, category: str, features: Features, failed: Allocation) -> Allocation:
        """Return the next rung above what failed; above the last one, twice as much."""
        rungs, _ = self._ladder(category, features)
        failed_bytes = failed.memory_bytes or 0
        higher = [rung for rung in rungs if rung > failed_bytes * 1.01]
        return larger(failed, math.ceil(higher[0]) if higher else 2 * failed_bytes, self.most_bytes)

    def explain(self, category: str, features: Features) -> Explanation:
        """Return the rule, how many calls it rests on and what its retries are expected to cost."""
        rungs, rule = self._ladder(category, features)
        known = self._categories.get(category)
        chance, cost = _expected_retries(known, features, rungs, self.failed_share) if known else (None, None)
        return Explanation(
            rule=rule,
            calls=known.calls if known else 0,
            allocation=self.predict(category, features),
            retry_chance=chance,
            retry_cost=cost,
            ladder_bytes=tuple(min(math.ceil(rung), self.most_bytes) for rung in rungs),
        )

    def _ladder(self, category: str, features: Features) -> tuple[Sequence[float], str]:
        """Return the ladder of the best rule in bytes, and the rule in words."""
        known = self._categories.get(category)
        if known is None:
            return self._cold_ladder(features)
        for model, headroom in self._ranking(known):
            place = model.place(features)
            if place is not None:
                rule = f"{model.kind} {model.feature}".strip() + f", headroom {headroom:g}"
                return [place * headroom * rung for rung in model.residuals.rungs()], rule
        raise AssertionError("the model of all calls can always say")

    def _ranking(self, known: _Category) -> list[tuple[_Model, float]]:
        """Return the models, the best first, each with its best headroom."""
        if known.ranking is None:
            best = []
            for position, model in enumerate(known.models):
                score, number = min((self._judge(known, model, number), number) for number in range(len(HEADROOMS)))
                best.append((score, position, model, HEADROOMS[number]))
            known.ranking = [(model, headroom) for _, _, model, headroom in sorted(best, key=lambda each: each[:2])]
        return known.ranking

    def _cold_ladder(self, features: Features) -> tuple[Sequence[float], str]:
        hint = features.get(HINT, 0.0)
        if hint > 0:
            if not len(self._hints):
                return [hint], "no calls yet: the hint"
            return [hint * rung for rung in self._hints.rungs()], "no calls yet: the hint, corrected as others' were"
        if not len(self._first_peaks):
            return [float(self.first.memory_bytes or 0)], "no calls yet, nor of any other category"
        return self._first_peaks.rungs(), "no calls yet: the first calls of other categories"

    def _judge(self, known: _Category, model: _Model, number: int) -> float:
        """Return the expected cost of a rule over the least possible: its own record, completed by the prior."""
        score, ideal = model.scores[number], known.ideal
        total, count = self._prior.get((_age(known.calls), model.kind, number), (0.0, 0.0))
        # Half a call of doubt per rule, so that few calls elsewhere do not decide; less headroom is doubted more.
        prior = (total + 2 * (1.6 + 0.4 * abs(HEADROOMS[number] - 1.15))) / (count + 2)
        pull = PRIOR_CALLS / max(known.calls - 1, 1)
        if ideal.long <= 0:
            return prior
        recent = score.short / ideal.short if ideal.short > 0 else prior
        own = 0.5 * score.long / ideal.long + 0.5 * recent
        return (own + pull * prior) / (1 + pull)

    def _score(self, known: _Category, features: Features, peak: float, wall_s: float) -> None:
        ideal = peak * wall_s
        age = _age(known.calls)
        known.ideal.long = known.ideal.long * LONG_MEMORY + ideal
        known.ideal.short = known.ideal.short * SHORT_MEMORY + ideal
        for model in known.models:
            place = model.place(features)
            for number, headroom in enumerate(HEADROOMS):
                # A model that could not say is taken to have cost something, so that silence is no merit.
                need = peak / (place * headroom) if place is not None else 0.0
                ratio = model.residuals.cost(need) / need if place is not None else SILENCE
                score = model.scores[number]
                score.long = score.long * LONG_MEMORY + ratio * ideal
                score.short = score.short * SHORT_MEMORY + ratio * ideal
                prior = self._prior.setdefault((age, model.kind, number), [0.0, 0.0])
                prior[0] = 0.99 * prior[0] + min(ratio, 5.0)
                prior[1] = 0.99 * prior[1] + 1.0


def _expected_retries(
    known: _Category, features: Features, rungs: Sequence[float], failed_share: float
) -> tuple[float, float]:
    """Return the share of the seen calls above the first rung, and what failures cost as a share of the allocated."""
    peaks = known.models[0].residuals.values()
    failed = [peak for peak in peaks if peak > rungs[0]]
    costs = [(cost_of(rungs, peak, failed_share), cost_of(rungs, peak, 0.0)) for peak in peaks]
    total = sum(with_failures for with_failures, _ in costs)
    return len(failed) / len(peaks), sum(a - b for a, b in costs) / total


def _usual_cores(cores: Sequence[float]) -> float:
    """Return the 90th percentile, in steps of a tenth: more is slower, not fatal."""
    return max(0.1, round(sorted(cores)[math.ceil(0.9 * len(cores)) - 1] + 0.05, 1)) if cores else 1.0


def _age(calls: int) -> int:
    return next((number for number, bound in enumerate(AGES) if calls <= bound), len(AGES))
