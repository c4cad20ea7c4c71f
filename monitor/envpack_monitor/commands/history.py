"""`envpack history`: what calls and commands have used so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from envpack_monitor.commands.pack_trace import pack_calls
from envpack_monitor.commands.plot import plot_calls
from envpack_monitor.commands.replay import replay_calls
from envpack_monitor.commands.show import moment, table_of
from envpack_monitor.commands.upkeep import export_calls, merge_files, prune_calls

if TYPE_CHECKING:
    from envpack_monitor.history.remembered import CategorySummary

ORDERS = {
    "name": "category",
    "calls": "calls",
    "wall": "wall_s",
    "cpu": "cpu_s",
    "peak": "peak_memory_bytes",
    "last": "last_at",
}


@click.group()
def history() -> None:
    """Show what calls and commands have used so far (the file is named by ENVPACK_HISTORY)."""


for _command in (replay_calls, pack_calls, plot_calls, export_calls, prune_calls, merge_files):
    history.add_command(_command)


@history.command("ls")
@click.option("--sort", type=click.Choice(ORDERS), default="name", show_default=True, help="The largest first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_categories(sort: str, as_json: bool) -> None:
    """List the categories with their calls, time, largest peak and last use.

    Fewer rows than calls: where calls came too fast for a row each, the history holds a sample and exact aggregates.
    """
    from envpack_monitor.commands.output import note, print_json, print_table
    from envpack_monitor.history.history import History
    from envpack_monitor.units import format_bytes, format_seconds

    remembered = History()
    categories = remembered.categories()
    if sort != "name":
        field = ORDERS[sort]
        categories.sort(key=lambda each: getattr(each, field) or 0, reverse=True)
    if as_json:
        print_json({"schema": 1, "categories": [each.to_dict() for each in categories]})
        return
    if not categories:
        note(f"envpack: no calls yet: {remembered.path}")
        return
    rows = [
        (
            each.category,
            str(each.calls),
            str(each.rows),
            format_seconds(each.wall_s),
            format_seconds(each.cpu_s),
            "-" if each.peak_memory_bytes is None else format_bytes(each.peak_memory_bytes),
            moment(each.last_at),
        )
        for each in categories
    ]
    print_table(("category", "calls", "rows", "wall", "cpu", "largest peak", "last call began"), rows)


@history.command("show")
@click.argument("category")
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="Only so many of the newest calls.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with every figure.")
def show_calls(category: str, last: int, as_json: bool) -> None:
    """Show the newest calls of CATEGORY, and whether each call has a row of its own.

    Figures that nobody measured in any of these calls are left out. A figure that is not exact says what it is: `upper
    bound`, `lower bound`, or `sampled(SECONDS)`.
    """
    from envpack_monitor.commands.output import note, print_json, print_table
    from envpack_monitor.history.history import History

    remembered = History()
    calls = remembered.calls(category, last)
    summary = remembered.summary(category)
    if as_json:
        found = [call.to_dict() for call in calls]
        print_json({"schema": 1, "category": category, "summary": summary.to_dict(), "calls": found})
        return
    heads, rows = table_of(calls)
    print_table(heads, rows)
    note(f"envpack: {_kind_of_rows(summary)}")


def _kind_of_rows(summary: CategorySummary) -> str:
    if summary.calls == summary.rows:
        return f"{summary.calls} calls, one row each"
    return f"{summary.calls} calls in {summary.rows} rows: a sample, and rows that are exact sums of many calls"
