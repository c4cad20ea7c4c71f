"""Sizes and times as people write them: `2GB`, `512MiB`, `1.5h`. Pure."""

from __future__ import annotations

import re

BYTES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", start=1):
    BYTES[_letter] = BYTES[f"{_letter}b"] = 1000**_power
    BYTES[f"{_letter}ib"] = 1024**_power
SECONDS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_NUMBER = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)(?:e([+-]?\d+))?\s*([a-zA-Z]*)\s*", re.ASCII)


def parse_bytes(text: str) -> int:
    """Return the number of bytes that a text such as `2GB`, `512 MiB` or `1000` names.

    Raises:
        ValueError: the text is not a size; the message says what is expected.
    """
    return round(_parse(text, BYTES, "a size such as 2GB, 512MiB or a number of bytes"))


def parse_seconds(text: str) -> float:
    """Return the number of seconds that a text such as `60s`, `5min` or `1.5h` names.

    Raises:
        ValueError: the text is not a time; the message says what is expected.
    """
    return float(_parse(text, SECONDS, "a time such as 60s, 5min or 1.5h"))


def format_bytes(size: float) -> str:
    """Return a size with three significant figures and a decimal unit: `231 MB`."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size) >= factor * 0.9995:
            return f"{_three_figures(size / factor)} {unit}"
    return f"{size:.0f} B"


def format_seconds(seconds: float) -> str:
    """Return a time with three significant figures: `1.25 ms`, `3.2 s`, `2 h 5 min`."""
    if seconds >= 3600:
        hours, rest = divmod(round(seconds / 60), 60)
        return f"{hours} h {rest} min"
    if seconds >= 60:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= factor * 0.9995:
            return f"{_three_figures(seconds / factor)} {unit}"
    return f"{seconds * 1e6:.2g} us"


def format_figure(resource: str, value: float) -> str:
    """Return the value of a limited resource; memory and disk in whole MB so that two figures compare at sight."""
    if resource in ("memory", "disk"):
        return f"{value / 1e6:.0f} MB" if value >= 10e6 else f"{value / 1e6:.3g} MB"
    if resource in ("wall", "cpu"):
        return f"{value:.4g} s"
    return f"{value:.4g}"


def _parse(text: str, units: dict[str, int] | dict[str, float], expected: str) -> float:
    match = _NUMBER.fullmatch(text)
    unit = match[3].lower() if match else ""
    if match is None or unit not in units:
        raise ValueError(f"{text.strip()!r} is not {expected}")
    return float(match[1] + (f"e{match[2]}" if match[2] else "")) * units[unit]


def _three_figures(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}".rstrip("0").rstrip(".")
