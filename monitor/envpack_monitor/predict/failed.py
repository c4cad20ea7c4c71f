"""`FailedRun`: how much of its run an attempt with too little memory has cost when it dies. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from envpack_monitor.errors import FormatError


@dataclass(frozen=True, slots=True)
class FailedRun:
    """The share of its run that a failed attempt lasts, by how near its allocation came to the need.

    Args:
        points: (allocated over needed, share of the run), both from 0 to 1, the first ascending from 0 to 1; straight
            lines between them.
    """

    points: tuple[tuple[float, float], ...]

    def __call__(self, allocated_bytes: float, peak_bytes: float) -> float:
        """Return the share of its run after which an attempt with `allocated_bytes` dies that needs `peak_bytes`."""
        ratio = allocated_bytes / peak_bytes
        for (low, start), (high, end) in pairwise(self.points):
            if ratio <= high:
                return start + (end - start) * (ratio - low) / (high - low)
        return self.points[-1][1]

    @property
    def lines(self) -> tuple[tuple[float, float, float], ...]:
        """The straight lines as (upper end, share at ratio 0, slope), the highest ratios last."""
        return tuple(
            (high, start - (end - start) / (high - low) * low, (end - start) / (high - low))
            for (low, start), (high, end) in pairwise(self.points)
        )


def killed_after(share: float) -> FailedRun:
    """Return that a failed attempt lasts the same share of its run whatever it was given.

    Args:
        share: 0 to 1.
    """
    return FailedRun(((0.0, share), (1.0, share)))


killed_at_end = killed_after(1.0)
"""A failed attempt lasts its whole run, as the literature assumes."""

killed_on_crossing = FailedRun(((0.0, 0.0), (0.5, 0.09), (0.7, 0.16), (0.9, 0.31), (0.95, 0.38), (1.0, 0.74)))
"""It lasts until a real call crosses its allocation: measured on 4,712 memory series."""


def kill_mode(text: str) -> FailedRun:
    """Return what `end`, `curve` or a fraction names: how long a failed attempt lasts.

    Raises:
        FormatError: it is none of these.
    """
    if text in ("end", "curve"):
        return killed_at_end if text == "end" else killed_on_crossing
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise FormatError(f"kill mode: end, curve or a fraction from 0 to 1 expected, {text!r} met")
    return killed_after(share)
