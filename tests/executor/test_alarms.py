"""Alarms of the manager's reactor: each rings once, at its time, unless it was dropped or moved."""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from envpack_executor.manager.alarms import Alarms

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 3), st.integers(0, 20)),
        st.tuples(st.just("drop"), st.integers(0, 3)),
        st.tuples(st.just("pass"), st.integers(0, 5)),
    ),
    max_size=30,
)


@given(STEPS)
def test_alarms_ring_at_their_time_and_once(steps: list[Any]) -> None:
    alarms, now, rung = Alarms(), 0, []
    expected: dict[int, int] = {}

    def note(key: int, todo: list[Any]) -> None:
        rung.append(key)

    for step in steps:
        match step:
            case ("set", key, at):
                alarms.set(key, at, partial(note, key))
                expected[key] = at
            case ("drop", key):
                alarms.drop(key)
                expected.pop(key, None)
            case ("pass", duration):
                now += duration
                due = sorted(key for key, at in expected.items() if at <= now)
                alarms.ring(now, [])
                assert sorted(rung) == due
                rung.clear()
                expected = {key: at for key, at in expected.items() if at > now}
        assert alarms.next_s == min(expected.values(), default=None)
        assert all((key in alarms) == (key in expected) for key in range(4))


def test_an_alarm_may_set_itself_again() -> None:
    alarms, rung = Alarms(), []

    def again(todo: list[Any]) -> None:
        rung.append(alarms.next_s)
        alarms.set("key", 5.0, again)

    alarms.set("key", 1.0, again)
    alarms.ring(1.0, [])
    assert (rung, alarms.next_s) == ([None], 5.0)
