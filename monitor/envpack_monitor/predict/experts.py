"""The default predictor: many cheap rules side by side, and the one that would have cost least decides. Pure.

A rule is a location model with a ladder over its residuals. When a call is over, it is known exactly what every rule
would have cost for it, retries included; so each rule is scored on calls that it had not seen. The score of a rule in a
category is its cost over the least possible cost, with a short and a long memory, and with a prior: how the same rule
did in other categories when they were as young. A new category so begins with what has been good for beginners.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import replace

from envpack_monitor.allocation import Allocation
from envpack_monitor.predict.failed import FailedRun, killed_at_end
from envpack_monitor.predict.ladder import cost_of
from envpack_monitor.predict.location import WINDOW, Constant, Line, Location, Nearest, Proportional
from envpack_monitor.predict.newcomers import Newcomers
from envpack_monitor.predict.protocol import HINT, Explanation, Features, larger
from envpack_monitor.predict.residuals import Excesses, Residuals
from envpack_monitor.usage import Usage

FEATURES_USED = 3
"""How many features a category tries at once; every `TURN` calls those that do not help make room for others."""
TURN = 32
FEATURE_MODELS_KEPT = 5
PATIENCE = 2.0
"""Rules that are not among the best two compute their ladders so much later."""
LONG_MEMORY, SHORT_MEMORY = 0.995, 0.9
SILENCE = 1.3
"""What a model that could not say is taken to have cost, so that silence is no merit."""
PRIOR_CALLS = 3.0
PRIOR_COST, PRIOR_COST_OF_FEATURE, PRIOR_DOUBT = 1.6, 0.4, 6.0
WORST = 5.0
WALL_POWER = 0.8
"""Residuals weigh as the wall time to this power: the next call need not be as long as the longest."""
AGES = (1, 2, 3, 5, 9, 17, 33)
"""Categories are as old as each other when they have seen about as many calls; the bounds of the age groups."""
STUCK_AFTER = 3.0
HEADROOM = 1.1
"""Of disk and GPU memory the largest seen is promised, and this much more."""


class _Model:
    """A location model of one feature in one category, with its residuals and its score."""

    __slots__ = ("feature", "kind", "location", "long", "residuals", "short")

    def __init__(self, kind: str, feature: str, location: Location, residuals: Residuals) -> None:
        self.kind = kind
        self.feature = feature
        self.location = location
        self.residuals = residuals
        self.long = self.short = 0.0

    def place(self, features: Features) -> float | None:
        """Return where the peak is expected, or `None` while the model cannot say."""
        return self.locate(features) if len(self.residuals) else None

    def locate(self, features: Features) -> float | None:
        """Return the location, or `None` where it has none yet."""
        if not self.feature:
            return self.location.locate(0.0)
        x = features.get(self.feature)
        return None if x is None else self.location.locate(x)


class _Others:
    """The largest of the figures that are seldom measured: disk and GPU memory."""

    __slots__ = ("disk_bytes", "gpu_memory_bytes")

    def __init__(self) -> None:
        self.disk_bytes: int | None = None
        self.gpu_memory_bytes: int | None = None

    def learn(self, usage: Usage) -> None:
        """Take in the figures of a call."""
        if usage.disk_bytes is not None:
            self.disk_bytes = max(usage.disk_bytes, self.disk_bytes or 0)
        if usage.gpu_memory_bytes is not None:
            self.gpu_memory_bytes = max(usage.gpu_memory_bytes, self.gpu_memory_bytes or 0)

    def added_to(self, allocation: Allocation, node: Allocation) -> Allocation:
        """Return the allocation with a little more than the largest figures, not more than the node has."""
        return replace(
            allocation,
            disk_bytes=_with_room(self.disk_bytes, node.disk_bytes),
            gpu_memory_bytes=_with_room(self.gpu_memory_bytes, node.gpu_memory_bytes),
        )


class _Category:
    """All models of one category."""

    __slots__ = (
        "calls",
        "cores",
        "features",
        "long",
        "longest_s",
        "models",
        "others",
        "ranking",
        "short",
        "waiting",
    )

    def __init__(self, models: list[_Model]) -> None:
        self.calls = 0
        self.long = self.short = 0.0
        self.models = models
        self.cores: list[float] = []
        self.longest_s = 0.0
        self.others: _Others | None = None
        self.ranking = models
        self.features: tuple[str, ...] = ()
        self.waiting: list[str] = []


class BestLadder:
    """The default policy.

    Args:
        node: what the largest node has; no allocation has more. Without one there is no bound.
        first: what the very first call gets when nothing at all is known; a quarter of the node by default, at most
            2 GB.
        failed: the share of a run that a failed attempt is expected to cost.
    """

    def __init__(
        self,
        node: Allocation | None = None,
        first: Allocation | None = None,
        failed: FailedRun = killed_at_end,
    ) -> None:
        self.move_to(node)
        self.first = first or Allocation(memory_bytes=min(2_000_000_000, self.most_bytes // 4))
        self.failed = failed
        self._categories: dict[str, _Category] = {}
        self._prior: dict[tuple[int, str], list[float]] = {}
        self._excesses: dict[str, Excesses] = {}
        self._newcomers = Newcomers(float(self.first.memory_bytes or 0), failed)

    def move_to(self, node: Allocation | None) -> None:
        """Go on for other machines: what was learned stays, only the largest allocation changes.

        Args:
            node: what the largest node has; `None` for no bound.
        """
        self.node = node or Allocation()
        self.most_bytes = self.node.memory_bytes or 1 << 50

    def predict(self, category: str, features: Features) -> Allocation:
        """Return the first rung of the rule that would have cost least."""
        known = self._categories.get(category)
        if known is None:
            memory = self._newcomers.ladder(category, features, self._newest_peaks)[0][0]
            return Allocation(
                memory_bytes=min(math.ceil(memory), self.most_bytes), cores=self.first.cores, wall_s=self.first.wall_s
            )
        model, place = self._best(known, features)
        allocation = Allocation(
            memory_bytes=min(math.ceil(place * model.residuals.rungs()[0]), self.most_bytes),
            cores=_usual_cores(known.cores),
            wall_s=STUCK_AFTER * known.longest_s + 1 if known.calls >= 3 else self.first.wall_s,
        )
        return allocation if known.others is None else known.others.added_to(allocation, self.node)

    def observe(self, category: str, features: Features, usage: Usage) -> None:
        """Score every rule on the call, then let the models learn from it."""
        if not usage.peak_memory_bytes:
            return
        peak, wall_s = float(usage.peak_memory_bytes), max(usage.wall_s, 1e-6)
        known = self._categories.get(category)
        if known is None:
            self._newcomers.learn(category, features, peak, self._newest_peaks)
            known = self._categories[category] = _Category(self._models_without_feature())
        if features:
            self._meet(known, features)
        if known.calls:
            self._score(known, features, peak, wall_s)
        self._learn(known, features, peak, wall_s)
        _learn_rest(known, usage)
        known.calls += 1
        if known.calls % TURN == 0:
            self._take_turns(known)
        self._rank(known)

    def retry(self, category: str, features: Features, failed: Allocation) -> Allocation:
        """Return the next rung above what failed; above the last one, twice as much."""
        rungs, _ = self._ladder(category, features)
        failed_bytes = failed.memory_bytes or 0
        higher = [rung for rung in rungs if rung > failed_bytes * 1.005]
        return larger(failed, math.ceil(higher[0]) if higher else 2 * failed_bytes, self.most_bytes)

    def explain(self, category: str, features: Features) -> Explanation:
        """Return the rule, how many calls it rests on and what its retries are expected to cost."""
        rungs, rule = self._ladder(category, features)
        known = self._categories.get(category)
        chance, cost = _expected_retries(known, rungs, self.failed) if known else (None, None)
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
            return self._newcomers.ladder(category, features, self._newest_peaks)
        model, place = self._best(known, features)
        return [place * rung for rung in model.residuals.rungs()], f"{model.kind} {model.feature}".strip()

    def _best(self, known: _Category, features: Features) -> tuple[_Model, float]:
        """Return the best model that can say where the peak is, and where."""
        for model in known.ranking:
            place = model.place(features)
            if place is not None:
                return model, place
        raise AssertionError("the model of all calls can always say")

    def _rank(self, known: _Category) -> None:
        """Put the models in order, the best first, so that to ask costs next to nothing."""
        age = _age(known.calls)
        scored = [(self._judge(known, model, age), number) for number, model in enumerate(known.models)]
        known.ranking = [known.models[number] for _, number in sorted(scored)]
        for place, model in enumerate(known.ranking):
            model.residuals.patience = 1.0 if place < 2 else PATIENCE
        next(model for model in known.ranking if len(model.residuals)).residuals.rungs()

    def _judge(self, known: _Category, model: _Model, age: int) -> float:
        """Return the expected cost of a rule over the least possible: its own record, completed by the prior."""
        total, count = self._prior.get((age, model.kind), _NOTHING)
        doubtful = PRIOR_COST + PRIOR_COST_OF_FEATURE if model.feature else PRIOR_COST
        # A few calls of doubt per rule, so that few calls elsewhere do not decide.
        prior = (total + PRIOR_DOUBT * doubtful) / (count + PRIOR_DOUBT)
        if known.long <= 0:
            return prior
        pull = PRIOR_CALLS / max(known.calls - 1, 0.5)
        own = 0.5 * (model.long / known.long + model.short / known.short)
        return (own + pull * prior) / (1 + pull)

    def _score(self, known: _Category, features: Features, peak: float, wall_s: float) -> None:
        ideal = peak * wall_s
        age = _age(known.calls)
        known.long = known.long * LONG_MEMORY + ideal
        known.short = known.short * SHORT_MEMORY + ideal
        for model in known.models:
            place = model.place(features)
            ratio = SILENCE if place is None else model.residuals.cost(peak / place) * place / peak
            model.long = model.long * LONG_MEMORY + ratio * ideal
            model.short = model.short * SHORT_MEMORY + ratio * ideal
            prior = self._prior.setdefault((age, model.kind), [0.0, 0.0])
            prior[0] = 0.99 * prior[0] + min(ratio, WORST)
            prior[1] = 0.99 * prior[1] + 1.0

    def _learn(self, known: _Category, features: Features, peak: float, wall_s: float) -> None:
        """Let the models learn from a call, the residual first: it is one of a call that the model had not seen."""
        weight = wall_s**WALL_POWER
        for model in known.models:
            place = model.locate(features)
            if place is not None:
                model.residuals.add(peak / place, place * weight)
            if not model.feature:
                continue
            x = features.get(model.feature)
            if x is not None:
                model.location.learn(x, peak)

    def _meet(self, known: _Category, features: Features) -> None:
        """Make models for features that are new, as many as are tried at once; the others wait for their turn."""
        for name in sorted(features):
            if name not in known.features and name not in known.waiting:
                known.waiting.append(name)
        while known.waiting and len(known.features) < FEATURES_USED:
            # The user's own guess is the best of all features; it need not wait.
            name = HINT if HINT in known.waiting else known.waiting[0]
            known.waiting.remove(name)
            known.features += (name,)
            for model in self._models_of_feature(name):
                model.long, model.short = SILENCE * known.long, SILENCE * known.short
                known.models.append(model)

    def _take_turns(self, known: _Category) -> None:
        """Let go the models that decide nothing, and the feature that helps least where others wait for its turn."""
        age = _age(known.calls)
        of_features = [model for model in known.models if model.feature]
        kept = sorted(of_features, key=lambda model: self._judge(known, model, age))[:FEATURE_MODELS_KEPT]
        best_first = tuple(dict.fromkeys(model.feature for model in kept))
        if known.waiting:
            left = best_first[: FEATURES_USED - 1]
            known.waiting += [name for name in known.features if name not in left]
            known.features = left
        known.models = [model for model in known.models if not model.feature or model in kept]
        known.models = [model for model in known.models if not model.feature or model.feature in known.features]

    def _models_without_feature(self) -> list[_Model]:
        return [
            self._model("all calls", "", Constant(), 16 * WINDOW),
            self._model("recent calls", "", Constant(), WINDOW // 4),
        ]

    def _models_of_feature(self, name: str) -> list[_Model]:
        return [
            self._model("proportional to", name, Proportional(), 2 * WINDOW),
            self._model("line over", name, Line(), 2 * WINDOW),
            self._model("nearest in", name, Nearest(), 2 * WINDOW),
        ]

    def _model(self, kind: str, feature: str, location: Location, window: int) -> _Model:
        excesses = self._excesses.setdefault(kind, Excesses())
        return _Model(kind, feature, location, Residuals(window, self.failed, excesses))

    def _newest_peaks(self, category: str) -> Sequence[float]:
        return self._categories[category].models[1].residuals.values()


_NOTHING = (0.0, 0.0)


def _learn_rest(known: _Category, usage: Usage) -> None:
    known.longest_s = max(known.longest_s, usage.wall_s)
    if usage.cores is not None:
        known.cores = [*known.cores[-WINDOW:], usage.cores]
    if usage.disk_bytes is not None or usage.gpu_memory_bytes is not None:
        known.others = known.others or _Others()
        known.others.learn(usage)


def _with_room(largest: int | None, most: int | None) -> int | None:
    if largest is None:
        return None
    wanted = math.ceil(HEADROOM * largest)
    return wanted if most is None else min(wanted, most)


def _expected_retries(known: _Category, rungs: Sequence[float], failed: FailedRun) -> tuple[float, float]:
    """Return the share of the seen calls above the first rung, and what failures cost as a share of the allocated."""
    peaks = known.models[0].residuals.values()
    above = [peak for peak in peaks if peak > rungs[0]]
    allocated = sum(cost_of(rungs, peak, failed) for peak in peaks)
    succeeded = sum(next((rung for rung in rungs if rung >= peak), peak) for peak in peaks)
    return len(above) / len(peaks), max(0.0, allocated - succeeded) / allocated


def _usual_cores(cores: Sequence[float]) -> float:
    """Return the 90th percentile, in steps of a tenth: more is slower, not fatal."""
    return max(0.1, round(sorted(cores)[math.ceil(0.9 * len(cores)) - 1] + 0.05, 1)) if cores else 1.0


def _age(calls: int) -> int:
    return bisect.bisect_left(AGES, calls)
