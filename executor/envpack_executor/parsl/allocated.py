"""What a Parsl provider allocates for each worker: for how long, and how much of a node."""

from __future__ import annotations

import re

from parsl.providers.base import ExecutionProvider

# From the beginning of a job to that of its workers: `worker_init`, the launcher, Python. The scheduler counts it.
START_SHARE = 0.05
MOST_START_S = 60.0
# The rest is for the worker, and for calls that take more before anybody has seen it.
USABLE_SHARE = 0.9
_SOCKETS = re.compile(r"\(.*?\)")


def wall_time_s(provider: ExecutionProvider) -> float | None:
    """Return for how long workers may stay, in seconds, with time for their start; None where there is no wall time.

    Args:
        provider: of Parsl.

    Raises:
        ValueError: its wall time is none.
    """
    text = getattr(provider, "walltime", None)
    if not text:
        return None
    try:
        hours, minutes, seconds = (int(part) for part in str(text).split(":"))
    except ValueError as error:
        raise ValueError(f"walltime of {type(provider).__name__} is {text!r}, expected HH:MM:SS") from error
    # Slurm is told whole minutes only.
    wall_s = 60.0 * (60 * hours + minutes) or float(seconds)
    return wall_s - min(START_SHARE * wall_s, MOST_START_S)


def memory_of(provider: ExecutionProvider) -> int | None:
    """Return what calls may have of the memory of a node's job; None where the provider says nothing about it."""
    per_node_gb = getattr(provider, "mem_per_node", None)
    return None if per_node_gb is None else int(USABLE_SHARE * per_node_gb * 1e9)


def gpus_of(provider: ExecutionProvider) -> int:
    """Return how many GPUs of a node a job has; 0 where the provider says nothing about it."""
    return getattr(provider, "gpus_per_node", None) or _gpus_in(getattr(provider, "gres", None) or "")


def _gpus_in(gres: str) -> int:
    """Return how many GPUs are among the generic resources that Slurm is asked for, such as `gpu:a100:2(S:0-1)`."""
    gpus = 0
    for each in _SOCKETS.sub("", gres).split(","):
        name, *details = each.strip().split(":")
        if name == "gpu":
            count = details[-1] if details else ""
            gpus += int(count) if count.isdecimal() else 1  # a type alone is one of it
    return gpus
