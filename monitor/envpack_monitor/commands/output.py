"""How the commands of this package print: one place for tables and for the files that they write."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from envpack_monitor.errors import FormatError


def print_json(value: Any) -> None:
    """Print one object on stdout, on one line if it is a small one."""
    print(json.dumps(value, indent=2 if len(json.dumps(value)) > 2000 else None))


def write_json(path: str, value: Any) -> None:
    """Write one object into a file, whole or not at all.

    Raises:
        FormatError: the file cannot be written.
    """
    with written_whole(path) as file:
        file.write((json.dumps(value, indent=2) + "\n").encode())


@contextlib.contextmanager
def written_whole(path: str) -> Iterator[IO[bytes]]:
    """Give a file to write to, which takes its name when all is written; if that fails, nothing has changed.

    Raises:
        FormatError: the file cannot be written.
    """
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            yield file
        beside.replace(target)
    except OSError as error:
        raise FormatError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on stdout: the first column is text, the others are figures; in a pipe no line is folded."""
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    is_terminal = sys.stdout.isatty()
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for number, head in enumerate(heads):
        table.add_column(Text(head), justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    page = io.StringIO()
    Console(file=page, force_terminal=is_terminal, width=None if is_terminal else 10_000, highlight=False).print(table)
    print("\n".join(line.rstrip() for line in page.getvalue().splitlines()))


def note(text: str) -> None:
    """Print a line for people on stderr."""
    print(text, file=sys.stderr)
