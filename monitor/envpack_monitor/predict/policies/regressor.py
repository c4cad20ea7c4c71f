"""`Regressor`: any regressor with the methods `fit` and `predict` of scikit-learn as a policy. Pure."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Protocol

from envpack_monitor.allocation import Allocation
from envpack_monitor.errors import MissingLibraryError
from envpack_monitor.predict.policies.each_resource import EachResource
from envpack_monitor.predict.policies.sizer import Schedule, Sizer
from envpack_monitor.predict.protocol import HINT, Features

WINDOW = 1000
"""On how many of the newest calls of a category a regressor is fitted."""

FIRST_FIT, GROWTH = 5, 1.25
"""After how many calls it is fitted first, and by how much their number grows from fit to fit."""


class FitsAndPredicts(Protocol):
    """What is asked of a regressor, as scikit-learn has it; it must be possible to copy and to pickle it."""

    def fit(self, X: Sequence[Sequence[float]], y: Sequence[float]) -> Any:
        """Learn from the features and the need of each call."""
        ...

    def predict(self, X: Sequence[Sequence[float]]) -> Sequence[float]:
        """Return the expected need for each row of features."""
        ...


class Regressor(EachResource):
    """What a regressor expects, plus the standard deviation of its errors; after a failure twice as much, and so on.

    Each category and resource has a copy of its own. It is fitted again whenever a quarter more calls have been seen;
    until the first fit, the largest need seen is given.

    Args:
        node: what the largest node has; no allocation has more.
        regressor: what is copied.
    """

    def __init__(self, node: Allocation, regressor: FitsAndPredicts) -> None:
        self.regressor = regressor
        self.rule = f"{type(regressor).__name__} plus the deviation of its errors, then twice as much"
        super().__init__(node)

    def new_sizer(self, resource: str) -> Sizer:
        """Return one with a copy of the regressor."""
        return _RegressorSizer(copy.deepcopy(self.regressor))


def regression_tree(node: Allocation) -> Regressor:
    """Return the policy with a regression tree of scikit-learn: the quickest of its regressors that is not a line.

    Args:
        node: what the largest node has.

    Raises:
        MissingLibraryError: scikit-learn is not installed.
    """
    try:
        from sklearn.tree import DecisionTreeRegressor
    except ImportError as error:
        raise MissingLibraryError("scikit-learn", "the policy regression-tree", "predict") from error
    return Regressor(node, DecisionTreeRegressor(min_samples_leaf=3, random_state=0))


class _RegressorSizer:
    def __init__(self, regressor: FitsAndPredicts) -> None:
        self.regressor = regressor
        self._rows: list[Features] = []
        self._needs: list[float] = []
        self._names: list[str] | None = None
        self._largest = 0.0
        self._errors: list[float] = []
        self._schedule = Schedule(at_each=0, growth=GROWTH)
        self._seen = 0

    def size(self, features: Features) -> float:
        if self._names is None:
            return self._largest
        count = len(self._errors) or 1
        deviation = math.sqrt(sum(error * error for error in self._errors) / count)
        return min(max(self._expected(features) + deviation, min(self._needs)), 2 * self._largest)

    def next_size(self, failed: float, features: Features) -> float | None:
        return 2 * failed

    def learn(self, features: Features, need: float, wall_s: float) -> None:
        if self._names is not None:
            self._errors = [*self._errors[-99:], need - self._expected(features)]
        self._rows.append(dict(features))
        self._needs.append(float(need))
        del self._rows[:-WINDOW], self._needs[:-WINDOW]
        self._seen += 1
        self._largest = max(self._largest, need)
        if self._seen >= FIRST_FIT and self._schedule.is_due(self._seen):
            self._fit()

    def exceeding(self, size: float) -> float | None:
        return sum(need > size for need in self._needs) / len(self._needs)

    def _fit(self) -> None:
        self._names = sorted({name for row in self._rows for name in row if name != HINT})
        self.regressor.fit([self._row(row) for row in self._rows], self._needs)

    def _expected(self, features: Features) -> float:
        return float(self.regressor.predict([self._row(features)])[0])

    def _row(self, features: Features) -> list[float]:
        """Return the features in the order of their names; without any there is a constant one."""
        return [features.get(name, 0.0) for name in self._names or ()] or [0.0]
