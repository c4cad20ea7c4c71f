"""Policies that others published: each against its definition, written down slowly here; all of them as predictors."""

from __future__ import annotations

import itertools
import pickle
import random
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpack_monitor import Allocation, Usage
from envpack_monitor.errors import FormatError, MissingLibraryError
from envpack_monitor.predict import (
    HINT,
    ColdStart,
    ExhaustiveBucketing,
    GreedyBucketing,
    Linear,
    LowWastage,
    MaxSeen,
    MaxThroughput,
    MinWaste,
    Percentile,
    Predictor,
    Presets,
    Regressor,
    default_predictor,
    make_policy,
    policy_names,
    replay,
)
from envpack_monitor.predict.policies.bucketing import (
    Bucket,
    BucketSizer,
    Points,
    exhaustive_buckets,
    expected_waste,
    greedy_buckets,
)
from envpack_monitor.predict.policies.first_allocation import least_waste, most_throughput
from envpack_monitor.predict.policies.regression import line_of_least_waste
from tests.fuzzing import times
from tests.monitor.helpers import MB
from tests.monitor.traces import GB, NODE, SHAPES, call, read, shaped, workflow

WFINSTANCES = Path(__file__).parent / "data" / "wfinstances.csv"
NAMES = policy_names()
CALLS = [each.usage for each in workflow(seed=5, categories=6, calls=25)]

needs = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 20)), min_size=1, max_size=12)


def told(policy: Predictor, calls: Sequence[Usage]) -> Predictor:
    for each in calls:
        policy.observe(each.category, each.features, each)
    return policy


# First allocation: the two formulas of the paper, over all values seen.


def slow_waste(first: float, samples: Sequence[tuple[int, int]]) -> float:
    largest = max(need for need, _ in samples)
    return sum(wall_s * (first + (largest if need > first else 0)) for need, wall_s in samples)


def slow_throughput(first: float, samples: Sequence[tuple[int, int]]) -> float:
    largest = max(need for need, _ in samples)
    ended = sum(largest / first if need <= first else 1 for need, _ in samples)
    return ended / sum(wall_s * (2 if need > first else 1) for need, wall_s in samples)


@settings(max_examples=times(200), deadline=None)
@given(needs)
def test_first_allocation_is_the_best_of_all_values_seen(samples: list[tuple[int, int]]) -> None:
    samples.sort()
    values, walls_s = [float(need) for need, _ in samples], [float(wall_s) for _, wall_s in samples]

    cost = slow_waste(least_waste(values, walls_s), samples)
    assert cost == pytest.approx(min(slow_waste(value, samples) for value in values))
    rate = slow_throughput(most_throughput(values, walls_s), samples)
    assert rate == pytest.approx(max(slow_throughput(value, samples) for value in values))


def test_first_allocation_is_followed_by_the_largest_seen_and_the_whole_node() -> None:
    calls = [call(GB)] * 40 + [call(20 * GB)]
    for policy in (MinWaste(NODE), MaxThroughput(NODE)):
        told(policy, calls)
        attempts = [policy.predict("work", {})]
        attempts += [policy.retry("work", {}, attempts[-1])]
        attempts += [policy.retry("work", {}, attempts[-1])]
        assert [each.memory_bytes for each in attempts] == [GB, 20 * GB, 128 * GB]


# Bucketing: what the papers define, transcribed without any saving. Fractions, because equal costs must be equal.

Seen = Sequence[tuple[Fraction, Fraction]]


def weight_of(points: Seen) -> Fraction:
    return sum((significance for _, significance in points), Fraction(0))


def slow_bucket(points: Seen, everything: Seen) -> Bucket:
    mean = sum((value * significance for value, significance in points), Fraction(0)) / weight_of(points)
    return Bucket(points[-1][0], weight_of(points) / weight_of(everything), mean)  # type: ignore[arg-type]


def slow_greedy(points: Seen, everything: Seen) -> list[Bucket]:
    """Cut where the expected waste of the two parts is least, the last such place; go on with both parts."""
    costs = []
    for cut in range(1, len(points) + 1):
        low, high = points[:cut], points[cut:]
        share_low, share_high = weight_of(low) / weight_of(points), weight_of(high) / weight_of(points)
        mean_low = slow_bucket(low, everything).mean
        mean_high = slow_bucket(high, everything).mean if high else 0
        size, largest = low[-1][0], points[-1][0]
        hit_low = share_low * share_low * (size - mean_low)
        too_large = share_low * share_high * (largest - mean_low)
        too_small = share_high * share_low * (size + largest - mean_high)
        hit_high = share_high * share_high * (largest - mean_high)
        costs.append(hit_low + too_large + too_small + hit_high)
    cut = max(at for at, cost in enumerate(costs, start=1) if cost == min(costs))
    if cut == len(points):
        return [slow_bucket(points, everything)]
    return slow_greedy(points[:cut], everything) + slow_greedy(points[cut:], everything)


def slow_expected_waste(buckets: Sequence[Bucket]) -> float:
    """A call of bucket i gets bucket j; one that is too small costs its size, and one of those above is drawn."""

    def waste(i: int, j: int) -> float:
        if i <= j:
            return buckets[j].size - buckets[i].mean
        above = sum(bucket.probability for bucket in buckets[j + 1 :])
        drawn = (buckets[k].probability / above * waste(i, k) for k in range(j + 1, len(buckets)))
        return buckets[j].size + sum(drawn)

    everywhere = range(len(buckets))
    return sum(buckets[i].probability * buckets[j].probability * waste(i, j) for i in everywhere for j in everywhere)


def slow_even(points: Seen, parts: int) -> list[Bucket]:
    """Cut at the multiples of the largest value over the number of parts."""
    largest, buckets, below = points[-1][0], [], Fraction(0)
    for part in range(1, parts + 1):
        bound = largest * part / parts
        inside = [point for point in points if below < point[0] <= bound]
        buckets += [slow_bucket(inside, points)] if inside else []
        below = bound
    return buckets


points_seen = st.lists(st.integers(1, 40), min_size=1, max_size=14)


def exact(values: Sequence[int]) -> list[tuple[Fraction, Fraction]]:
    """Return the values in order, each with its number as its significance."""
    return sorted((Fraction(value), Fraction(number)) for number, value in enumerate(values, start=1))


def seen(points: Seen) -> Points:
    needs, significances = zip(*points, strict=True)
    return Points(needs, significances)


@settings(max_examples=times(200), deadline=None)
@given(points_seen)
def test_greedy_bucketing_is_what_the_paper_defines(values: list[int]) -> None:
    points = exact(values)
    assert greedy_buckets(seen(points)) == slow_greedy(points, points)


@settings(max_examples=times(60), deadline=None)
@given(points_seen)
def test_exhaustive_bucketing_is_what_the_paper_defines(values: list[int]) -> None:
    points = exact(values)
    choices = [slow_even(points, parts) for parts in range(1, 11)]
    assert exhaustive_buckets(seen(points)) == min(choices, key=slow_expected_waste)
    assert expected_waste(choices[-1]) == slow_expected_waste(choices[-1])


def test_bucketing_explores_and_doubles_then_draws_by_probability() -> None:
    draws = random.Random(3)
    sizer = BucketSizer(greedy_buckets, draws, first=1e9, exploring_calls=5)
    assert (sizer.size({}), sizer.next_size(1e9, {})) == (1e9, 2e9)
    for number in range(50):
        sizer.learn({}, 1e9 if number % 2 else 8e9, 1.0)
    sizes = [sizer.size({}) for _ in range(400)]
    assert set(sizes) == {1e9, 8e9}
    assert 140 < sizes.count(1e9) < 260
    assert sizer.next_size(1e9, {}) == 8e9
    assert sizer.next_size(8e9, {}) == 16e9


def test_deterministic_bucketing_begins_where_the_ladder_of_buckets_is_cheapest() -> None:
    policy = told(GreedyBucketing(NODE, seed=None), [call(GB if n % 10 else 9 * GB) for n in range(100)])
    assert {policy.predict("work", {}).memory_bytes for _ in range(20)} == {GB}
    assert policy.retry("work", {}, Allocation(memory_bytes=GB)).memory_bytes == 9 * GB


def test_explaining_does_not_draw() -> None:
    policies = [told(ExhaustiveBucketing(NODE, seed=4), shaped(SHAPES["trimodal"])) for _ in range(2)]
    answers = []
    for policy, explains in zip(policies, (True, False), strict=True):
        answers.append([])
        for _ in range(30):
            if explains:
                assert "bucketing" in policy.explain("work", {}).rule
            answers[-1].append(policy.predict("work", {}).memory_bytes)
    assert answers[0] == answers[1]


# The others.


def test_largest_seen_is_rounded_up_and_followed_by_the_whole_node() -> None:
    policy = told(MaxSeen(NODE), [call(260 * MB), call(30 * MB)])
    assert policy.predict("work", {}).memory_bytes == 500 * MB
    assert policy.retry("work", {}, Allocation(memory_bytes=500 * MB)).memory_bytes == 128 * GB


def test_presets_follow_the_hint_and_are_multiplied() -> None:
    policy = Presets(NODE)
    assert policy.predict("work", {}).memory_bytes == 6 * GB
    first = policy.predict("work", {HINT: 10.0 * GB})
    second = policy.retry("work", {HINT: 10.0 * GB}, first)
    third = policy.retry("work", {HINT: 10.0 * GB}, second)
    assert [each.memory_bytes for each in (first, second, third)] == [10 * GB, 20 * GB, 30 * GB]


@pytest.mark.parametrize("policy", [Linear(NODE), Linear(NODE, "largest"), LowWastage(NODE)])
def test_lines_follow_a_feature_and_are_not_believed_far_beyond(policy: Predictor) -> None:
    rng = random.Random(2)
    sizes = [rng.uniform(1, 4) for _ in range(80)]
    told(policy, [call((0.5 + 2 * size) * GB, rows=size) for size in sizes])
    for size in (1.5, 2.0, 3.5):
        assert policy.predict("work", {"rows": size}).memory_bytes == pytest.approx((0.5 + 2 * size) * GB, rel=0.1)
    assert (policy.predict("work", {"rows": 1000.0}).memory_bytes or 0) <= 2 * 8.5 * GB + 1


def test_line_of_least_waste_would_have_wasted_no_more_than_the_best_flat_one() -> None:
    rng = random.Random(9)
    calls = [(x, 2 * x + rng.uniform(0, 1), 1.0) for x in (rng.uniform(1, 10) for _ in range(60))]
    slope, intercept = line_of_least_waste(calls)
    allocated = sum(max(slope * x + intercept, need) for x, need, _ in calls)
    assert allocated < 0.7 * len(calls) * max(need for _, need, _ in calls)
    assert 1.5 < slope < 2.5


def test_any_regressor_can_be_a_policy() -> None:
    class Mean:
        def fit(self, X: Sequence[Sequence[float]], y: Sequence[float]) -> None:
            self.mean = sum(y) / len(y)

        def predict(self, X: Sequence[Sequence[float]]) -> list[float]:
            return [self.mean for _ in X]

    policy = told(Regressor(NODE, Mean()), [call(2 * GB)] * 30)
    assert policy.predict("work", {}).memory_bytes == 2 * GB
    assert "Mean" in policy.explain("work", {}).rule


def test_regressor_of_scikit_learn_follows_its_features() -> None:
    pytest.importorskip("sklearn")
    policy = make_policy("regression-tree", NODE)
    told(policy, [call((1 if n % 2 else 6) * GB, kind=n % 2, rows=n) for n in range(60)])
    small, large = (policy.predict("work", {"kind": kind, "rows": 61.0}).memory_bytes or 0 for kind in (1.0, 0.0))
    assert small < 3 * GB < large < 9 * GB


def test_missing_scikit_learn_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.tree", None)
    with pytest.raises(MissingLibraryError, match="regression-tree needs scikit-learn"):
        make_policy("regression-tree", NODE)
    assert isinstance(pickle.loads(pickle.dumps(MissingLibraryError("a", "b", "c"))), MissingLibraryError)


def test_unknown_policy_is_named_with_similar_ones() -> None:
    with pytest.raises(FormatError, match="did you mean max-seen"):
        make_policy("maxseen", NODE)
    assert isinstance(make_policy("percentile-80", NODE), Percentile)
    assert make_policy("fixed-2GB", NODE).predict("work", {}).memory_bytes == 2 * GB
    with pytest.raises(FormatError, match="no policy 'fixed-much'"):
        make_policy("fixed-much", NODE)


# Laws of all predictors.


@pytest.mark.parametrize("name", NAMES)
def test_policy_ends_every_call_and_never_gives_more_than_the_node(name: str) -> None:
    policy = make_policy(name, NODE)
    result = replay(policy, CALLS)
    assert (result.calls, result.impossible) == (len(CALLS), 0)
    assert 0 < result.awe <= 1
    for category in ("step 0", "never seen"):
        assert 0 < (policy.predict(category, {"input_bytes": 1e15}).memory_bytes or 0) <= 128 * GB


@pytest.mark.parametrize("name", NAMES)
def test_policy_is_the_same_each_time_and_goes_on_after_pickling_in_the_middle(name: str) -> None:
    half = len(CALLS) // 2
    through, stopped = make_policy(name, NODE), make_policy(name, NODE)
    replay(through, CALLS[:half])
    replay(stopped, CALLS[:half])
    stopped = pickle.loads(pickle.dumps(stopped))
    first, second = (replay(policy, CALLS[half:]) for policy in (through, stopped))
    assert first == second
    assert through.predict("step 1", {"input_bytes": 1e9}) == stopped.predict("step 1", {"input_bytes": 1e9})


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("default", "whole-node", "presets")])
def test_policy_sizes_all_resources_that_were_measured(name: str) -> None:
    policy = make_policy(name, Allocation(memory_bytes=128 * GB, cores=32, disk_bytes=500 * GB))
    seen = Usage(
        category="work",
        wall_s=10.0,
        cpu_user_s=19.0,
        cpu_system_s=1.0,
        peak_memory_bytes=3 * GB,
        disk_bytes=7 * GB,
        gpu_memory_bytes=2 * GB,
    )
    told(policy, [seen] * 30)
    allocation = policy.predict("work", {})
    assert allocation.cores == pytest.approx(2.0, abs=0.11)
    assert 3 * GB <= (allocation.memory_bytes or 0) <= 3.3 * GB
    assert 7 * GB <= (allocation.disk_bytes or 0) <= 7.7 * GB
    assert 2 * GB <= (allocation.gpu_memory_bytes or 0) <= 2.3 * GB
    assert allocation.wall_s is not None
    assert allocation.wall_s > 10
    assert policy.explain("work", {}).calls == 30


def test_same_cold_start_lets_another_policy_begin() -> None:
    policy = ColdStart(MaxSeen(NODE), Presets(NODE))
    hint = {HINT: 9.0 * GB}
    assert policy.predict("work", hint).memory_bytes == 9 * GB
    assert policy.retry("work", hint, policy.predict("work", hint)).memory_bytes == 18 * GB
    assert "hint" in policy.explain("work", hint).rule
    told(policy, [call(GB)])
    assert policy.predict("work", hint).memory_bytes == GB


@pytest.mark.parametrize("shape", SHAPES)
def test_policies_that_look_at_costs_waste_less_than_the_whole_node_on_every_shape(shape: str) -> None:
    calls = shaped(SHAPES[shape])
    whole = replay(make_policy("whole-node", NODE), calls).awe
    for name in ("greedy-bucketing", "exhaustive-bucketing", "low-wastage", "percentile-95", "max-seen"):
        assert replay(make_policy(name, NODE), calls).awe > 4 * whole, name


def test_policies_of_others_do_as_well_on_a_real_trace_as_elsewhere() -> None:
    """A floor for each on a real workflow, so that none is crippled by a change: the default must beat able others."""
    usages = read(WFINSTANCES).usages
    awe = {name: replay(make_policy(name, NODE), usages).awe for name in ("percentile-95", "low-wastage", "linear")}
    assert all(value > 0.35 for value in awe.values()), awe
    assert replay(default_predictor(NODE), usages).awe > max(awe.values())


def test_every_pair_of_names_is_another_policy() -> None:
    told_names = {name: told(make_policy(name, NODE), CALLS).explain("step 1", {}).rule for name in NAMES}
    for one, other in itertools.combinations([name for name in NAMES if name != "default"], 2):
        assert told_names[one] != told_names[other], (one, other)
