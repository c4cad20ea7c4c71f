"""Equal contexts are one, and others are not: by content, whatever their names are and whenever they were made."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpack_executor import task
from envpack_executor.context import Context, bytes_of_equals
from envpack_executor.environments import Preparer
from envpack_executor.manager.state import ContextRecord
from envpack_executor.resolving import Resolver
from tests.executor import functions
from tests.fuzzing import times

ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)


def exactly(value: Any) -> str:
    """What tells 1 from True and 1.0, and lists from tuples."""
    return repr(value)


def anew(value: Any) -> Any:
    """An equal value none of whose parts is the same object, as far as Python lets it."""
    match value:
        case str() | bytes():
            return value[:1] + value[1:]
        case list() | tuple():
            return type(value)(anew(item) for item in value)
        case dict():
            return {anew(name): anew(item) for name, item in value.items()}
    return copy.copy(value)


@pytest.fixture(scope="module")
def resolver() -> Iterator[Resolver]:
    preparer = Preparer(None, None)
    yield Resolver(None, None, preparer, is_sized=False, on_memory_asked=lambda: None)
    preparer.close()


def context_of(resolver: Resolver, *args: Any, setup: Callable[..., Any] = functions.set_up, **options: Any) -> Any:
    return resolver.resolve(task(context=(setup, *args), **options)(functions.double)).context


@settings(max_examples=times(60))
@given(first=VALUES, second=VALUES)
def test_contexts_are_one_if_and_only_if_their_arguments_are_equal(resolver: Resolver, first: Any, second: Any) -> None:
    context: ContextRecord = context_of(resolver, first, first)
    assert context_of(resolver, anew(first), anew(first)) is context or _shares_a_part(first)
    other: ContextRecord = context_of(resolver, second, second)
    if exactly(first) != exactly(second):
        assert other is not context
    else:
        assert other is context or _shares_a_part(first)
    assert (other.key == context.key) == (other is context)


def _shares_a_part(value: Any) -> bool:
    """Two arguments that are one list or dictionary are not the same as two equal ones."""
    return bytes_of_equals((value, value), b"shared") == b"shared"


@settings(max_examples=times(60))
@given(VALUES)
def test_bytes_of_a_tree_can_be_read_again_and_tell_what_a_pickle_tells(value: Any) -> None:
    data = bytes_of_equals(value, b"other")
    if data != b"other":
        assert exactly(pickle.loads(data)) == exactly(value)


def test_what_is_no_tree_of_plain_values_is_taken_as_it_was_pickled() -> None:
    part: list[int] = []
    assert bytes_of_equals([part, part], b"pickle") == b"pickle"
    part.append(part)  # type: ignore[arg-type]
    assert bytes_of_equals(part, b"pickle") == b"pickle"
    assert bytes_of_equals({1, 2}, b"pickle") == b"pickle"


@settings(max_examples=times(30))
@given(first=VALUES, second=VALUES)
def test_a_changed_closure_value_is_another_context(resolver: Resolver, first: Any, second: Any) -> None:
    def make(value: Any) -> Callable[[], dict[str, Any]]:
        return lambda: {"model": value}

    one, other = (context_of(resolver, setup=make(value)) for value in (first, second))
    if exactly(first) != exactly(second):
        assert one is not other


def test_contexts_with_equal_names_do_not_meet(resolver: Resolver) -> None:
    def named(value: int) -> Callable[[], dict[str, int]]:
        def load() -> dict[str, int]:
            return {"model": value}

        return load

    contexts = [context_of(resolver, setup=named(value)) for value in range(3)]
    assert len({id(context) for context in contexts}) == len({context.key for context in contexts}) == 3
    assert len({context.name for context in contexts}) == 1


def test_what_a_context_is_made_of_and_what_is_no_part_of_it(resolver: Resolver) -> None:
    plain = context_of(resolver, "weights")
    for same in ({"setup_timeout_s": 5}, {"priority": 3}, {"category": "other"}, {"retries": 2}, {"mode": "fork"}):
        assert context_of(resolver, "weights", **same) is plain
    for other in ({"mode": "fresh"}, {"resources": {"gpus": 1}}, {"environment": "auto"}):
        assert context_of(resolver, "weights", **other) is not plain
    assert context_of(resolver, "weights", resources={"gpus": 1}) is context_of(
        resolver, "weights", resources={"gpus": 1.0, "cores": 1}
    )


def test_the_key_of_a_context_is_that_of_its_fields() -> None:
    context = Context("inherit", "", "setup", "warm")
    assert Context.from_dict(context.to_dict()) == context
    assert Context.from_dict(context.to_dict()).key == context.key
    assert Context("inherit", "", "setup", "warm", "gpus").key != context.key
