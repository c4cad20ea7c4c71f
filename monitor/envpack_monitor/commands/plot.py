"""`envpack history plot`: the calls of a category, or a series, as a picture or in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from envpack_monitor.plots.charts import Line

ENDINGS = (".csv", ".jsonl", ".ndjson", ".json")
PANEL_LINES = 8


@click.command("plot")
@click.argument("source", metavar="CATEGORY|SERIES_FILE")
@click.option(
    "--figure",
    "figures",
    multiple=True,
    metavar="NAME",
    help="Such as wall_s, cores or bytes_read; repeatable.  [default: peak_memory_bytes; of a series all]",
)
@click.option(
    "--last", type=click.IntRange(1), default=10_000, show_default=True, help="Only so many of the newest calls."
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="A picture: .png, .svg or .pdf (matplotlib).",
)
@click.option("--ascii", "is_ascii", is_flag=True, help="In the terminal, draw with plain characters.")
def plot_calls(source: str, figures: tuple[str, ...], last: int, output: str | None, is_ascii: bool) -> None:
    """Draw the calls of CATEGORY (how often which value, and over time), or a SERIES_FILE.

    `envpack monitor --series FILE` writes one. Without -o it is drawn in the terminal, with characters.
    """
    if _is_series(source):
        _plot_series(source, figures, output, is_ascii)
    else:
        _plot_category(source, figures, last, output, is_ascii)


def _is_series(source: str) -> bool:
    from pathlib import Path

    path = Path(source)
    return path.is_file() or path.suffix.lower() in ENDINGS or "/" in source


def _plot_series(source: str, figures: tuple[str, ...], output: str | None, is_ascii: bool) -> None:
    from envpack_monitor.commands.output import written_whole
    from envpack_monitor.errors import FormatError
    from envpack_monitor.plots.charts import lines_of_series
    from envpack_monitor.plots.picture import picture_of_series

    try:
        with open(source, encoding="utf-8-sig", newline="") as texts:
            lines = lines_of_series(texts, source, figures)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise FormatError(f"cannot read {source}: {reason}", "name a series file, or a category") from error
    lines = [line for line in lines if line.values]
    if not lines:
        raise FormatError(f"{source}: nothing to plot: no row holds a figure")
    if output is not None:
        kind = _kind_of(output)
        with written_whole(output) as file:
            picture_of_series(source, lines, file, kind)
        return
    for line in lines:
        _print_line(line, is_ascii, is_joined=True)


def _plot_category(category: str, figures: tuple[str, ...], last: int, output: str | None, is_ascii: bool) -> None:
    from envpack_monitor.commands.output import note, written_whole
    from envpack_monitor.errors import FormatError
    from envpack_monitor.history.history import History
    from envpack_monitor.plots.charts import line_of_calls
    from envpack_monitor.plots.picture import picture_of_calls

    calls = History().calls(category, last)
    single = [call for call in calls if call.calls == 1]
    lines = [line_of_calls(single, figure) for figure in figures or ("peak_memory_bytes",)]
    for line in lines:
        if not line.values:
            raise FormatError(f"{category!r}: no call with a known {line.name}", "--figure wall_s")
    if added_up := sum(call.calls for call in calls) - len(single):
        note(f"envpack: {added_up} calls are in aggregates and not shown")
    if output is not None:
        kind = _kind_of(output)
        if len(lines) > 1:
            raise FormatError(f"{len(lines)} figures in one picture", "one --figure per picture of a category")
        with written_whole(output) as file:
            picture_of_calls(category, lines[0], file, kind)
        return
    for line in lines:
        _print_bins(line, is_ascii)
        _print_line(line, is_ascii, is_joined=False)


def _print_bins(line: Line, is_ascii: bool) -> None:
    from envpack_monitor.plots.charts import bins_of
    from envpack_monitor.plots.textplot import bars

    print(f"{line.name} of {len(line.values)} calls")
    print("\n".join(bars(line.name, bins_of(line.values), _width(), is_ascii or _knows_only_ascii())))
    print()


def _print_line(line: Line, is_ascii: bool, is_joined: bool) -> None:
    from envpack_monitor.plots.textplot import dots

    print(f"{line.name} over time")
    print("\n".join(dots(line, _width(), PANEL_LINES, is_joined, is_ascii or _knows_only_ascii())))
    print()


def _width() -> int:
    import shutil

    return min(shutil.get_terminal_size((80, 24)).columns, 120)


def _knows_only_ascii() -> bool:
    import sys

    try:
        "⣿█│".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return True
    return False


def _kind_of(output: str) -> str:
    from pathlib import Path

    from envpack_monitor.errors import FormatError
    from envpack_monitor.plots.picture import KINDS

    kind = Path(output).suffix.lower().lstrip(".")
    if kind not in KINDS:
        raise FormatError(f"-o {output}: a name that ends in .{', .'.join(KINDS)} expected")
    return kind
