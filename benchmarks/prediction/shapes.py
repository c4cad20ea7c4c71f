"""Peaks drawn by seed from the shapes of the bucketing papers, in GB: one category, each call of the same length."""

from __future__ import annotations

import random
from collections.abc import Callable

from envpack_monitor import Usage

WALL_S = 500.0


def _mixture(*parts: tuple[float, float]) -> Callable[[random.Random], float]:
    return lambda rng: rng.gauss(*rng.choice(parts))


SHAPES: dict[str, Callable[[random.Random], float]] = {
    "normal small": lambda rng: rng.gauss(8, 2),
    "normal large": lambda rng: rng.gauss(32, 5),
    "uniform small": lambda rng: rng.uniform(1, 4),
    "uniform large": lambda rng: rng.uniform(10, 40),
    "exponential": lambda rng: min(64, rng.expovariate(1 / 20)),
    "beta": lambda rng: 40 * rng.betavariate(8, 2),
    "inverse beta": lambda rng: 40 * rng.betavariate(2, 5),
    "bimodal": _mixture((8, 2), (32, 4)),
    "trimodal": _mixture((11, 1.5), (16, 3), (32, 4)),
}

PHASES: dict[str, Callable[[random.Random], float]] = {
    "bimodal, phase by phase": SHAPES["bimodal"],
    "trimodal, phase by phase": SHAPES["trimodal"],
}
"""The same draws, the small ones first: not stationary, so no fixed ladder is the measure of a policy that follows."""


def draw(shape: str, calls: int, seed: int) -> list[Usage]:
    """Return calls whose peaks have a shape."""
    rng = random.Random(f"{shape} {seed}")
    choose = SHAPES.get(shape) or PHASES[shape]
    peaks = [max(0.05, choose(rng)) for _ in range(calls)]
    if shape in PHASES:
        peaks.sort(key=lambda peak: (peak > 13) + (peak > 22))
    return [Usage(category="work", wall_s=WALL_S, peak_memory_bytes=int(peak * 1e9)) for peak in peaks]
