"""The retry ladder of least expected cost over weighted samples, exactly, in linear time after sorting.

A call gets the first rung; if it needs more, it fails, has cost a share `k` of its run at that rung, and gets the
next. Which rungs are best when the next call is one of those seen? Only seen values can be rungs of an optimal ladder:
between two of them an allocation costs more and saves no call. With values v ascending and T the running sum of the
weights, the least cost of the calls above i is

    V(i) = min over j >= i of  v_j (T_{j+1} - T_i)  +  k v_j (T_n - T_{j+1})  +  V(j+1)

For fixed j that is a line in T_i with slope -v_j. From the last i to the first, lines come with rising slopes and are
asked at falling points, so the lower envelope is kept in a queue and every line enters and leaves it once. To give the
largest value first and to choose one first allocation before the maximum are special cases of this ladder.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate


def best_ladder(
    values: Sequence[float], weights: Sequence[float], failed_share: float = 1.0
) -> tuple[list[float], float]:
    """Return the ladder that costs least over the samples.

    Args:
        values: what each sample needs, ascending and positive.
        weights: how much one unit of allocation for that sample costs (its wall time), positive.
        failed_share: the share of a run that a failed attempt costs, 0 to 1.

    Returns:
        The rungs, ascending, the last one being the largest value; and the cost of all samples on it.
    """
    count = len(values)
    sums = [0.0, *accumulate(weights)]
    best = [0.0] * (count + 1)
    choice = [0] * count
    lines: list[tuple[float, float, int]] = []
    front = 0
    for i in range(count - 1, -1, -1):
        intercept = values[i] * (sums[i + 1] + failed_share * (sums[count] - sums[i + 1])) + best[i + 1]
        front = _add_line(lines, front, (-values[i], intercept, i))
        while front + 1 < len(lines) and _at(lines[front + 1], sums[i]) <= _at(lines[front], sums[i]):
            front += 1
        best[i], choice[i] = _at(lines[front], sums[i]), lines[front][2]
    rungs, i = [], 0
    while i < count:
        rungs.append(values[choice[i]])
        i = choice[i] + 1
    return rungs, best[0]


def cost_of(rungs: Sequence[float], need: float, failed_share: float = 1.0) -> float:
    """Return what a call costs on a ladder per unit of its wall time; beyond the last rung allocations double."""
    cost = 0.0
    for rung in rungs:
        if rung >= need:
            return cost + rung
        cost += failed_share * rung
    rung = rungs[-1] * 2
    while rung < need:
        cost += failed_share * rung
        rung *= 2
    return cost + rung


def _at(line: tuple[float, float, int], x: float) -> float:
    return line[0] * x + line[1]


def _add_line(lines: list[tuple[float, float, int]], front: int, new: tuple[float, float, int]) -> int:
    """Append a line whose slope is at least that of all others, and drop those that are nowhere lowest any more."""
    if len(lines) > front and lines[-1][0] == new[0]:
        if lines[-1][1] <= new[1]:
            return front
        lines.pop()
    while len(lines) - front >= 2 and _is_hidden(lines[-2], lines[-1], new):
        lines.pop()
    lines.append(new)
    return min(front, len(lines) - 1)


def _is_hidden(
    first: tuple[float, float, int], middle: tuple[float, float, int], last: tuple[float, float, int]
) -> bool:
    """Tell whether `middle` is nowhere the lowest of three lines with rising slopes."""
    return (last[1] - first[1]) * (middle[0] - first[0]) <= (middle[1] - first[1]) * (last[0] - first[0])
