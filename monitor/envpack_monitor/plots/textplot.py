"""Charts as text: bars of blocks, lines of Braille dots, and plain ASCII where the output knows neither. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable

from envpack_monitor.plots.charts import Bins, Line, format_value

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot of a Braille character, by row and column."""


def bars(name: str, bins: Bins, width: int, is_ascii: bool = False) -> list[str]:
    """Return a histogram, one line per bin: from, to, bar, count.

    Args:
        name: of the figure.
        bins: what to draw.
        width: of a line in characters.
        is_ascii: whether to do without blocks.
    """
    low = [format_value(name, edge) for edge in bins.edges[:-1]]
    high = [format_value(name, edge) for edge in bins.edges[1:]]
    left, right = max(map(len, low)), max(map(len, high))
    room = max(8, width - left - right - len(str(max(bins.counts))) - 8)
    most = max(bins.counts)
    lines = []
    for start, end, count in zip(low, high, bins.counts, strict=True):
        bar = _bar(count / most * room, is_ascii)
        lines.append(f"{start:>{left}} .. {end:>{right}} {'|' if is_ascii else '│'}{bar} {count}")
    return lines


def dots(line: Line, width: int, height: int, is_joined: bool = True, is_ascii: bool = False) -> list[str]:
    """Return a figure over time: `height` lines of plot with the range at their left, one line with times below.

    Args:
        line: what to draw; at least one point.
        width: of a line in characters.
        height: lines of the plot itself.
        is_joined: whether points are joined.
        is_ascii: whether to do without Braille.
    """
    top, bottom = max(line.values), min(0.0, *line.values)
    labels = [format_value(line.name, top), format_value(line.name, (top + bottom) / 2)]
    labels.append(format_value(line.name, bottom) if bottom else "0")
    margin = max(map(len, labels))
    columns = max(10, width - margin - 2)
    grid = _Grid(columns, height)
    _draw(grid, line, top, bottom, is_joined)
    at = {0: labels[0], height // 2: labels[1], height - 1: labels[2]}
    wall = "|" if is_ascii else "│"
    rows = [f"{at.get(number, ''):>{margin}} {wall}{text}" for number, text in enumerate(grid.rows(is_ascii))]
    first, last = (format_value("time_s", value) if value else "0 s" for value in (line.times_s[0], line.times_s[-1]))
    rows.append(f"{'':{margin}}  {first}{last:>{max(1, columns - len(first))}}")
    return [row.rstrip() for row in rows]


class _Grid:
    """Dots, two by four to a character."""

    def __init__(self, columns: int, rows: int) -> None:
        self.width, self.height = 2 * columns, 4 * rows
        self._cells = [[0] * columns for _ in range(rows)]

    def set(self, x: int, y: int) -> None:
        """Set a dot; y counts from the bottom."""
        down = self.height - 1 - y
        self._cells[down // 4][x // 2] |= _DOTS[down % 4][x % 2]

    def rows(self, is_ascii: bool) -> list[str]:
        show: Callable[[int], str] = _ascii if is_ascii else _braille
        return ["".join(map(show, cells)).rstrip() for cells in self._cells]


def _draw(grid: _Grid, line: Line, top: float, bottom: float, is_joined: bool) -> None:
    start, end = line.times_s[0], line.times_s[-1]
    across = (grid.width - 1) / (end - start) if end > start else 0.0
    up = (grid.height - 1) / (top - bottom) if top > bottom else 0.0
    before: tuple[int, int] | None = None
    for at, value in zip(line.times_s, line.values, strict=True):
        point = round((at - start) * across), round((value - bottom) * up)
        if is_joined and before is not None:
            _join(grid, before, point)
        grid.set(*point)
        before = point


def _join(grid: _Grid, one: tuple[int, int], two: tuple[int, int]) -> None:
    steps = max(abs(two[0] - one[0]), abs(two[1] - one[1]))
    for step in range(1, steps):
        share = step / steps
        grid.set(round(one[0] + (two[0] - one[0]) * share), round(one[1] + (two[1] - one[1]) * share))


def _bar(length: float, is_ascii: bool) -> str:
    if is_ascii:
        return "#" * math.ceil(length)
    eighths = math.ceil(length * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _braille(cell: int) -> str:
    return chr(0x2800 + cell) if cell else " "


def _ascii(cell: int) -> str:
    """Show where in a character the dots are: above, below, or both."""
    above, below = cell & 0b00011011, cell & 0b11100100
    return " " if not cell else "'" if not below else "." if not above else ":"
