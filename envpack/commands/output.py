"""How the commands of packs and stores print: sizes, tables, notes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size_text(size_bytes: int) -> str:
    """Return a size as people write it: `16.4 MB` (powers of 1000)."""
    value = float(size_bytes)
    unit = 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value /= 1000
        unit += 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 99.95 else f"{value:.1f} {_UNITS[unit]}"


def age_text(moment_s: float) -> str:
    """Return how long ago a moment (seconds since the epoch) was: `5 min ago`, `3 h ago`, `12 d ago`."""
    age_s = max(0.0, time.time() - moment_s)
    for unit, seconds in (("d", 86400), ("h", 3600), ("min", 60)):
        if age_s >= seconds:
            return f"{age_s // seconds:.0f} {unit} ago"
    return "just now"


def print_json(value: Any) -> None:
    """Print a value for programs."""
    click.echo(json.dumps(value, indent=2))


def note(text: str) -> None:
    """Print something that is not the result: to stderr."""
    click.echo(f"envpack: {text}", err=True)


class ProgressBar:
    """A bar on stderr, if that is a terminal.

    Args:
        text: what is going on.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> ProgressBar:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._text, total=None)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int) -> None:
        """Show how much is done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Print a table to stdout; in a pipe without colour, and no line is cut or folded.

    Args:
        headers: names of the columns.
        rows: the cells.
        right: numbers of the columns that are aligned to the right.
    """
    import io

    from rich.console import Console

    terminal = sys.stdout.isatty()
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=None if terminal else 10_000, highlight=False)
    console.print(_table(headers, rows, right))
    # The last column is filled up to its width; nobody wants these blanks in a file.
    click.echo("\n".join(line.rstrip() for line in text.getvalue().splitlines()))


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for position, header in enumerate(headers):
        table.add_column(header, justify="right" if position in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
