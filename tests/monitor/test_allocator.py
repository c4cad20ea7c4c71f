"""Freed memory that is returned, so that each call's difference is what the call needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.monitor.helpers import MB

SIZE = 20 * MB
PROGRAM = f"""
import json
from envpack_monitor import monitor, return_freed_memory

@monitor("grow", history=False, return_usage=True)
def grow():
    return len(bytearray({SIZE}))

DONE = return_freed_memory() if RETURNING else True
usages = [grow()[1] for _ in range(6)]
print(json.dumps([DONE, [usage.memory_difference_bytes for usage in usages],
                  [usage.peak_memory_bytes for usage in usages]]))
"""


def grown(*, returning: bool) -> tuple[bool, list[int], list[int]]:
    env = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    program = PROGRAM.replace("RETURNING", str(returning))
    result = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    done, differences, peaks = json.loads(result.stdout)
    return done, differences, peaks


@pytest.mark.parametrize("returning", [True, False])
def test_absolute_peak_of_repeated_calls_is_the_same_each_time(returning: bool) -> None:
    _, differences, peaks = grown(returning=returning)
    assert max(peaks) - min(peaks) < MB
    assert abs(differences[0] - SIZE) < MB


def test_difference_of_each_repeated_call_is_its_own_where_freed_memory_is_returned() -> None:
    done, differences, _ = grown(returning=True)
    assert not done or max(abs(difference - SIZE) for difference in differences) < MB
