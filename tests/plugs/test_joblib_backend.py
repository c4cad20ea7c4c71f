"""The joblib backend: what comes back is what was asked for, large arrays travel once, and nothing runs on."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from pickle import PicklingError
from typing import Any

import dateutil.tz
import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config

import envpack_executor.joblib
from envpack_executor import ContextExecutor, RemoteNodes
from envpack_executor.joblib import EnvpackBackend
from envpack_executor.joblib.sharing import RETAINED, SHARED
from envpack_executor.values.blobs import BLOBS
from tests.executor.helpers import GENEROUS_S, MB, run_script, wait_until
from tests.plugs import joblib_suite as suite


@pytest.fixture(scope="module", autouse=True)
def warm() -> Iterator[None]:
    """Two processes that all tests here share; those that end processes bring an executor of their own."""
    wait_until(lambda: len(set(run((delayed(slow_pid)() for _ in range(4)), batch_size=1))) == 2, "both processes run")
    executor = SHARED.take(2, {"history": None})
    SHARED.give_back(executor)
    wait_until(lambda: executor.stats().contexts[0].memory_bytes > 0, "the thread that looks at them runs")
    yield
    envpack_executor.joblib.shutdown()


@pytest.fixture(autouse=True)
def nothing_retained(nothing_left_behind: None) -> Iterator[None]:
    """Arrays stay for the next call, but not for the next test."""
    yield
    RETAINED.clear()
    BLOBS.forget_recent()


@pytest.fixture
def own() -> Iterator[ContextExecutor]:
    """An executor whose processes may end, chosen for all `Parallel` calls."""
    with ContextExecutor(max_workers=2) as executor, parallel_config(backend="envpack", executor=executor, n_jobs=2):
        yield executor


@pytest.fixture
def array() -> Any:
    return np.random.default_rng(7).random(3 * MB // 8)


def run(calls: Any, **said: Any) -> list[Any]:
    results: list[Any] = Parallel(**{"n_jobs": 2, "backend": "envpack", "history": None, **said})(calls)
    return results


def seen(array: Any) -> tuple[str, bool, float]:
    return type(array).__name__, array.flags.writeable, float(array.sum())


def where(_: int) -> tuple[int, int]:
    return os.getpid(), id(where)


def write(array: Any, index: int) -> None:
    array[index] = index + 1


def mark(folder: str, seconds: float) -> None:
    """Say that a call runs, for so long."""
    path = Path(folder, f"{os.getpid()}-{time.monotonic_ns()}")
    path.touch()
    time.sleep(seconds)
    path.unlink()


def prefix_and_sum(array: Any) -> tuple[str, float]:
    return sys.prefix, float(np.sum(array))


def fail(index: int, seconds: float) -> None:
    if index == 0:
        raise LookupError("not here")
    time.sleep(seconds)


def slow_pid() -> int:
    time.sleep(0.2)
    return os.getpid()


def leave_mark(text: str) -> None:
    os.environ["MARK"] = text


# --- what comes back


def test_results_come_in_order_and_processes_stay_for_the_next_call() -> None:
    assert run(delayed(divmod)(number, 3) for number in range(50)) == [divmod(number, 3) for number in range(50)]
    first, second = ({pid for pid, _ in run(map(delayed(where), range(20)))} for _ in range(2))

    assert os.getpid() not in first
    assert first == second or first & second


def test_lambdas_and_what_they_capture_travel() -> None:
    offset = 5

    assert run(delayed(lambda number: number + offset)(number) for number in range(3)) == [5, 6, 7]


def test_an_error_has_the_traceback_of_the_other_process() -> None:
    with pytest.raises(LookupError, match="not here") as caught:
        run(delayed(fail)(index, 0) for index in range(2))

    assert "in fail" in str(caught.value.__cause__)


@pytest.mark.usefixtures("own")
def test_an_error_ends_what_runs_and_the_next_call_works() -> None:
    started = time.monotonic()
    with Parallel() as parallel:
        with pytest.raises(LookupError):
            parallel(delayed(fail)(index, 10 * GENEROUS_S) for index in range(4))
        assert parallel(delayed(abs)(-number) for number in range(3)) == [0, 1, 2]

    assert time.monotonic() - started < 5 * GENEROUS_S


def test_what_cannot_be_pickled_is_an_error_and_no_silence() -> None:
    def late() -> Iterator[Any]:
        for number in range(40):
            yield delayed(type)(threading.Lock() if number == 30 else number)

    with pytest.raises(PicklingError, match="could not pickle the task"):
        run(late())


@pytest.mark.usefixtures("own")
def test_results_can_be_taken_as_they_come_and_dropped() -> None:
    results = Parallel(return_as="generator_unordered")(
        delayed(time.sleep)(10 * GENEROUS_S * (number == 1)) for number in range(4)
    )
    assert [next(results) for _ in range(3)] == [None, None, None]
    with pytest.warns(UserWarning, match="still being processed"):
        del results


def test_no_more_batches_run_at_once_than_jobs_were_asked_for(tmp_path: Path) -> None:
    most, is_over = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not is_over.wait(0.005):
            most = max(most, len(os.listdir(tmp_path / "running")))

    (tmp_path / "running").mkdir()
    watcher = threading.Thread(target=watch)
    watcher.start()
    with ContextExecutor(max_workers=4) as executor, parallel_config(backend="envpack", executor=executor, n_jobs=2):
        Parallel(batch_size=1)(delayed(mark)(str(tmp_path / "running"), 0.05) for _ in range(12))
    is_over.set()
    watcher.join()

    assert 1 <= most <= 2


# --- arrays


def test_a_large_array_arrives_read_only_and_mapped_and_is_one_blob(array: Any) -> None:
    before = set(BLOBS.live)
    found = run((delayed(seen)(array) for _ in range(6)), batch_size=1)

    assert found == [("memmap", False, float(array.sum()))] * 6
    assert sum(BLOBS.live[name].size for name in set(BLOBS.live) - before) < 1.1 * array.nbytes


def test_an_array_stays_on_its_node_until_it_is_gone_or_changed(array: Any) -> None:
    run(delayed(seen)({"nested": [array]}["nested"][0]) for _ in range(2))
    names = set(BLOBS.live)
    run(delayed(seen)(array) for _ in range(2))
    assert names <= set(BLOBS.live)
    assert len(set(BLOBS.live) - names) == 0

    array[0] += 1
    assert run(delayed(seen)(array) for _ in range(2)) == [("memmap", False, float(array.sum()))] * 2

    del array
    BLOBS.forget_recent()
    wait_until(lambda: not names & set(BLOBS.live), "the array has left the memory")


def test_other_modes_give_each_call_a_copy_of_its_own(array: Any) -> None:
    for said in ({"mmap_mode": "c"}, {"mmap_mode": None}, {"max_nbytes": None}):
        found = run((delayed(seen)(array) for _ in range(3)), **said)
        assert found == [("ndarray", True, float(array.sum()))] * 3


def test_a_small_array_that_comes_again_travels_once_and_as_it_is_now() -> None:
    array = np.random.default_rng(7).random(20_000)
    before = set(BLOBS.live)
    found = run((delayed(seen)(array) for _ in range(8)), batch_size=1)
    assert found == [("ndarray", True, float(array.sum()))] * 8
    assert sum(BLOBS.live[name].size for name in set(BLOBS.live) - before) < 1.1 * array.nbytes

    def changed() -> Iterator[Any]:
        for number in range(6):
            array[0] = number
            yield delayed(lambda array: array[0])(array)

    # joblib takes two tasks at a time from the iterator, and then sends them.
    assert run(changed(), batch_size=1, pre_dispatch="all") == [1, 1, 3, 3, 5, 5]


def test_with_a_folder_arrays_are_files_there_and_removed(array: Any, tmp_path: Path) -> None:
    folder = tmp_path / "arrays"
    folder.mkdir()
    with Parallel(n_jobs=2, backend="envpack", temp_folder=str(folder), mmap_mode="r+", history=None) as parallel:
        assert parallel(delayed(seen)(array) for _ in range(3)) == [("memmap", True, float(array.sum()))] * 3
        assert len(list(folder.glob("*/*"))) == 1

    assert list(folder.iterdir()) == []


def test_calls_write_into_a_file_that_the_client_has_mapped(tmp_path: Path) -> None:
    output = np.memmap(tmp_path / "output", dtype=float, shape=(4, 3), mode="w+")
    run(delayed(write)(output, index) for index in range(4))
    run(delayed(write)(output[:, 0], index) for index in range(4))

    assert output.tolist() == [[number, number, number] for number in (1, 2, 3, 4)]


def test_a_part_of_a_mapped_array_comes_back_as_an_array(array: Any) -> None:
    parts = run(delayed(lambda array, at: array[at : at + 3])(array, at) for at in (0, 5))

    assert [type(part) for part in parts] == [np.ndarray, np.ndarray]
    assert np.array_equal(parts[1], array[5:8])


# --- processes


def test_processes_are_prepared_as_joblib_promises(own: ContextExecutor) -> None:
    said = {"inner_max_num_threads": 3, "initializer": leave_mark, "initargs": ("1",)}
    with parallel_config(backend="envpack", n_jobs=2, executor=own, **said):
        found = Parallel()(delayed(os.getenv)(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MARK"))

    assert found == ["3", "3", "1"]


def test_an_executor_of_ones_own_is_used_and_left_alone(own: ContextExecutor) -> None:
    assert joblib.effective_n_jobs(-1) == 2
    assert Parallel(n_jobs=-1)(delayed(abs)(-number) for number in range(5)) == [0, 1, 2, 3, 4]

    assert "builtins.abs" in own.stats().categories
    assert own.submit(abs, -1).result(GENEROUS_S) == 1


def test_options_that_cannot_hold_are_refused() -> None:
    with pytest.raises(TypeError, match="expected a ContextExecutor"):
        EnvpackBackend(executor=object())  # type: ignore[arg-type]
    with ContextExecutor(max_workers=1) as executor, pytest.raises(TypeError, match="memory given with executor"):
        EnvpackBackend(executor=executor, memory="1GB")
    with pytest.raises(ValueError, match="n_jobs == 0"):
        EnvpackBackend().effective_n_jobs(0)


def test_an_open_generator_does_not_keep_the_interpreter(tmp_path: Path) -> None:
    printed = run_script(
        tmp_path,
        """
        import time, warnings
        warnings.simplefilter("ignore")
        from joblib import Parallel, delayed
        import envpack_executor.joblib

        results = Parallel(n_jobs=2, backend="envpack", return_as="generator")(delayed(abs)(-n) for n in range(4))
        print(next(results))
        """,
    )

    assert printed == "0\n"


def test_a_fork_of_the_client_makes_an_executor_of_its_own() -> None:
    run(delayed(abs)(-number) for number in range(2))
    read, written = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(written, str(run(delayed(abs)(-number) for number in range(3))).encode())
            envpack_executor.joblib.shutdown()
        finally:
            os._exit(0)
    os.close(written)
    os.waitpid(child, 0)
    with open(read) as answer:
        assert answer.read() == "[0, 1, 2]"
    assert run(delayed(abs)(-number) for number in range(2)) == [0, 1]


# --- other nodes, scikit-learn


def test_a_search_brings_its_training_data_to_a_node_once(start_worker: Any) -> None:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV, cross_val_score

    generator = np.random.default_rng(7)
    features, target = generator.random((40_000, 12)), generator.random(40_000)
    nodes = RemoteNodes()
    with ContextExecutor(nodes=nodes) as executor:
        start_worker(nodes.address, nodes.key_file, "--cores", "2")
        with parallel_config(backend="envpack", executor=executor, n_jobs=2):
            before = set(BLOBS.live)
            search = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2).fit(features, target)
            scores = cross_val_score(Ridge(), features, target, cv=2)
            held = sum(BLOBS.live[name].size for name in set(BLOBS.live) - before)

    # With the target, and the indices of two folds.
    assert held < 1.3 * features.nbytes
    assert search.best_params_ == GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2).fit(features, target).best_params_
    assert np.allclose(scores, cross_val_score(Ridge(), features, target, cv=2))


@pytest.mark.slow
def test_tasks_run_in_an_environment_that_was_discovered_for_them(array: Any) -> None:
    with (
        ContextExecutor(max_workers=1, environment="auto") as executor,
        parallel_config(backend="envpack", executor=executor, n_jobs=2),
    ):
        found = Parallel()(delayed(prefix_and_sum)(array) for _ in range(2))

    assert {total for _, total in found} == {float(array.sum())}
    assert sys.prefix not in {prefix for prefix, _ in found}


@pytest.mark.slow
def test_an_environment_has_what_any_argument_of_any_task_names() -> None:
    with (
        ContextExecutor(max_workers=1, environment="auto") as executor,
        parallel_config(backend="envpack", executor=executor, n_jobs=1),
    ):
        found = Parallel()(delayed(repr)(each) for each in (1, [dateutil.tz.tzutc()], {"deep": (dateutil.tz.tzutc(),)}))

    assert found == ["1", "[tzutc()]", "{'deep': (tzutc(),)}"]


# --- joblib's own tests


@pytest.mark.slow
def test_joblibs_own_tests_pass_with_our_backend(tmp_path: Path) -> None:
    # Those of one kind each; `make joblib-suite` runs them all.
    done = suite.run(tmp_path, ["-k", "envpack and (leaks or limit)"], GENEROUS_S * 3)

    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
