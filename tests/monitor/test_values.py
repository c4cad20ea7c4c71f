"""Limits, usages, allocations and units: what crosses a boundary, and what is wrong with it."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest

from envpack_monitor import Allocation, LimitExceeded, Limits, ProcessExited, ProcessKilled, Usage
from envpack_monitor.errors import FormatError
from envpack_monitor.units import format_bytes, format_seconds, parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GB", 2_000_000_000),
        ("512MiB", 512 << 20),
        ("1000", 1000),
        ("1.5 kB", 1500),
        ("4g", 4_000_000_000),
        ("1e6", 10**6),
    ],
)
def test_sizes_are_read_in_decimal_and_binary_units(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("60s", 60), ("5min", 300), ("1.5h", 5400), ("20ms", 0.02), ("7", 7)])
def test_times_are_read_with_their_units(text: str, expected: float) -> None:
    assert parse_seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("size", "expected"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (231_400_000, "231 MB"), (2.31e9, "2.31 GB")]
)
def test_sizes_are_written_with_three_figures(size: float, expected: str) -> None:
    assert format_bytes(size) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.00125, "1.25 ms"), (3.2, "3.2 s"), (61, "1 min 1 s"), (7500, "2 h 5 min")]
)
def test_times_are_written_for_people(seconds: float, expected: str) -> None:
    assert format_seconds(seconds) == expected


def test_limits_are_read_from_text() -> None:
    limits = Limits.parse("memory=2GB, wall=60s,cpu=1h,disk=1TB,processes=8")
    assert limits == Limits(memory_bytes=2 * 10**9, wall_s=60, cpu_s=3600, disk_bytes=10**12, processes=8)
    assert Limits.from_dict(json.loads(json.dumps(limits.to_dict()))) == limits


@pytest.mark.parametrize(
    "text", ["memory", "memory=", "memory=2XB", "colour=2", "wall=fast", "processes=1.5", "", "memory=0"]
)
def test_limits_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(FormatError, match="limits: "):
        Limits.parse(text)


def test_all_problems_of_limits_are_named_at_once() -> None:
    with pytest.raises(FormatError, match=r"'2XB' is not a size.*'colour=2' is not RESOURCE=VALUE") as caught:
        Limits.parse("memory=2XB,colour=2")
    assert caught.value.exit_code == 2


def test_all_problems_of_an_object_are_named_with_their_place() -> None:
    with pytest.raises(FormatError) as caught:
        Usage.from_dict({"wall_s": "fast", "speed": 3, "calls": 1.5, "features": {"rows": "many"}})
    for words in (
        "usage.wall_s: number expected, 'fast' met",
        "usage.speed: unknown field",
        "usage.calls: whole number",
    ):
        assert words in str(caught.value)
    with pytest.raises(FormatError, match=r"usage\.wall_s: missing"):
        Usage.from_dict({})
    with pytest.raises(FormatError, match="newer version"):
        Usage.from_dict({"schema": 99, "wall_s": 1.0})


def test_allocation_survives_json() -> None:
    allocation = Allocation(memory_bytes=5, cores=0.5, wall_s=2.0, attempt=3)
    assert Allocation.from_dict(json.loads(json.dumps(allocation.to_dict()))) == allocation


def test_limit_error_says_who_what_and_how_much_and_survives_pickling() -> None:
    error = LimitExceeded("memory", 2_048_000_000, 2_310_000_000, "train", 4711)
    assert str(error) == "memory limit exceeded: 2048 MB allowed, 2310 MB used by 'train' (pid 4711)"
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.measured, copy.pid, copy.exit_code) == (str(error), 2_310_000_000, 4711, 3)


@pytest.mark.parametrize("error", [ProcessExited(3, "work"), ProcessKilled(9, "work")])
def test_errors_of_isolated_calls_survive_pickling(error: Exception) -> None:
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_import_loads_nothing_heavy() -> None:
    program = (
        "import sys, envpack_monitor; print(sorted({'sqlite3', 'psutil', 'statistics', 'ctypes'} & set(sys.modules)))"
    )
    path = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    heavy = subprocess.run([sys.executable, "-c", program], env=path, capture_output=True, text=True, check=True).stdout
    assert heavy.strip() == "[]"
    program = "import sys; from envpack_monitor import monitor; print(callable(monitor), 'sqlite3' in sys.modules)"
    light = subprocess.run([sys.executable, "-c", program], env=path, capture_output=True, text=True, check=True).stdout
    assert light.split() == ["True", "False"]
