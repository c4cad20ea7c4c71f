"""How many blocks there should be, for what waits and what is there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpack_executor.blocks.scaling import BlockView, Demand, Plan, Scaling, plan


def up(name: str, slots: int = 4, idle_s: float = 0.0, up_s: float = 0.0) -> BlockView:
    return BlockView(name, slots, is_up=True, idle_s=idle_s, up_s=up_s)


def coming(name: str, slots: int = 4) -> BlockView:
    return BlockView(name, slots, is_up=False)


def submitted(open_calls: int, blocks: list[BlockView], **limits: Any) -> int:
    return plan(Demand(open_calls), blocks, 4, Scaling(**limits)).submit


def test_as_many_blocks_are_asked_for_as_the_open_calls_fill_and_no_more_than_allowed() -> None:
    assert submitted(0, [], max_blocks=10) == 0
    assert submitted(1, [], max_blocks=10) == 1
    assert submitted(9, [], max_blocks=10) == 3
    assert submitted(1000, [], max_blocks=10) == 10
    assert submitted(1000, [], max_blocks=None) == 250
    assert submitted(1000, [up("a")] * 10, max_blocks=10) == 0


def test_blocks_on_their_way_and_slots_elsewhere_are_not_asked_for_again() -> None:
    assert submitted(9, [up("a"), coming("b")], max_blocks=10) == 1
    assert submitted(8, [up("a"), coming("b")], max_blocks=10) == 0
    assert plan(Demand(9, other_slots=9), [], 4, Scaling(max_blocks=10)).submit == 0


def test_parallelism_says_how_many_slots_a_call_is_worth() -> None:
    assert submitted(80, [], max_blocks=None, parallelism=0.5) == 10


def test_one_slot_is_wanted_while_there_is_a_call_and_no_more_at_parallelism_0() -> None:
    assert submitted(0, [], max_blocks=None, parallelism=0) == 0
    assert submitted(1, [], max_blocks=None, parallelism=0) == 1
    assert submitted(80, [], max_blocks=None, parallelism=0) == 1
    assert submitted(80, [up("a")], max_blocks=None, parallelism=0) == 0
    assert plan(Demand(80, other_slots=1), [], 4, Scaling(max_blocks=None, parallelism=0)).submit == 0


def test_the_first_blocks_come_before_any_call_and_the_fewest_stay() -> None:
    limits = Scaling(init_blocks=3, min_blocks=1, max_blocks=5)
    assert plan(Demand(is_first=True), [], 4, limits).submit == 3
    assert plan(Demand(), [], 4, limits).submit == 1
    idle = [up(name, idle_s=500.0) for name in "abc"]
    assert len(plan(Demand(), idle, 4, limits).drain) == 2


def test_the_block_that_has_been_idle_longest_leaves_first_and_none_that_works_or_is_wanted() -> None:
    blocks = [up("a", idle_s=200.0), up("b"), up("c", idle_s=300.0), up("d", idle_s=20.0)]
    limits = Scaling(max_blocks=5, idle_s=120.0)
    assert plan(Demand(1), blocks, 4, limits) == Plan(drain=("c", "a"))
    assert plan(Demand(10), blocks, 4, limits) == Plan(drain=("c",))
    assert plan(Demand(13), blocks, 4, limits) == Plan()


def test_what_only_waits_in_a_queue_is_given_up_before_idle_blocks_and_not_before_the_first_call() -> None:
    blocks = [up("a", idle_s=200.0), coming("b"), coming("c")]
    limits = Scaling(min_blocks=1, max_blocks=5, idle_s=120.0)
    assert plan(Demand(unneeded_s=130.0), blocks, 4, limits) == Plan(cancel=("c", "b"))
    assert plan(Demand(unneeded_s=10.0), blocks, 4, limits) == Plan(drain=("a",))
    assert plan(Demand(unneeded_s=0.0), blocks[1:], 4, limits) == Plan()


def waiting(waited_s: float, blocks: list[BlockView], open_calls: int = 1, **limits: Any) -> Plan:
    return plan(Demand(open_calls, waited_s=waited_s), blocks, 4, Scaling(**{"max_blocks": 2, **limits}))


def test_a_block_that_stays_idle_while_calls_wait_does_not_count_as_there() -> None:
    idle = up("a", idle_s=60.0, up_s=90.0)
    assert waiting(0.0, [idle]) == waiting(4.0, [idle]) == Plan(), "they may begin there"
    assert waiting(6.0, [idle]) == Plan(submit=1)
    assert waiting(6.0, [idle, coming("b")]) == Plan(), "it is asked for once"
    assert waiting(6.0, [idle], open_calls=5, max_blocks=9) == Plan(submit=2)
    assert waiting(6.0, [up("a", up_s=90.0)]) == Plan(), "it works: its next slot is theirs"
    assert waiting(6.0, [up("a", idle_s=1.0, up_s=90.0)]) == Plan(), "it has just become free"


def test_where_a_block_that_came_for_the_calls_is_idle_too_no_further_one_comes() -> None:
    blocks = [up("a", idle_s=90.0, up_s=120.0), up("b", idle_s=30.0, up_s=30.0)]
    assert waiting(60.0, blocks, max_blocks=9) == Plan()
    assert waiting(60.0, blocks[1:], max_blocks=9) == Plan()


def test_a_block_of_no_use_to_calls_that_wait_leaves_though_slots_are_wanted() -> None:
    blocks = [up("a", idle_s=130.0, up_s=200.0), up("b", up_s=200.0)]
    assert waiting(6.0, blocks, open_calls=9) == Plan(drain=("a",))
    assert waiting(6.0, blocks, open_calls=9, min_blocks=2) == Plan()
    assert waiting(4.0, blocks, open_calls=9) == Plan()
    assert waiting(6.0, blocks[:1], max_blocks=1) == Plan(drain=("a",)), "another one may take its place"


def test_after_a_failure_blocks_are_tried_one_by_one() -> None:
    limits = Scaling(max_blocks=10)
    assert plan(Demand(100, is_troubled=True), [up("a")], 4, limits).submit == 1
    assert plan(Demand(100, is_troubled=True), [coming("a")], 4, limits).submit == 0


@pytest.mark.parametrize(
    "limits",
    [
        {"parallelism": 1.5},
        {"min_blocks": 2, "max_blocks": 1},
        {"init_blocks": -1},
        {"nodes_per_block": 0},
        {"idle_s": -1.0},
        {"min_blocks": -1, "max_blocks": None},
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: Any) -> None:
    with pytest.raises(ValueError, match=r"expected|or more"):
        Scaling(**limits)


views = st.builds(
    BlockView,
    st.uuids().map(str),
    st.integers(1, 8),
    st.booleans(),
    st.sampled_from([0.0, 10.0, 120.0, 900.0]),
    st.sampled_from([0.0, 60.0, 900.0]),
)


@given(
    st.builds(
        Demand,
        st.integers(0, 200),
        st.integers(0, 9),
        st.sampled_from([0.0, 50.0, 500.0]),
        st.booleans(),
        waited_s=st.sampled_from([0.0, 0.0, 20.0, 300.0]),
    ),
    st.lists(views, max_size=8),
    st.integers(0, 8),
    st.builds(Scaling, st.integers(0, 4), st.integers(0, 2), st.sampled_from([None, 2, 5]), st.floats(0, 1)),
)
def test_no_plan_breaks_a_limit_takes_what_works_or_asks_and_lets_go_at_once(
    demand: Demand, blocks: list[BlockView], slots: int, limits: Scaling
) -> None:
    todo = plan(demand, blocks, slots, limits)
    leaving = {*todo.cancel, *todo.drain}
    assert not (todo.submit and leaving)
    if todo.submit and limits.max_blocks is not None:
        assert len(blocks) + todo.submit <= limits.max_blocks
    assert not leaving or len(blocks) - len(leaving) >= limits.min_blocks
    assert all(block.idle_s > 0 for block in blocks if block.name in todo.drain)
    assert not any(block.is_up for block in blocks if block.name in todo.cancel)
    if leaving and not demand.waited_s:  # nothing is let go that would be asked for again
        left = [block for block in blocks if block.name not in leaving]
        assert plan(Demand(demand.open_calls, demand.other_slots), left, slots, limits).submit == 0
