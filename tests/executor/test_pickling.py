"""What the client sends: by value or by name, once for as long as nothing changed, never stale."""

from __future__ import annotations

import gc
import pickle
import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from envpack_executor.errors import RemoteError, RemoteTraceback, ResultError
from envpack_executor.pickling import FunctionPickler, dump, dump_arguments, load_failure, load_outcome
from tests.executor import functions


@pytest.fixture
def pickler() -> FunctionPickler:
    return FunctionPickler()


def run(pickler: FunctionPickler, function: Callable[..., Any], *args: Any) -> Any:
    """Call what another process would call."""
    return pickle.loads(pickler.pickle(function).payload)(*args)


def in_main(source: str, **values: Any) -> dict[str, Any]:
    """Run `source` as if it stood in the user's script and return its globals."""
    namespace = {"__name__": "__main__", **values}
    exec(source, namespace)
    return namespace


def test_a_function_of_an_importable_module_is_pickled_once_and_by_name(pickler: FunctionPickler) -> None:
    first = pickler.pickle(functions.add)
    assert pickler.pickle(functions.add) is first
    assert pickle.loads(first.payload) is functions.add
    assert len(first.payload) < 100


def test_a_function_whose_captures_cannot_change_is_pickled_once(pickler: FunctionPickler) -> None:
    bias = (1, "two", b"three", None)

    def function(value: int, offset: int = 3) -> Any:
        return value, offset, bias, sys.maxsize

    assert pickler.pickle(function) is pickler.pickle(function)


def test_a_changed_closure_cell_is_never_stale(pickler: FunctionPickler) -> None:
    factor = 2

    def function(value: int) -> int:
        return factor * value

    assert run(pickler, function, 10) == 20
    factor = 3
    assert run(pickler, function, 10) == 30


def test_a_changed_global_is_never_stale(pickler: FunctionPickler) -> None:
    script = in_main("factor = 2\ndef function(value): return factor * value")
    assert run(pickler, script["function"], 10) == 20
    script["factor"] = 3
    assert run(pickler, script["function"], 10) == 30


def test_a_global_that_appears_later_is_never_stale(pickler: FunctionPickler) -> None:
    script = in_main("def function(): return late")
    with pytest.raises(NameError):
        run(pickler, script["function"])
    script["late"] = 5
    assert run(pickler, script["function"]) == 5


@pytest.mark.parametrize("attribute", ["__defaults__", "__kwdefaults__"])
def test_a_changed_default_is_never_stale(pickler: FunctionPickler, attribute: str) -> None:
    script = in_main("def function(a=1, *, b=1): return a, b")
    function = script["function"]
    assert run(pickler, function) == (1, 1)
    setattr(function, attribute, (2,) if attribute == "__defaults__" else {"b": 2})
    assert run(pickler, function) == function()


def test_changed_code_is_never_stale(pickler: FunctionPickler) -> None:
    script = in_main("def function(): return 1\ndef other(): return 2")
    assert run(pickler, script["function"]) == 1
    script["function"].__code__ = script["other"].__code__
    assert run(pickler, script["function"]) == 2


def test_a_changed_attribute_of_a_function_is_never_stale(pickler: FunctionPickler) -> None:
    script = in_main("def function(): return function.limit\nfunction.limit = 1")
    function = script["function"]
    assert run(pickler, function) == 1
    function.limit = 2
    assert run(pickler, function) == 2
    function.limit = [3]
    assert run(pickler, function) == [3]
    function.limit.append(4)
    assert run(pickler, function) == [3, 4]


@pytest.mark.parametrize("change", ["values.append(3)", "values = [9]"])
def test_a_mutable_global_is_never_stale(pickler: FunctionPickler, change: str) -> None:
    script = in_main("values = [1, 2]\ndef function(): return list(values)")
    assert run(pickler, script["function"]) == [1, 2]
    exec(change, script)
    assert run(pickler, script["function"]) == script["values"]


def test_a_mutable_value_inside_a_tuple_is_never_stale(pickler: FunctionPickler) -> None:
    script = in_main("values = ([1], 2)\ndef function(): return values")
    assert run(pickler, script["function"]) == ([1], 2)
    script["values"][0].append(3)
    assert run(pickler, script["function"]) == ([1, 3], 2)


def test_a_method_of_a_mutable_object_is_never_stale(pickler: FunctionPickler) -> None:
    table = {"a": 1}
    lookup = table.get

    def function(key: str) -> Any:
        return lookup(key)

    assert run(pickler, function, "a") == 1
    table["a"] = 2
    assert run(pickler, function, "a") == 2


@pytest.mark.parametrize("change", ["factor = 3", "def helper(value): return 3 * value"])
def test_what_a_helper_captures_is_never_stale(pickler: FunctionPickler, change: str) -> None:
    source = "factor = 2\ndef helper(value): return factor * value\ndef function(value): return helper(value)"
    script = in_main(source)
    assert run(pickler, script["function"], 10) == 20
    exec(change, script)
    assert run(pickler, script["function"], 10) == 30


def test_a_global_named_only_inside_a_nested_function_is_never_stale(pickler: FunctionPickler) -> None:
    script = in_main("factor = 2\ndef function(value): return [(lambda: factor * each)() for each in value]")
    assert run(pickler, script["function"], [1]) == [2]
    script["factor"] = 3
    assert run(pickler, script["function"], [1]) == [3]


def test_a_class_of_the_script_is_never_stale(pickler: FunctionPickler) -> None:
    script = in_main("class Model:\n    size = 1\ndef function(): return Model.size")
    assert run(pickler, script["function"]) == 1
    script["Model"].size = 2
    assert run(pickler, script["function"]) == 2


def test_functions_that_name_each_other_are_pickled_once(pickler: FunctionPickler) -> None:
    source = """
def even(number): return number == 0 or odd(number - 1)
def odd(number): return number != 0 and even(number - 1)
"""
    script = in_main(source)
    assert run(pickler, script["even"], 10) is True
    assert pickler.pickle(script["even"]) is pickler.pickle(script["even"])


def test_partials_and_bound_methods_are_pickled_anew_each_time(pickler: FunctionPickler) -> None:
    values = [1]
    bound = partial(functions.keywords, values=values)
    assert run(pickler, bound) == {"values": [1]}
    values.append(2)
    assert run(pickler, bound) == {"values": [1, 2]}
    counter = Counter()
    assert run(pickler, counter.value) == 0
    counter.count = 5
    assert run(pickler, counter.value) == 5


def test_equal_functions_have_equal_digests_and_changed_ones_do_not(pickler: FunctionPickler) -> None:
    def make(factor: int) -> Callable[[int], int]:
        return lambda value: factor * value

    assert pickler.pickle(make(2)).digest == FunctionPickler().pickle(make(2)).digest
    assert pickler.pickle(make(2)).digest != pickler.pickle(make(3)).digest


def test_a_function_that_is_collected_is_forgotten(pickler: FunctionPickler) -> None:
    for number in range(50):
        pickler.pickle(lambda number=number: number)
    gc.collect()
    assert not pickler._pickled


def test_functions_of_a_module_travel_by_value_where_they_cannot_be_imported(pickler: FunctionPickler) -> None:
    module = types.ModuleType("only_here")
    sys.modules["only_here"] = module
    try:
        exec("factor = 2\ndef helper(): return factor\ndef function(): return helper()", module.__dict__)
        by_name, by_value = pickler.pickle(module.function), pickler.pickle(module.function, "only_here")
        assert pickler.pickle(module.function) is by_name
        module.factor = 3  # type: ignore[attr-defined]
        changed = pickler.pickle(module.function, "only_here")
    finally:
        del sys.modules["only_here"]
    assert pickle.loads(by_value.payload)() == 2
    assert pickle.loads(changed.payload)() == 3
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(by_name.payload)


def test_arguments_are_taken_as_they_are_when_they_are_dumped() -> None:
    values = [1]
    data = dump_arguments((values,), {"key": values})
    values.append(2)
    assert pickle.loads(data) == (([1],), {"key": [1]})
    assert dump_arguments((), {}) is dump_arguments((), {})


def test_values_that_merely_spell_main_survive() -> None:
    assert pickle.loads(dump({"name": "__main__"})) == {"name": "__main__"}


def test_outcomes_are_values_or_errors_and_never_raise() -> None:
    assert load_outcome(None) == (None, None)
    assert load_outcome(pickle.dumps(5)) == (5, None)
    value, error = load_outcome(b"no pickle")
    assert value is None
    assert isinstance(error, ResultError)


@pytest.mark.parametrize("payload", [None, b"no pickle", pickle.dumps("no exception")])
def test_a_failure_that_cannot_be_rebuilt_becomes_a_stand_in(payload: bytes | None) -> None:
    error = load_failure((payload, "their.Error", "what they said", "Traceback ..."))
    assert isinstance(error, RemoteError)
    assert "their.Error: what they said" in str(error)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "Traceback ..." in str(error.__cause__)


class Counter:
    count = 0

    def value(self) -> int:
        return self.count
