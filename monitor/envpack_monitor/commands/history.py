"""`envpack history`: what calls and commands have used so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from envpack_monitor.commands.replay import replay_calls

if TYPE_CHECKING:
    from envpack_monitor.usage import Usage


@click.group()
def history() -> None:
    """Show what calls and commands have used so far (the file is named by ENVPACK_HISTORY)."""


history.add_command(replay_calls)


@history.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_categories(as_json: bool) -> None:
    """List the categories with their calls, time and largest peak."""
    from envpack_monitor.commands.output import note, print_json, print_table
    from envpack_monitor.history import History
    from envpack_monitor.units import format_bytes, format_seconds

    remembered = History()
    categories = remembered.categories()
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
            format_seconds(each.wall_s),
            format_seconds(each.cpu_s),
            format_bytes(each.peak_memory_bytes) if each.peak_memory_bytes is not None else "-",
        )
        for each in categories
    ]
    print_table(("category", "calls", "wall", "cpu", "largest peak"), rows)


@history.command("show")
@click.argument("category")
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="Only so many of the newest calls.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_calls(category: str, last: int, as_json: bool) -> None:
    """Show the newest calls of CATEGORY."""
    from envpack_monitor.commands.output import print_json, print_table
    from envpack_monitor.history import History

    calls = History().calls(category, last)
    if as_json:
        print_json({"schema": 1, "category": category, "calls": [call.to_dict() for call in calls]})
        return
    print_table(("started", "wall", "cpu", "peak", "above before", "read", "written", "end"), map(_row, calls))


def _row(call: Usage) -> tuple[str, ...]:
    import time

    from envpack_monitor.units import format_bytes, format_seconds

    def size(value: int | None) -> str:
        return "-" if value is None else format_bytes(value)

    peak = size(call.peak_memory_bytes)
    quality = call.quality_of("peak_memory_bytes")
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(call.started_at)),
        format_seconds(call.wall_s),
        "-" if call.cpu_s is None else format_seconds(call.cpu_s),
        peak if quality in ("exact", "unknown") else f"{peak} ({quality})",
        size(call.memory_difference_bytes),
        size(call.bytes_read),
        size(call.bytes_written),
        _end(call),
    )


def _end(call: Usage) -> str:
    if call.limit_exceeded is not None:
        return f"{call.limit_exceeded} limit"
    if call.exception is not None:
        return call.exception
    if call.signal is not None:
        return f"signal {call.signal}"
    return f"status {call.exit_status}" if call.exit_status else "done"
