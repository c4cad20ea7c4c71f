"""The call inside a task of Dask is found, whatever Dask has wrapped around it."""

from __future__ import annotations

import functools
import operator
import pickle
from typing import Any

import cloudpickle
from dask._task_spec import Alias, DataNode, Dict, List, Task, TaskRef

from envpack_executor import task
from envpack_executor.dask.calls import call_of


def add(*numbers: int, **named: int) -> int:
    return sum(numbers) + sum(named.values())


def found(node: Any, values: dict[str, Any] | None = None) -> tuple[Any, tuple[Any, ...], dict[str, Any]] | None:
    call = call_of(node, (values or {},), {})
    return None if call is None else (call.function, call.args, call.kwargs)


def test_values_of_other_tasks_take_the_places_of_their_references() -> None:
    node = Task("sum", add, 1, TaskRef("x"), named=TaskRef("y"))
    assert found(node, {"x": 2, "y": 3}) == (add, (1, 2), {"named": 3})


def test_containers_are_filled() -> None:
    node = Task("sum", add, List(1, TaskRef("x"), Dict({"a": TaskRef("x")})))
    assert found(node, {"x": 2}) == (add, ([1, 2, {"a": 2}],), {})


def test_what_calls_nothing_is_no_call() -> None:
    assert found(DataNode("value", 3)) is None
    assert found(Alias("other", "value"), {"value": 3}) is None


def test_a_node_inside_which_other_calls_stand_is_called_as_a_whole() -> None:
    node = Task("outer", add, Task(None, add, 1, TaskRef("x")))
    call = call_of(node, ({"x": 2},), {})
    assert call is not None
    assert call.function is operator.call
    assert call.function(*call.args) == 3


def test_the_node_itself_stays_as_it_is() -> None:
    node = Task("sum", add, 1)
    found(node)
    assert node({}) == 1


def test_wrappers_of_the_standard_library_are_taken_off() -> None:
    node = Task("sum", functools.partial(functools.partial(add, 1, named=5), named=6), 2)
    assert found(node) == (add, (1, 2), {"named": 6})


def test_a_task_that_travelled_by_value_is_one_again() -> None:
    travelled = pickle.loads(cloudpickle.dumps(task(category="mine")(lambda number: number)))
    call = call_of(Task("one", functools.partial(travelled, 7)), ({},), {})
    assert call is not None
    assert call.function.options.category == "mine"
    assert call.args == (7,)


def test_a_bare_function_of_older_versions_of_dask_is_its_own_call() -> None:
    call = call_of(add, (1, 2), {"named": 3})
    assert call is not None
    assert (call.function, call.args, call.kwargs) == (add, (1, 2), {"named": 3})
