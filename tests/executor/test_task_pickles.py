"""A task that somebody else's pickler carries by value keeps its options, and needs no envpack to be opened."""

from __future__ import annotations

import pickle
import subprocess
import sys

import cloudpickle

from envpack_executor import ContextExecutor, Task, task
from envpack_executor.pickling import dump
from envpack_executor.tasks import INHERIT, revived
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S


def make() -> Task[[int], int]:
    offset = 5

    def set_up(start: int) -> dict[str, int]:
        return {"base": start + offset}

    @task(context=(set_up, 100), category="adding", retries=2)
    def add(number: int, base: int = 0) -> int:
        return number + base

    return add


def test_a_task_by_value_is_revived_with_its_options() -> None:
    ours = make()
    copy = revived(pickle.loads(cloudpickle.dumps(ours)))
    assert isinstance(copy, Task)
    assert (copy.options.category, copy.options.retries, copy.options.setup_args) == ("adding", 2, (100,))
    assert copy.options.environment is INHERIT
    with ContextExecutor(1) as executor:
        assert executor.submit(copy, 7).result(GENEROUS_S) == 112


def test_copies_of_a_task_share_one_context() -> None:
    payload = cloudpickle.dumps(make())
    with ContextExecutor(1) as executor:
        futures = [executor.submit(revived(pickle.loads(payload)), number) for number in range(5)]
        assert [future.result(GENEROUS_S) for future in futures] == [105, 106, 107, 108, 109]
        assert executor.stats().set_ups == 1


def test_a_task_by_value_opens_where_there_is_no_envpack() -> None:
    payload = cloudpickle.dumps(task(category="plain")(lambda number: number * 2))
    program = "import pickle, sys; sys.modules['envpack_executor'] = None; "
    program += "print(pickle.load(sys.stdin.buffer)(21))"
    outcome = subprocess.run([sys.executable, "-c", program], input=payload, capture_output=True, timeout=60)
    assert (outcome.stdout, outcome.stderr) == (b"42\n", b"")


def test_our_own_picklers_send_the_bare_function() -> None:
    ours = make()
    assert b"adding" not in dump(ours)
    assert b"adding" in cloudpickle.dumps(ours)


def test_a_task_of_a_module_is_pickled_by_its_name() -> None:
    assert pickle.loads(cloudpickle.dumps(functions.infer)) is functions.infer


def test_what_is_no_task_is_not_touched() -> None:
    assert revived(abs) is abs
