"""The retry ladder of least expected cost over weighted samples, exactly, in linear time after sorting.

A call gets the first rung; if it needs more, it fails, has cost a share of its run at that rung, and gets the next.
Which rungs are best when the next call is one of those seen? Only seen values can be rungs of an optimal ladder:
between two of them an allocation costs more and saves no call. With values v ascending, w their weights, T the running
sum of w, and k(r) the share of a run that an attempt lasts which was given r times what it needed, the least cost of
the calls above i is

    V(i) = min over j >= i of  v_j (T_{j+1} - T_i)  +  F_j  +  V(j+1),   F_j = v_j * sum over m > j of w_m k(v_j / v_m)

For fixed j that is a line in T_i with slope -v_j. From the last i to the first, lines come with rising slopes and are
asked at falling points, so the lower envelope is kept in a queue and every line enters and leaves it once. F_j is free
where k is piecewise linear: over a stretch of k it is a sum of w and of w/v, and the bounds of the stretches move one
way only. To give the largest value first and to choose one first allocation before the maximum are special cases of
this ladder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from envpack_monitor.predict.failed import FailedRun, killed_at_end


def best_ladder(
    values: Sequence[float], weights: Sequence[float], failed: FailedRun = killed_at_end
) -> tuple[list[float], float]:
    """Return the ladder that costs least over the samples.

    Args:
        values: what each sample needs, ascending and positive.
        weights: how much one unit of allocation for that sample costs (its wall time), positive.
        failed: the share of its run that a failed attempt costs.

    Returns:
        The rungs, ascending, the last one being the largest value; and the cost of all samples on it.
    """
    count = len(values)
    sums = [0.0, *accumulate(weights)]
    best = [0.0] * (count + 1)
    choice = [0] * count
    # The lines of the envelope, from `front` to `last`; three lists, because the loop runs for every new rule.
    slopes, starts, owners = [0.0] * count, [0.0] * count, [0] * count
    front, last = 0, -1
    failures = _failures(values, weights, sums, failed)
    for i in range(count - 1, -1, -1):
        value = values[i]
        slope, start = -value, value * sums[i + 1] + failures[i] + best[i + 1]
        while last > front and (start - starts[last - 1]) * (slopes[last] - slopes[last - 1]) <= (
            starts[last] - starts[last - 1]
        ) * (slope - slopes[last - 1]):
            # The last line is nowhere the lowest any more.
            last -= 1
        if last < front or slopes[last] != slope or starts[last] > start:
            last += last < front or slopes[last] != slope
            slopes[last], starts[last], owners[last] = slope, start, i
        at = sums[i]
        while front < last and (slopes[front + 1] - slopes[front]) * at <= starts[front] - starts[front + 1]:
            front += 1
        best[i], choice[i] = slopes[front] * at + starts[front], owners[front]
    rungs, i = [], 0
    while i < count:
        rungs.append(values[choice[i]])
        i = choice[i] + 1
    return rungs, best[0]


def ladder_over(samples: Iterable[tuple[float, float]], failed: FailedRun = killed_at_end) -> list[float]:
    """Return the ladder that costs least over (value, weight) in any order; see `best_ladder`."""
    ordered = sorted(samples)
    return best_ladder([value for value, _ in ordered], [weight for _, weight in ordered], failed)[0]


def cost_of(rungs: Sequence[float], need: float, failed: FailedRun = killed_at_end) -> float:
    """Return what a call costs on a ladder per unit of its wall time; beyond the last rung allocations double."""
    cost = 0.0
    for rung in rungs:
        if rung >= need:
            return cost + rung
        cost += rung * failed(rung, need)
    rung = rungs[-1] * 2
    while rung < need:
        cost += rung * failed(rung, need)
        rung *= 2
    return cost + rung


def _failures(
    values: Sequence[float], weights: Sequence[float], sums: Sequence[float], failed: FailedRun
) -> list[float]:
    """Return what failing at each value costs the calls above it."""
    total = sums[-1]
    lines = failed.lines
    if len(lines) == 1 and lines[0][2] == 0:
        share = lines[0][1]
        return [share * value * (total - below) for value, below in zip(values, sums[1:], strict=True)]
    count = len(values)
    shares = [0.0, *accumulate(weight / value for value, weight in zip(values, weights, strict=True))]
    lows = [count] * len(lines)
    costs = [0.0] * count
    for i in range(count - 1, -1, -1):
        value, cost, high = values[i], 0.0, count
        for number, (upper, start, slope) in enumerate(lines):
            # The needs whose ratio to this value lies on this line, the largest needs (lowest ratios) first.
            low, least = lows[number], value / upper
            while low > i + 1 and values[low - 1] >= least:
                low -= 1
            lows[number] = low = max(low, i + 1)
            if high > low:
                cost += start * (sums[high] - sums[low]) + slope * value * (shares[high] - shares[low])
                high = low
        costs[i] = value * cost
    return costs
