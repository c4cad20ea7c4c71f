"""What a pickled batch names, so that its environment has it."""

from __future__ import annotations

import collections
import datetime
import pickle
from typing import Any

import cloudpickle
import dateutil.tz
import numpy as np
import pytest

from envpack_executor.joblib.named import named_in


@pytest.mark.parametrize("pickler", [pickle.dumps, cloudpickle.dumps])
@pytest.mark.parametrize(
    ("value", "names"),
    [
        ([1, "text", {"a": None}], set()),
        ([datetime.date(2026, 1, 1)], {"datetime:date"}),
        ({"deep": [(dateutil.tz.tzutc(),)]}, {"dateutil.tz.tz:tzutc"}),
        ([collections.Counter.most_common] * 3, {"collections:Counter.most_common"}),
        ([datetime.date, datetime.time, datetime.date], {"datetime:date", "datetime:time"}),
    ],
)
def test_classes_and_functions_are_named_however_deep_they_lie(pickler: Any, value: Any, names: set[str]) -> None:
    found = {name for name in named_in(pickler(value, protocol=5)) if not name.startswith(("builtins", "_"))}
    assert found == names


def test_modules_that_a_function_by_value_uses_are_named() -> None:
    found = named_in(cloudpickle.dumps(lambda: np.zeros(1), protocol=5))
    assert found["numpy:"] is np


def test_what_is_not_here_is_left_out() -> None:
    stream = pickle.dumps(dateutil.tz.tzutc, protocol=5).replace(b"tzutc", b"tzabc")
    assert named_in(stream) == {}
