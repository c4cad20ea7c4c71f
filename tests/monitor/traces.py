"""Traces made by seed for the tests, and the one that may be handed on."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from envpack_monitor import Allocation, Usage
from envpack_monitor.predict import HINT, Trace, TracedCall, read_trace
from tests.monitor.helpers import MB

GB = 1000 * MB
NODE = Allocation(memory_bytes=128 * GB, cores=32)


def call(peak: float, wall_s: float = 10.0, category: str = "work", **features: float) -> Usage:
    return Usage(category=category, wall_s=wall_s, peak_memory_bytes=int(peak), features=features)


def shaped(
    draw: Callable[[random.Random], float], calls: int = 300, seed: int = 1, category: str = "work"
) -> list[Usage]:
    """Return calls of one category whose peaks are drawn from one shape, in GB."""
    rng = random.Random(seed)
    return [call(max(0.01, draw(rng)) * GB, rng.uniform(5, 50), category) for _ in range(calls)]


SHAPES: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda rng: rng.gauss(8, 1),
    "uniform": lambda rng: rng.uniform(1, 9),
    "exponential": lambda rng: rng.expovariate(1 / 4),
    "beta": lambda rng: 10 * rng.betavariate(2, 5),
    "bimodal": lambda rng: rng.gauss(rng.choice((2, 10)), 0.3),
    "trimodal": lambda rng: rng.gauss(rng.choice((2, 6, 15)), 0.3),
}


def workflow(seed: int = 1, categories: int = 12, calls: int = 20) -> list[TracedCall]:
    """Return the calls of a workflow: categories of unlike size, with input sizes, users' guesses and cores."""
    rng = random.Random(seed)
    traced = []
    for number in range(categories):
        size, wall_s, cores = rng.uniform(0.2, 12) * GB, rng.uniform(10, 400), float(rng.choice((1, 1, 2, 6, 12)))
        for _ in range(calls):
            scale = rng.uniform(0.7, 1.3)
            features = {"input_bytes": scale * GB, HINT: 4.0 * size}
            usage = call(size * scale * rng.uniform(0.95, 1.05), wall_s * scale, f"step {number}", **features)
            traced.append(TracedCall(usage, cores))
    return traced


def read(file: Path) -> Trace:
    with file.open(newline="") as lines:
        return read_trace(lines, file.name)
