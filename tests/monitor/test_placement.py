"""Placement of calls on nodes: nothing is promised twice, every call ends; and the simulator of packing."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpack_monitor import Allocation
from envpack_monitor.predict import Predictor, default_predictor, killed_after, killed_on_crossing, make_policy
from envpack_monitor.predict.node import NodeState
from envpack_monitor.predict.packing import lower_bound, oracle, pack
from envpack_monitor.predict.placement import LOOK_AT, PATIENCE, Placement
from tests.fuzzing import times
from tests.monitor.traces import GB, NODE, read, workflow

WFINSTANCES = Path(__file__).parent / "data" / "wfinstances.csv"


def node(cores: float = 4, memory_bytes: int = 10, name: str = "node") -> NodeState:
    return NodeState(name, Allocation(cores=cores, memory_bytes=memory_bytes))


def wants(memory_bytes: int, cores: float = 1.0) -> Allocation:
    return Allocation(cores=cores, memory_bytes=memory_bytes)


# One node.


def test_what_is_taken_and_given_back_leaves_the_node_as_it_was() -> None:
    third = wants(3, cores=1 / 3)
    state = node(cores=1)
    for _ in range(3):
        assert state.holds(third)
        state = state.take(third)
    assert not state.holds(wants(0, cores=0.01))
    for _ in range(3):
        state = state.give(third)
    assert state.room == state.capacity


def test_node_looks_at_disk_and_gpus_where_both_sides_say_something() -> None:
    state = NodeState("node", Allocation(cores=4, memory_bytes=10, disk_bytes=5, gpu_memory_bytes=None))
    assert not state.holds(Allocation(disk_bytes=6))
    assert state.holds(Allocation(disk_bytes=5, gpu_memory_bytes=10**12))
    assert state.take(Allocation(disk_bytes=3)).room.disk_bytes == 2


def test_promise_grows_as_far_as_memory_is_free() -> None:
    state = node(memory_bytes=10).take(wants(4)).take(wants(3))
    assert state.grown(wants(4), 6) == wants(6)
    assert state.grown(wants(4), 60) == wants(7)
    assert state.take(wants(3)).grown(wants(4), 6) is None


# Placement.


def test_one_scout_of_each_unknown_category_goes_ahead_of_everything() -> None:
    placement = Placement([node(cores=3)], lambda call, category: wants(1))
    for number in range(4):
        placement.put(f"a{number}", "a")
    for number in range(4):
        placement.put(f"b{number}", "b")
    assert [(start.call, start.is_scout) for start in placement.place()] == [("a0", True), ("b0", True), ("a1", False)]


def test_long_categories_go_first_when_they_are_known() -> None:
    placement = Placement([node(cores=1)], lambda call, category: wants(1))
    order = []
    walls_s = {"short": 1.0, "long": 100.0, "middle": 10.0}
    for category in walls_s:
        for number in range(3):
            placement.put((category, number), category)
    while starts := placement.place():
        (start,) = starts
        order.append(start.category)
        placement.end(start.call, walls_s[start.category])
    assert order == ["short", "long", "middle", "long", "long", "middle", "middle", "short", "short"]


def test_policy_is_asked_when_a_call_begins_and_again_when_its_category_is_known_better() -> None:
    asked = []

    def ask(call: object, category: str) -> Allocation:
        asked.append(call)
        return wants(10 if len(asked) == 1 else 2)

    placement = Placement([node(cores=8, memory_bytes=10)], ask)
    for number in range(5):
        placement.put(number, "work")
    assert [start.call for start in placement.place()] == [0]
    placement.end(0, 1.0)
    assert [start.allocation.memory_bytes for start in placement.place()] == [2, 2, 2, 2]


def test_small_calls_fill_the_room_that_large_ones_leave() -> None:
    sizes = {"large": 8, "small": 2}
    placement = Placement([node(cores=4, memory_bytes=10)], lambda call, category: wants(sizes[category]))
    for number in range(2):
        placement.put(("large", number), "large")
    placement.put(("small", 0), "small")
    assert [start.category for start in placement.place()] == ["large", "small"]


def test_call_that_failed_waits_again_with_more_and_growing_needs_free_memory() -> None:
    placement = Placement([node(cores=2, memory_bytes=10)], lambda call, category: wants(4))
    placement.put("one", "a")
    placement.put("two", "b")
    placement.place()
    assert placement.grow("one", 5) == wants(5)
    assert placement.grow("two", 9) == wants(5)
    assert placement.grow("one", 6) is None
    placement.fail("one", wants(7))
    assert placement.place() == []
    placement.end("two", 1.0)
    assert [(start.call, start.allocation.memory_bytes) for start in placement.place()] == [("one", 7)]


def test_call_larger_than_every_node_gets_all_of_the_largest() -> None:
    nodes = [node(name="small", memory_bytes=10), node(name="large", memory_bytes=50)]
    placement = Placement(nodes, lambda call, category: wants(1000, cores=64))
    placement.put("call", "work")
    (start,) = placement.place()
    assert (start.node, start.allocation) == ("large", wants(50, cores=4))


def test_large_call_waits_for_a_large_node_instead_of_being_cut() -> None:
    nodes = [node(name="small", memory_bytes=10), node(name="large", memory_bytes=50)]
    placement = Placement(nodes, lambda call, category: wants(50))
    placement.put("first", "work")
    placement.put("second", "work")
    assert [start.node for start in placement.place()] == ["large"]


def test_small_calls_go_where_little_room_is_left() -> None:
    nodes = [node(name="large", memory_bytes=50), node(name="small", memory_bytes=10)]
    placement = Placement(nodes, lambda call, category: wants(5))
    placement.put("call", "work")
    assert placement.place()[0].node == "small"


def test_lost_node_gives_its_calls_back_and_a_new_one_is_used() -> None:
    placement = Placement([node(name="first")], lambda call, category: wants(5))
    for number in range(3):
        placement.put(number, "work")
    assert len(placement.place()) == 2
    assert placement.lose_node("first") == [0, 1]
    assert placement.place() == []
    placement.put(0, "work")
    placement.add_node(node(name="second"))
    assert {start.node for start in placement.place()} == {"second"}
    assert len(placement) == 0


def test_larger_node_that_comes_later_gets_what_was_cut_to_a_small_one() -> None:
    placement = Placement([node(name="small", memory_bytes=10)], lambda call, category: wants(40))
    for number in range(2):
        placement.put(number, "work")
    assert [start.allocation.memory_bytes for start in placement.place()] == [10]
    placement.add_node(node(name="large", memory_bytes=50))
    assert [(start.node, start.allocation.memory_bytes) for start in placement.place()] == [("large", 40)]
    assert placement.lose_node("large") == [1]
    placement.put(1, "work")
    placement.end(0, 1.0)
    assert [(start.node, start.allocation.memory_bytes) for start in placement.place()] == [("small", 10)]


def test_calls_need_no_order_among_each_other() -> None:
    placement = Placement([node(cores=1)], lambda call, category: wants(1))
    calls = [object() for _ in range(6)]
    for call in calls:
        placement.put(call, "work")
        placement.withdraw(call, "work")
        placement.put((call,), "work")
    assert len(placement) == 6
    assert placement.place()[0].call == (calls[0],)


def test_withdrawn_call_is_not_placed() -> None:
    placement = Placement([node(cores=1)], lambda call, category: wants(1))
    for number in range(4):
        placement.put(number, "work")
    placement.withdraw(0, "work")
    placement.withdraw(2, "work")
    assert len(placement) == 2
    order = []
    while starts := placement.place():
        order += [start.call for start in starts]
        placement.end(starts[0].call, 1.0)
    assert order == [1, 3]


def test_call_that_needs_more_goes_ahead_of_its_category_and_gets_it() -> None:
    placement = Placement([node(cores=1)], lambda call, category: wants(1))
    placement.put("fresh", "work")
    placement.put("again", "work", wants(7))
    assert placement.next_of("work") is None, "one that failed goes first"
    [start] = placement.place()
    assert (start.call, start.allocation) == ("again", wants(7))
    assert (placement.next_of("work"), placement.next_of("other")) == ("fresh", None)


def test_those_who_wait_are_told_in_their_order() -> None:
    placement = Placement([node(cores=1)], lambda call, category: wants(3))
    placement.put(1, "work")
    assert not placement.waits_beside("work")
    placement.put(2, "work")
    placement.place()
    assert placement.waits_beside("other")
    assert not placement.waits_beside("work")
    placement.put(3, "other")
    assert placement.waits_beside("work")
    assert [(name, count) for name, count, _ in placement.waiting()] == [("other", 1), ("work", 1)]


def test_large_call_does_not_starve_under_an_endless_stream_of_small_ones() -> None:
    sizes = {"large": 10, "small": 1}
    placement = Placement([node(cores=10, memory_bytes=10)], lambda call, category: wants(sizes[category]))
    placement.put(-1, "small")
    placement.place()
    placement.end(-1, 100.0)
    for number in range(10):
        placement.put(number, "small")
    placement.put("large", "large")
    running = [start.call for start in placement.place()]
    for number in range(10, 20 * PATIENCE):
        if "large" in running:
            break
        placement.put(number, "small")
        placement.end(running.pop(0), 100.0)
        running += [start.call for start in placement.place()]
    assert "large" in running


def test_short_calls_do_not_starve_under_an_endless_stream_of_long_ones() -> None:
    placement = Placement([node(cores=1)], lambda call, category: wants(1))
    for category, wall_s in (("long", 100.0), ("short", 1.0)):
        placement.put(category, category)
        placement.place()
        placement.end(category, wall_s)
    placement.put("the short one", "short")
    for number in range(20 * PATIENCE):
        placement.put(number, "long")
        (start,) = placement.place()
        if start.call == "the short one":
            return
        placement.end(start.call, 100.0)
    pytest.fail("it starved")


calls_of_all_kinds = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 14), st.sampled_from((0.1, 1 / 3, 1.0, 2.5, 9.0)), st.integers(1, 9)),
    min_size=1,
    max_size=60,
)


@settings(max_examples=times(200), deadline=None)
@given(calls=calls_of_all_kinds, nodes=st.integers(1, 3), seed=st.integers(0, 9))
def test_nothing_is_promised_twice_and_every_call_ends(
    calls: list[tuple[int, int, float, int]], nodes: int, seed: int
) -> None:
    """Calls of any size begin, grow, fail and end in any order; the sums are kept here a second time, exactly."""
    rng = random.Random(seed)
    states = [node(cores=4, memory_bytes=10 + 5 * number, name=str(number)) for number in range(nodes)]
    placement = Placement(states, lambda call, category: wants(calls[call][1], calls[call][2]))  # type: ignore[index]
    for number, (category, *_) in enumerate(calls):
        placement.put(number, f"category {category}")
    running: dict[int, tuple[str, Allocation]] = {}
    ended: set[int] = set()
    while len(ended) < len(calls):
        for start in placement.place():
            assert start.call not in running
            assert start.call not in ended
            running[start.call] = (start.node, start.allocation)  # type: ignore[index]
        for state in placement.nodes:
            promised = [allocation for name, allocation in running.values() if name == state.name]
            assert sum(each.memory_bytes or 0 for each in promised) <= (state.capacity.memory_bytes or 0)
            assert sum(Fraction(each.cores).limit_denominator(10**6) for each in promised) <= state.capacity.cores
            assert state.room.memory_bytes == (state.capacity.memory_bytes or 0) - sum(
                each.memory_bytes or 0 for each in promised
            )
        assert running, "something waits and nothing runs"
        number = rng.choice(sorted(running))
        where, allocation = running[number]
        match rng.choice(("end", "end", "grow", "fail")):
            case "grow":
                larger = placement.grow(number, (allocation.memory_bytes or 0) + rng.randrange(1, 6))
                running[number] = (where, larger or allocation)
            case "fail" if rng.random() < 0.5:
                placement.fail(number, replace(allocation, memory_bytes=(allocation.memory_bytes or 0) + 3))
                del running[number]
            case _:
                placement.end(number, float(calls[number][3]))
                del running[number]
                ended.add(number)
    assert len(placement) == 0
    assert all(state.room == state.capacity for state in placement.nodes)


def test_cost_of_a_call_does_not_grow_with_those_that_wait() -> None:
    """Counted, not timed: how often the policy is asked for each call that begins."""
    asked = 0

    def ask(call: object, category: str) -> Allocation:
        nonlocal asked
        asked += 1
        return wants(1 + int(category.split()[1]) % 7)

    counts = []
    for calls in (500, 4000):
        asked = 0
        placement = Placement([node(cores=3, memory_bytes=10)], ask)
        for number in range(calls):
            placement.put(number, f"category {number % (calls // 4)}")
        running: list[object] = []
        done = 0
        while done < calls:
            running += [start.call for start in placement.place()]
            placement.end(running.pop(0), 1.0)
            done += 1
        counts.append(asked / calls)
    assert counts[1] < 1.5 * counts[0] + 1
    assert counts[1] < LOOK_AT


# The simulator.


class TruePeak:
    """Knows what each call needs."""

    def predict(self, category: str, features: object) -> Allocation:
        return Allocation(memory_bytes=int(features["peak"]))  # type: ignore[index]

    def observe(self, category: str, features: object, usage: object) -> None: ...


def test_packing_with_true_peaks_is_near_the_oracle_and_above_the_bound() -> None:
    calls = workflow(seed=3)
    knowing = [
        replace(each, usage=replace(each.usage, features={"peak": float(each.usage.peak_memory_bytes or 0)}))
        for each in calls
    ]
    result = pack(knowing, TruePeak(), NODE)  # type: ignore[arg-type]
    assert (result.failures, result.grown) == (0, 0)
    assert lower_bound(calls, NODE) <= oracle(calls, NODE) <= result.makespan_s * 1.0001
    assert result.makespan_s < 1.25 * oracle(calls, NODE)


def test_packing_by_hand() -> None:
    """Two cores, 10 GB; four calls of 6 GB and 10 s each: the oracle runs one after the other."""
    calls = [replace(each, cores=1.0) for each in workflow(categories=1, calls=4)]
    calls = [
        replace(each, usage=replace(each.usage, peak_memory_bytes=6 * GB, wall_s=10.0, features={})) for each in calls
    ]
    small = Allocation(cores=2, memory_bytes=10 * GB)
    assert oracle(calls, small) == 40
    assert lower_bound(calls, small) == 24
    fixed = make_policy("fixed-4GB", small)
    killed = pack(calls, fixed, small, killed_after(0.5), grow=False)
    # Two attempts of 4 GB run into their ends at 5 s; both then wait for the whole node, 10 s each; so do the others.
    assert (killed.makespan_s, killed.failures) == (50.0, 4)


def test_call_lives_on_while_nobody_else_could_use_the_memory() -> None:
    (one,) = workflow(categories=1, calls=1)
    one = replace(one, usage=replace(one.usage, peak_memory_bytes=20 * GB, wall_s=100.0, features={}))
    alone = pack([one], make_policy("fixed-1GB", NODE), NODE, killed_on_crossing)
    assert (alone.makespan_s, alone.failures, alone.grown) == (100.0, 0, 1)
    killed = pack([one], make_policy("fixed-1GB", NODE), NODE, killed_on_crossing, grow=False)
    assert killed.failures == 1
    assert killed.makespan_s > 100


@pytest.mark.parametrize("name", ["default", "greedy-bucketing", "presets", "low-wastage"])
@pytest.mark.parametrize("ask", ["dispatch", "submit"])
def test_packing_ends_with_every_policy_and_is_the_same_each_time(name: str, ask: str) -> None:
    calls = workflow(seed=8, categories=6, calls=8)
    results = [pack(calls, make_policy(name, NODE), NODE, killed_on_crossing, ask) for _ in range(2)]  # type: ignore[arg-type]
    assert results[0] == results[1]
    assert results[0].makespan_s >= max(each.usage.wall_s for each in calls)


def test_asking_at_dispatch_packs_closer_than_presets() -> None:
    calls = workflow(seed=11, calls=30)
    small = Allocation(cores=32, memory_bytes=32 * GB)
    makespan_s = {
        name: pack(calls, policy, small, killed_on_crossing).makespan_s
        for name, policy in (("ours", default_predictor(small)), ("presets", make_policy("presets", small)))
    }
    assert makespan_s["ours"] < 0.7 * makespan_s["presets"]
    assert makespan_s["ours"] < 1.25 * oracle(calls, small)


def test_policy_that_hardly_raises_its_allocations_does_not_hold_the_node_for_ever() -> None:
    class OneByteMore:
        def predict(self, category: str, features: object) -> Allocation:
            return Allocation(memory_bytes=1)

        def observe(self, category: str, features: object, usage: object) -> None: ...

        def retry(self, category: str, features: object, failed: Allocation) -> Allocation:
            return replace(failed, memory_bytes=(failed.memory_bytes or 0) + 1, attempt=failed.attempt + 1)

    policy: Predictor = OneByteMore()  # type: ignore[assignment]
    assert pack(workflow(categories=2, calls=2), policy, NODE, killed_on_crossing, grow=False).makespan_s > 0


def test_real_workflow_is_packed() -> None:
    calls = read(WFINSTANCES).calls
    result = pack(calls, default_predictor(NODE), NODE, killed_on_crossing)
    assert result.makespan_s < 2 * oracle(calls, NODE)


def test_calls_that_take_the_whole_node_run_one_after_the_other() -> None:
    calls = [replace(each, usage=replace(each.usage, wall_s=10.0)) for each in workflow(categories=2, calls=8)]
    assert pack(calls, make_policy("whole-node", NODE), NODE).makespan_s == 10.0 * len(calls)
