"""How long workers may stay on what a Parsl provider has allocated."""

from __future__ import annotations

from parsl.providers.base import ExecutionProvider

# From the beginning of a job to that of its workers: `worker_init`, the launcher, Python. The scheduler counts it.
START_SHARE = 0.05
MOST_START_S = 60.0


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
