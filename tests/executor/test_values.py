"""Large values: what arrives is what was submitted, each has its bytes once on a node, and nothing of them is left."""

from __future__ import annotations

import gc
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envpack_executor import ContextExecutor, ExecutorError, Kept, task
from envpack_executor.pickling import dump_arguments
from envpack_executor.process import kept
from envpack_executor.process.frames import LARGE_BYTES
from envpack_executor.values import segments
from envpack_executor.values.blobs import BLOBS
from envpack_executor.values.large import LargePayload
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, MB, run_script, wait_until


@pytest.fixture(scope="module")
def random_bytes() -> bytes:
    return os.urandom(5 * MB)


@pytest.fixture(scope="module")
def executor() -> Iterator[ContextExecutor]:
    with ContextExecutor(max_workers=1, history=None) as executor:
        executor.submit(functions.pid).result(GENEROUS_S)
        # Its process belongs to no test, nor does the thread that looks at it for the first time a moment later.
        wait_until(lambda: executor.stats().contexts[0].memory_bytes > 0, "the node has looked")
        yield executor


@task(mode="fork")
def forked(value: Any) -> Any:
    return value


@pytest.fixture(autouse=True)
def nothing_held() -> Iterator[None]:
    """No test leaves a large value."""
    yield
    gc.collect()
    BLOBS.forget_recent()
    wait_until(lambda: not BLOBS.live, "no blob is left")
    assert not kept.arrivals


def identity(value: Any) -> int:
    return id(value)


def as_it_came(*values: Any, **named: Any) -> Any:
    return values, named


def change_first(array: Any) -> Any:
    """Return whether the argument could be changed, and what it is then."""
    array[0] += 1
    return array


def is_writable(value: Any) -> bool:
    return bool(value["array"].flags.writeable)


def nested_sum(values: Any) -> int:
    return int(sum(value["array"][-1] for value in values))


def open_maps() -> int:
    return Path("/proc/self/maps").read_text().count("envpack-value")


def large_array(size: int) -> Any:
    return np.arange(size, dtype=np.uint8)


# --- arguments


@pytest.mark.parametrize(
    "make",
    [
        lambda data: data,
        bytearray,
        lambda data: "ä€\udc80" * (len(data) // 8),
        lambda data: [data[:10]] * 500_000,
        lambda data: {"nested": [data, {"again": data[: 2 * MB]}]},
        lambda data: np.frombuffer(data, dtype=np.uint8).reshape(-1, 1000),
        lambda data: np.asfortranarray(np.frombuffer(data, dtype=np.uint8).reshape(-1, 1000)),
        lambda data: np.frombuffer(data, dtype=np.uint8)[::2],
    ],
    ids=["bytes", "bytearray", "str", "list", "nested", "array", "fortran", "strided"],
)
def test_a_large_argument_and_result_are_what_was_sent(
    executor: ContextExecutor, random_bytes: bytes, make: Any
) -> None:
    value = make(random_bytes)
    (first, second), named = executor.submit(as_it_came, value, 1, word=value).result(GENEROUS_S)
    for each in (first, named["word"]):
        assert type(each) is type(value)
        assert np.array_equal(each, value) if isinstance(value, np.ndarray) else each == value
    assert second == 1


def test_a_call_changes_its_own_copy_of_an_argument(executor: ContextExecutor) -> None:
    array = np.zeros(2 * MB, dtype=np.uint8)
    results = [executor.submit(change_first, array) for _ in range(3)]
    assert [int(result.result(GENEROUS_S)[0]) for result in results] == [1, 1, 1]
    assert array[0] == 0
    result = results[0].result()
    result[:] = 7  # what came back is the caller's own
    assert int(results[1].result()[0]) == 1


def test_an_argument_that_could_not_be_written_still_cannot(executor: ContextExecutor) -> None:
    array = np.zeros(2 * MB, dtype=np.uint8)
    array.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        executor.submit(change_first, array).result(GENEROUS_S)


def test_what_is_sent_is_the_value_at_the_moment_of_submit(executor: ContextExecutor) -> None:
    array = np.zeros(2 * MB, dtype=np.uint8)
    futures = []
    for number in range(4):
        array[-1] = number
        futures.append(executor.submit(as_it_came, array))
    assert [int(future.result(GENEROUS_S)[0][0][-1]) for future in futures] == [0, 1, 2, 3]


def test_equal_large_arguments_are_one_blob_whatever_stands_beside_them(random_bytes: bytes) -> None:
    payloads = [dump_arguments((random_bytes, number), {}) for number in range(3)]
    payloads += [dump_arguments((bytes(bytearray(random_bytes)),), {"other": 1})]
    names = {blob.name for payload in payloads if isinstance(payload, LargePayload) for blob in payload.blobs}
    assert len(names) == 1
    assert all(len(payload) < 1000 for payload in payloads)


def test_values_that_differ_in_one_byte_that_no_sample_saw_are_two(random_bytes: bytes) -> None:
    other = bytearray(random_bytes)
    other[len(other) // 32 + 8000] ^= 1
    names = [dump_arguments((value,), {}) for value in (random_bytes, bytes(other))]
    assert len(BLOBS.live) == 2
    assert names[0] != names[1]


@pytest.mark.parametrize("size", [LARGE_BYTES - 1000, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1])
def test_sizes_around_the_limit_make_no_difference(executor: ContextExecutor, size: int) -> None:
    ((array, data), _) = executor.submit(as_it_came, large_array(size), bytes(size)).result(GENEROUS_S)
    assert np.array_equal(array, large_array(size))
    assert data == bytes(size)


def test_an_argument_that_cannot_be_pickled_says_so_at_submit(executor: ContextExecutor, random_bytes: bytes) -> None:
    with pytest.raises(TypeError, match="pickle"):
        executor.submit(as_it_came, random_bytes, sys._getframe())


def test_what_functions_capture_may_be_large_and_is_never_stale() -> None:
    array = np.zeros(2 * MB, dtype=np.uint8)

    def last() -> int:
        return int(array[-1])

    seen = []
    with ContextExecutor(max_workers=1) as executor:
        for number in range(3):
            array[-1] = number
            seen.append(executor.submit(last).result(GENEROUS_S))
    assert seen == [0, 1, 2]


def test_a_large_captured_value_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    table, small = np.zeros(12 * MB, dtype=np.uint8), np.zeros(10, dtype=np.uint8)

    def last() -> int:
        return int(table[-1]) + len(small)

    with ContextExecutor(max_workers=1) as executor:
        for number in range(2):
            table[-1] = number
            assert executor.submit(last).result(GENEROUS_S) == 10 + number
    (line,) = [record.getMessage() for record in caplog.records if "takes" in record.getMessage()]
    assert "last' takes 12 MB along, most of it as 'table' (12 MB)" in line
    assert "executor.put" in line


def test_what_functions_captured_earlier_is_let_go_everywhere() -> None:
    array = np.zeros(2 * MB, dtype=np.uint8)

    def last() -> int:
        return int(array[-1])

    with ContextExecutor(max_workers=1) as executor:
        for number in range(9):
            array[-1] = number
            assert executor.submit(last).result(GENEROUS_S) == number
        BLOBS.forget_recent()
        wait_until(lambda: len(BLOBS.live) <= 5, "the client holds the latest alone")
        wait_until(lambda: executor.submit(open_maps).result(GENEROUS_S) <= 5, "so does the process")


# --- kept values


def test_a_kept_value_is_unpickled_once_in_a_process_and_cannot_be_written(executor: ContextExecutor) -> None:
    value = {"array": large_array(3 * MB), "list": [1, 2]}
    reference = executor.put(value)
    assert isinstance(reference, Kept)
    assert reference.size_bytes > 3 * MB
    assert len({executor.submit(identity, reference).result(GENEROUS_S) for _ in range(3)}) == 1
    assert executor.submit(is_writable, reference).result(GENEROUS_S) is False
    assert executor.submit(nested_sum, [reference, {"array": [1]}]).result(GENEROUS_S) == 1 + value["array"][-1]
    assert np.array_equal(reference.get()["array"], value["array"])


def test_equal_kept_values_are_one_and_small_ones_are_allowed(executor: ContextExecutor) -> None:
    one, other = executor.put([1, 2, 3]), executor.put([1, 2, 3])
    assert one is other
    assert executor.put([1, 2, 4]) is not one
    assert executor.submit(functions.double, one).result(GENEROUS_S) == [1, 2, 3, 1, 2, 3]
    assert pickle.loads(pickle.dumps(one)) is one
    assert "bytes" in repr(one)


def test_a_kept_value_may_hold_others(executor: ContextExecutor) -> None:
    inner = executor.put({"array": large_array(2 * MB)})
    outer = executor.put([inner, inner])
    expected = 2 * int(large_array(2 * MB)[-1])
    del inner
    assert executor.submit(nested_sum, outer).result(GENEROUS_S) == expected


def load(reference: Any) -> dict[str, Any]:
    return {"table": reference}


def test_a_kept_value_reaches_the_set_up_function() -> None:
    with ContextExecutor(max_workers=1) as executor:

        @task(context=(load, executor.put(list(range(10)))))
        def total(table: list[int]) -> int:
            return sum(table)

        assert [executor.submit(total).result(GENEROUS_S) for _ in range(2)] == [45, 45]
        assert executor.stats().set_ups == 1


def test_a_kept_value_is_freed_when_nobody_needs_it(executor: ContextExecutor, tmp_path: Path) -> None:
    reference = executor.put(os.urandom(3 * MB))
    gate = tmp_path / "gate"
    waiting = executor.submit(functions.wait_for, str(gate))
    using = executor.submit(len, reference)
    del reference
    gc.collect()
    gate.touch()
    assert using.result(GENEROUS_S) == 3 * MB
    assert waiting.done()
    wait_until(lambda: not BLOBS.live, "no blob is left")
    wait_until(lambda: executor.submit(open_maps).result(GENEROUS_S) == 0, "the process has let it go")


def test_a_reference_is_of_no_use_where_its_value_was_never_sent() -> None:
    with pytest.raises(LookupError, match="not known here"):
        kept.value("nonsense")


# --- results, memory, descriptors


def test_large_values_pass_into_and_out_of_a_child(executor: ContextExecutor, random_bytes: bytes) -> None:
    array = large_array(3 * MB)
    for value in (random_bytes, array, executor.put(array)):
        result = executor.submit(forked, value).result(GENEROUS_S)
        assert result == value if value is random_bytes else np.array_equal(result, array)


def test_ends_of_calls_free_their_arguments_although_the_futures_are_kept(executor: ContextExecutor) -> None:
    futures = [executor.submit(len, os.urandom(2 * MB)) for _ in range(5)]
    assert {future.result(GENEROUS_S) for future in futures} == {2 * MB}
    BLOBS.forget_recent()
    wait_until(lambda: not BLOBS.live, "no blob is left")


def test_a_cancelled_call_frees_its_arguments(executor: ContextExecutor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    waiting = executor.submit(functions.wait_for, str(gate))
    future = executor.submit(lambda data: len(data), os.urandom(2 * MB))
    assert future.cancel()
    BLOBS.forget_recent()
    assert not BLOBS.live
    gate.touch()
    assert waiting.result(GENEROUS_S)


def test_many_values_need_few_descriptors(executor: ContextExecutor) -> None:
    before = len(os.listdir("/proc/self/fd"))
    references = [executor.put([number] * 100) for number in range(2000)]
    assert len(os.listdir("/proc/self/fd")) - before <= 2
    assert executor.submit(as_it_came, *references[::100]).result(GENEROUS_S)[0][1] == [100] * 100
    assert len({id(reference) for reference in references}) == 2000


def test_too_large_a_value_is_an_error_of_the_call(
    executor: ContextExecutor, random_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(segments.kept, "available_bytes", lambda: MB)
        with pytest.raises(MemoryError, match="bytes of memory available"):
            executor.submit(len, random_bytes)
    assert executor.submit(len, random_bytes).result(GENEROUS_S) == len(random_bytes)


@task(mode="fresh")
def fill_memory(module: str, value: Any) -> Any:
    """Return something large where there is no memory; `value` has brought the module."""
    sys.modules[module].available_bytes = lambda: 10  # type: ignore[attr-defined]
    return np.zeros(3 * MB, dtype=np.uint8)


def test_too_large_a_result_is_an_error_of_the_call(executor: ContextExecutor) -> None:
    with pytest.raises(MemoryError, match="10 bytes of memory available"):
        executor.submit(fill_memory, kept.ALIAS, executor.put(1)).result(GENEROUS_S)


class Bomb:
    """Cannot be unpickled."""

    def __reduce__(self) -> Any:
        return int, ("no number", np.zeros(2 * MB, dtype=np.uint8))


def explode() -> Any:
    return Bomb()


def test_a_large_result_that_cannot_be_unpickled_harms_its_own_call_alone(executor: ContextExecutor) -> None:
    bad, good = executor.submit(explode), executor.submit(large_array, 2 * MB)
    with pytest.raises(ExecutorError, match="could not be unpickled"):
        bad.result(GENEROUS_S)
    assert len(good.result(GENEROUS_S)) == 2 * MB


def test_nothing_is_left_of_large_values_when_everybody_is_killed(tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        from envpack_executor import ContextExecutor

        if __name__ == "__main__":
            executor = ContextExecutor(max_workers=1)
            reference = executor.put(os.urandom(20_000_000))
            print(executor.submit(len, reference).result(), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    before = set(os.listdir("/dev/shm"))
    with pytest.raises(AssertionError, match="-9"):
        run_script(tmp_path, script)
    assert set(os.listdir("/dev/shm")) - before == set()
