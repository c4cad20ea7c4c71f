"""The protocol: every message survives its bytes, and nothing else is taken for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpack_executor import messages
from envpack_executor.context import Context
from envpack_executor.messages import Environment, FromWorker, ToWorker

SMALL_INT = st.integers(-(2**31), 2**31)
ENVIRONMENT = st.builds(
    Environment,
    kind=st.sampled_from(["inherit", "prefix", "manifest"]),
    python=st.text(),
    manifest=st.binary(),
    manifest_id=st.text(),
)


def _message(kind: type) -> st.SearchStrategy[Any]:
    known: dict[Any, st.SearchStrategy[Any]] = {
        "int": SMALL_INT,
        "ProcessId": st.integers(0, 2**62),
        "str": st.text(),
        "Literal['', 'cut', 'gone', 'wrong']": st.sampled_from(["", "cut", "gone", "wrong"]),
        "bytes": st.binary(),
        "bool": st.booleans(),
        "float": st.floats(allow_nan=False),
        "int | None": st.none() | SMALL_INT,
        "Environment": ENVIRONMENT,
        "tuple[int, ...] | None": st.none() | st.lists(SMALL_INT).map(tuple),
        "tuple[str, ...]": st.lists(st.text()).map(tuple),
        "tuple[tuple[str, int], ...]": st.lists(st.tuples(st.text(), SMALL_INT)).map(tuple),
        "list[tuple[str, int, str]]": st.lists(st.tuples(st.text(), SMALL_INT, st.text())),
        "list[tuple[ProcessId, int, int]]": st.lists(st.tuples(st.integers(0, 2**62), SMALL_INT, SMALL_INT)),
    }
    return st.builds(kind, **{name: known[each] for name, each in kind.__annotations__.items()})


@given(st.one_of(*map(_message, get_args(ToWorker))))
def test_messages_to_a_worker_survive_their_bytes(message: ToWorker) -> None:
    assert messages.decode_to_worker(messages.encode(message)) == message


@given(st.one_of(*map(_message, get_args(FromWorker))))
def test_messages_from_a_worker_survive_their_bytes(message: FromWorker) -> None:
    assert messages.decode_from_worker(messages.encode(message)) == message


@given(st.binary(max_size=100))
def test_garbage_is_a_decode_error_and_nothing_else(data: bytes) -> None:
    for decode in (messages.decode_to_worker, messages.decode_from_worker):
        try:
            message = decode(data)
        except msgspec.DecodeError:
            continue
        assert isinstance(message, (*get_args(ToWorker), *get_args(FromWorker)))


@given(st.one_of(*map(_message, get_args(FromWorker))), st.data())
def test_a_message_that_was_cut_short_is_a_decode_error(message: FromWorker, data: st.DataObject) -> None:
    encoded = messages.encode(message)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(msgspec.DecodeError):
        messages.decode_from_worker(encoded[:cut])


@pytest.mark.parametrize(
    ("decode", "message"),
    [
        (messages.decode_to_worker, messages.WorkerBeat()),
        (messages.decode_from_worker, messages.ManagerBeat()),
        (messages.decode_from_worker, messages.StopProcess(messages.ProcessId(1), True)),
    ],
)
def test_a_message_for_the_other_side_is_refused(decode: Callable[[bytes], Any], message: Any) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(messages.encode(message))


def test_a_context_survives_its_dict_and_equal_ones_have_one_key() -> None:
    context = Context("inherit", "", "abc", "direct")
    again = Context.from_dict(context.to_dict())
    assert (again, again.key) == (context, context.key)
    assert Context("inherit", "", "abd", "direct").key != context.key
    assert Context("inherit", "abc", "", "direct").key != context.key


@pytest.mark.parametrize("change", [{"schema": 2}, {"mode": None, "extra": 1}])
def test_a_dict_that_is_no_context_is_refused(change: dict[str, Any]) -> None:
    data = {**Context("inherit", "", "", "direct").to_dict(), **change}
    with pytest.raises(ValueError, match="not a context of schema 1"):
        Context.from_dict(data)
