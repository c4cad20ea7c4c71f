"""Predictors: the ladder against brute force, policies against each other on traces made here."""

from __future__ import annotations

import itertools
import pickle
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpack_monitor import Allocation, Usage
from envpack_monitor.predict import (
    HINT,
    POLICIES,
    BestLadder,
    FailedRun,
    Fixed,
    MaxSeen,
    Percentile,
    Predictor,
    WholeNode,
    default_predictor,
    killed_after,
    killed_on_crossing,
    replay,
)
from envpack_monitor.predict.ladder import best_ladder, cost_of
from tests.fuzzing import times
from tests.monitor.helpers import MB

GB = 1000 * MB
NODE = Allocation(memory_bytes=128 * GB)
UNEVEN = FailedRun(((0.0, 0.8), (0.4, 0.1), (1.0, 0.9)))


def call(peak: float, wall_s: float = 10.0, category: str = "work", **features: float) -> Usage:
    return Usage(category=category, wall_s=wall_s, peak_memory_bytes=int(peak), features=features)


def ladder_cost(rungs: tuple[float, ...], values: list[float], weights: list[float], failed: FailedRun) -> float:
    return sum(weight * cost_of(rungs, value, failed) for value, weight in zip(values, weights, strict=True))


def brute_force(values: list[float], weights: list[float], failed: FailedRun) -> float:
    """The least cost over every ladder that ends with the largest value."""
    lower = sorted(set(values))[:-1]
    ladders = (
        (*chosen, max(values)) for count in range(len(lower) + 1) for chosen in itertools.combinations(lower, count)
    )
    return min(ladder_cost(rungs, values, weights, failed) for rungs in ladders)


@settings(max_examples=times(300), deadline=None)
@given(
    samples=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20)), min_size=1, max_size=8),
    failed=st.sampled_from([*map(killed_after, (0.0, 0.25, 0.7, 1.0)), killed_on_crossing, UNEVEN]),
)
def test_ladder_costs_what_the_best_of_all_ladders_costs(samples: list[tuple[int, int]], failed: FailedRun) -> None:
    samples.sort()
    values, weights = [float(value) for value, _ in samples], [float(weight) for _, weight in samples]
    rungs, cost = best_ladder(values, weights, failed)
    assert rungs == sorted(set(rungs))
    assert rungs[-1] == values[-1]
    assert cost == pytest.approx(brute_force(values, weights, failed))
    assert cost == pytest.approx(ladder_cost(tuple(rungs), values, weights, failed))


def test_ladder_of_two_clusters_begins_at_the_lower_one() -> None:
    values = [1.0] * 90 + [100.0] * 10
    assert best_ladder(values, [1.0] * 100)[0] == [1.0, 100.0]


def test_cost_counts_failed_attempts_and_doubles_beyond_the_ladder() -> None:
    assert cost_of([10.0, 30.0], 5) == 10
    assert cost_of([10.0, 30.0], 20) == 10 + 30
    assert cost_of([10.0, 30.0], 100, failed=killed_after(0.5)) == 5 + 15 + 30 + 120


@pytest.mark.parametrize("make", [*POLICIES.values(), lambda node: Fixed(Allocation(memory_bytes=GB), node)])
def test_every_policy_ends_every_call_that_fits_the_node(make: Callable[[Allocation], Predictor]) -> None:
    rng = random.Random(1)
    calls = [call(rng.lognormvariate(21, 1.5)) for _ in range(200)]
    calls = [each for each in calls if (each.peak_memory_bytes or 0) < 128 * GB]
    result = replay(make(NODE), calls)
    assert (result.calls, result.impossible) == (len(calls), 0)
    assert 0 < result.awe <= 1


def test_call_that_no_node_can_hold_is_counted_and_does_not_hang() -> None:
    result = replay(default_predictor(Allocation(memory_bytes=GB)), [call(5 * GB)])
    assert result.impossible == 1


def test_replay_counts_what_the_policies_must_cost_by_hand() -> None:
    calls = [call(2 * GB, 10), call(4 * GB, 10)]
    whole = replay(WholeNode(Allocation(memory_bytes=8 * GB)), calls)
    assert (whole.failures, whole.awe) == (0, pytest.approx(60 / 160))
    guess = replay(Fixed(Allocation(memory_bytes=3 * GB), Allocation(memory_bytes=8 * GB)), calls)
    assert (guess.failures, guess.awe) == (1, pytest.approx(60 / (30 + 30 + 80)))
    kinder = replay(Fixed(Allocation(memory_bytes=3 * GB), Allocation(memory_bytes=8 * GB)), calls, killed_on_crossing)
    assert guess.awe < kinder.awe < 60 / (30 + 80)


def test_simple_policies_say_what_they_promise() -> None:
    for policy, expected in ((Percentile(NODE, 0.5), 50 * MB), (MaxSeen(NODE), 250 * MB), (WholeNode(NODE), 128 * GB)):
        for number in range(1, 101):
            policy.observe("work", {}, call(number * MB))
        assert policy.predict("work", {}).memory_bytes == expected
        assert policy.explain("work", {}).allocation.memory_bytes == expected


def traces() -> dict[str, list[Usage]]:
    rng = random.Random(7)
    return {
        "steady": [call(rng.gauss(2e9, 5e7)) for _ in range(400)],
        "two clusters": [call(rng.choice((1e9, 1e9, 1e9, 8e9)) * rng.uniform(0.95, 1.05)) for _ in range(400)],
        "changed in the middle": [call((1e9 if n < 200 else 4e9) * rng.uniform(0.9, 1.1)) for n in range(400)],
        "grows with the input": [
            call(2e8 + 3 * size, 10, "work", bytes=size) for size in (rng.uniform(1e8, 4e9) for _ in range(400))
        ],
        "many young categories": [call(rng.gauss(1e9, 5e7), 10, f"category {n // 4}") for n in range(400)],
    }


@pytest.mark.parametrize("name", traces())
def test_default_wastes_less_than_every_simple_policy(name: str) -> None:
    calls = traces()[name]
    ours = replay(default_predictor(NODE), calls).awe
    for other in (MaxSeen(NODE), Percentile(NODE), WholeNode(NODE), Fixed(Allocation(memory_bytes=8 * GB), NODE)):
        assert ours >= 0.98 * replay(other, calls).awe, type(other).__name__


def test_default_finds_that_peaks_grow_with_a_feature() -> None:
    predictor = default_predictor(NODE)
    calls = traces()["grows with the input"]
    replay(predictor, calls)
    small, large = (predictor.predict("work", {"bytes": size}).memory_bytes or 0 for size in (2e8, 3.5e9))
    assert 8e8 <= small < 1.5e9
    assert 1.07e10 <= large < 1.5e10
    assert replay(default_predictor(NODE), calls).awe > 0.85


def test_default_on_one_shape_comes_near_the_best_ladder_in_hindsight() -> None:
    rng = random.Random(3)
    for draw in (lambda: rng.uniform(1e9, 8e9), lambda: 1e9 + rng.expovariate(1 / 2e9)):
        calls = [call(draw()) for _ in range(1500)]
        peaks = sorted(float(each.peak_memory_bytes or 0) for each in calls)
        bound = sum(peaks) / best_ladder(peaks, [1.0] * len(peaks))[1]
        assert replay(default_predictor(NODE), calls).awe > 0.93 * bound


def test_first_call_follows_the_hint_and_then_what_hints_were_worth() -> None:
    predictor = default_predictor(NODE)
    assert predictor.predict("new", {HINT: 4 * GB}).memory_bytes == 4 * GB
    for number in range(20):
        predictor.observe(f"other {number}", {HINT: 4 * GB}, call(1 * GB))
    assert (predictor.predict("new", {HINT: 8 * GB}).memory_bytes or 0) < 3 * GB


def test_retry_is_always_larger_until_the_node_is_full() -> None:
    predictor = default_predictor(NODE)
    for number in range(50):
        predictor.observe("work", {}, call((1 + number % 5) * GB))
    allocation = predictor.predict("work", {})
    while allocation.memory_bytes != NODE.memory_bytes:
        larger = predictor.retry("work", {}, allocation)
        assert (larger.memory_bytes or 0) > (allocation.memory_bytes or 0)
        assert larger.attempt == allocation.attempt + 1
        allocation = larger


def test_cores_and_wall_time_follow_what_was_seen() -> None:
    predictor = default_predictor(NODE)
    for _ in range(10):
        seen = Usage(wall_s=10.0, cpu_user_s=19.0, cpu_system_s=1.0, peak_memory_bytes=GB)
        predictor.observe("work", {}, seen)
    allocation = predictor.predict("work", {})
    assert allocation.cores == pytest.approx(2.0, abs=0.11)
    assert allocation.wall_s is not None
    assert allocation.wall_s >= 20


def test_explanation_says_rule_calls_and_cost_of_retries() -> None:
    predictor = default_predictor(NODE)
    assert predictor.explain("new", {}).calls == 0
    replay(predictor, traces()["two clusters"])
    explanation = predictor.explain("work", {})
    assert explanation.calls == 400
    assert explanation.ladder_bytes[0] == explanation.allocation.memory_bytes
    assert 0.1 < (explanation.retry_chance or 0) < 0.4
    assert 0 < (explanation.retry_cost or 0) < 0.3
    assert explanation.rule == "all calls"


def test_default_is_deterministic_and_goes_on_after_pickling() -> None:
    calls = [each for trace in traces().values() for each in trace[::4]]
    first, second = BestLadder(NODE), BestLadder(NODE)
    replay(first, calls[:200])
    copy = pickle.loads(pickle.dumps(first))
    replay(second, calls[:200])
    assert replay(first, calls[200:]) == replay(second, calls[200:]) == replay(copy, calls[200:])


def test_call_a_hair_above_all_others_is_retried_with_little_more() -> None:
    predictor = default_predictor(NODE)
    rng = random.Random(5)
    for _ in range(60):
        predictor.observe("work", {}, call(GB * rng.uniform(1.0, 1.02)))
    first = predictor.predict("work", {})
    second = predictor.retry("work", {}, first)
    assert (first.memory_bytes or 0) < 1.05 * GB
    assert (second.memory_bytes or 0) < 1.3 * GB


def test_failures_that_cost_little_let_the_default_begin_lower() -> None:
    rng = random.Random(6)
    calls = [call(GB * rng.choice((1, 1, 1, 1, 12)) * rng.uniform(0.97, 1.03)) for _ in range(300)]
    calls += [call(GB * rng.uniform(1, 12)) for _ in range(300)]
    careful, bold = default_predictor(NODE), default_predictor(NODE, killed_on_crossing)
    assert replay(bold, calls, killed_on_crossing).awe > replay(careful, calls, killed_on_crossing).awe
    assert replay(bold, calls).awe < replay(careful, calls).awe


def test_categories_of_the_same_name_elsewhere_decide_the_first_allocation() -> None:
    predictor = default_predictor(NODE)
    for number in range(40):
        predictor.observe(f"flow:tool{number}", {}, call(50 * MB))
    for _ in range(4):
        predictor.observe("small:ALIGN", {}, call(30 * GB))
    explanation = predictor.explain("large:ALIGN", {})
    assert "same name" in explanation.rule
    # To try what most need costs next to nothing; then comes what the category of the same name needs.
    assert explanation.ladder_bytes[0] < 100 * MB
    assert 29 * GB < explanation.ladder_bytes[1] < 40 * GB
    assert "same name" not in predictor.explain("large:OTHER", {}).rule


def test_hint_is_a_rung_of_a_new_category_even_if_hints_were_too_large_before() -> None:
    predictor = default_predictor(NODE)
    for number in range(20):
        predictor.observe(f"other {number}", {HINT: 40 * GB}, call(1 * GB))
    assert 40 * GB in predictor.explain("new", {HINT: 40 * GB}).ladder_bytes


def test_features_that_do_not_help_make_room_for_one_that_does() -> None:
    rng = random.Random(8)
    predictor = default_predictor(NODE)
    for _ in range(400):
        noise = {f"a{number}": rng.uniform(1, 100) for number in range(5)}
        size = rng.uniform(1, 20)
        predictor.observe("work", {**noise, "z_size": size}, call(size * GB))
    quiet = {f"a{number}": 50.0 for number in range(5)}
    assert (predictor.predict("work", {**quiet, "z_size": 2.0}).memory_bytes or 0) < 3 * GB
    assert (predictor.predict("work", {**quiet, "z_size": 18.0}).memory_bytes or 0) > 17 * GB


def test_disk_and_gpu_memory_are_promised_where_they_were_measured() -> None:
    predictor = default_predictor(Allocation(memory_bytes=128 * GB, disk_bytes=10 * GB))
    for size in (1, 3, 2):
        seen = Usage(wall_s=1.0, peak_memory_bytes=GB, disk_bytes=size * GB, gpu_memory_bytes=size * MB)
        predictor.observe("work", {}, seen)
    allocation = predictor.predict("work", {})
    assert 3 * GB <= (allocation.disk_bytes or 0) <= 10 * GB
    assert (allocation.gpu_memory_bytes or 0) >= 3 * MB
    predictor.observe("plain", {}, call(GB))
    assert predictor.predict("plain", {}).disk_bytes is None
