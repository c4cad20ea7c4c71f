"""What the arguments of a call tell about its size."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from envpack_monitor import History, monitor
from envpack_monitor.calls.features import features_of


class Array:
    """What an array shows of itself."""

    nbytes = 800
    shape = (10, 10)

    def __len__(self) -> int:
        return 10


class Frame:
    """What a frame shows of itself."""

    shape = (3, 1)

    def __len__(self) -> int:
        return 3

    def memory_usage(self, index: bool = True, deep: bool = False) -> Any:
        assert not deep
        return Array.nbytes


class Number:
    """What a number of an array library shows of itself."""

    nbytes = 8
    shape = ()

    def __float__(self) -> float:
        return 2.5


class Trap:
    def __len__(self) -> int:
        raise RuntimeError("not now")


def work(rows: Any = None, n: int = 0, *parts: Any, path: Any = None, **others: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (7, {"rows": 7.0}),
        (2.5, {"rows": 2.5}),
        (True, {"rows": 1.0}),
        ("text", {"rows.len": 4.0}),
        (b"bytes", {"rows.len": 5.0}),
        (bytearray(9), {"rows.len": 9.0}),
        ([1, 2], {"rows.len": 2.0}),
        ({"a": 1}, {"rows.len": 1.0}),
        (range(10**6), {"rows.len": 1e6}),
        (memoryview(b"1234"), {"rows.bytes": 4.0, "rows.len": 4.0}),
        (Array(), {"rows.bytes": 800.0, "rows.len": 10.0}),
        (Frame(), {"rows.bytes": 800.0, "rows.len": 3.0}),
        (Number(), {"rows": 2.5}),
        (None, {}),
        (object(), {}),
        (Array, {}),
        (Trap(), {}),
        ((n for n in [1]), {}),
        (float("nan"), {}),
        (10**400, {}),
        ("a\0b", {"rows.len": 3.0}),
        ("x" * 5000, {"rows.len": 5000.0}),
    ],
)
def test_argument_tells_its_size_by_the_name_of_its_parameter(value: Any, found: dict[str, float]) -> None:
    assert features_of(work, (value,)) == found
    assert features_of(work, (), {"rows": value}) == found


@pytest.mark.parametrize("kind", [str, Path])
def test_argument_that_names_a_file_tells_how_large_it_is(kind: type, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 1234)
    assert features_of(work, (), {"path": kind(file)})["path.bytes"] == 1234.0
    assert "path.bytes" not in features_of(work, (), {"path": kind(tmp_path)})
    assert "path.bytes" not in features_of(work, (), {"path": kind(tmp_path / "missing")})


def test_further_positional_and_named_arguments_are_found() -> None:
    found = features_of(work, (1, 2, Array(), [3], "x"), {"more": 4})
    assert found == {"rows": 1.0, "n": 2.0, "parts.len": 3.0, "parts.bytes": 800.0, "more": 4.0}


def test_signature_serves_as_well_as_the_function_and_c_functions_tell_what_they_can() -> None:
    assert features_of(inspect.signature(work), (5,)) == {"rows": 5.0}
    assert features_of(max, (1, 2)) == {}
    assert features_of(print, (1,), {"sep": "--"}) == {"sep.len": 2.0} | features_of(print, (1,))


def test_calls_carry_the_features_of_their_arguments_and_what_the_user_says_wins(history_file: Path) -> None:
    @monitor(category="found")
    def found(rows: list[int], n: int) -> None:
        pass

    @monitor(category="told", features=lambda rows, n: {"n": 2 * n, "pairs": n * len(rows)})
    def told(rows: list[int], n: int) -> None:
        pass

    @monitor(category="off", features=False)
    def off(rows: list[int], n: int) -> None:
        pass

    for function in (found, told, off):
        function([1, 2, 3], n=4)
    from envpack_monitor.history.recorder import flush_default

    flush_default()
    history = History(history_file)
    assert history.calls("found")[0].features == {"rows.len": 3.0, "n": 4.0}
    assert history.calls("told")[0].features == {"rows.len": 3.0, "n": 8.0, "pairs": 12.0}
    assert history.calls("off")[0].features == {}


def test_object_whose_method_is_called_tells_its_size_like_an_argument(history_file: Path) -> None:
    class Shelf(list[int]):
        @monitor(category="method")
        def take(self, n: int) -> None:
            pass

    Shelf([1, 2]).take(3)
    from envpack_monitor.history.recorder import flush_default

    flush_default()
    assert History(history_file).calls("method")[0].features == {"self.len": 2.0, "n": 3.0}
