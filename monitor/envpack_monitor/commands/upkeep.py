"""`envpack history export`, `prune` and `merge`: a history as other files, smaller, and out of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envpack_monitor.usage import Usage

FORMATS = ("csv", "json", "parquet")


@click.command("export")
@click.argument("category", required=False)
@click.option("--format", "kind", type=click.Choice(FORMATS), help="[default: by the name of FILE, else csv]")
@click.option(
    "--trace", is_flag=True, help="Write the columns that `envpack history replay` reads (CSV; 1 MB is 10^6 bytes)."
)
@click.option("-o", "--output", metavar="FILE", type=click.Path(dir_okay=False), help="Write to FILE, not to stdout.")
def export_calls(category: str | None, kind: str | None, trace: bool, output: str | None) -> None:
    """Write the calls of CATEGORY, or of all, with every figure.

    Parquet needs pyarrow. Rows whose `calls` is above 1 are exact aggregates of so many calls.
    """
    from envpack_monitor.history.history import History

    remembered = History()
    if category is not None:
        remembered.calls(category, 1)
    calls = remembered.iterate(category)
    if trace:
        _write(calls, "trace", output, kind)
    else:
        _write(calls, kind or _kind_of(output), output, None)


@click.command("prune")
@click.argument("category", required=False)
@click.option("--older-than", "age", metavar="TIME", help="Only calls that began so long ago or earlier, such as 30d.")
@click.option("--keep", type=click.IntRange(0), metavar="N", help="The newest N rows of each category stay.")
@click.option("--forget", is_flag=True, help="Keep not even the sums and peaks of what goes.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune_calls(
    category: str | None, age: str | None, keep: int | None, forget: bool, dry_run: bool, as_json: bool
) -> None:
    """Remove old calls of CATEGORY, or of all; calls that go must meet all conditions.

    The sums and largest peaks of what goes stay, as one row for each way in which calls ended, so `envpack history ls`
    says the same as before. With --forget they go too, and what was learned from them. Others may write meanwhile.
    """
    from envpack_monitor.commands.output import note, print_json, print_table
    from envpack_monitor.errors import FormatError
    from envpack_monitor.history.history import History

    if age is None and keep is None and not (forget and category is not None):
        raise FormatError("prune: nothing says which calls may go", "--older-than 30d, --keep 1000 or both")
    remembered = History()
    done = remembered.prune(
        category, older_than_s=_seconds(age), keep=keep or 0, has_summary=not forget, is_trial=dry_run
    )
    if as_json:
        print_json({"schema": 1, "dry_run": dry_run, "categories": [each.to_dict() for each in done]})
        return
    if done := [each for each in done if each.removed]:
        rows = [(each.category, str(each.removed), str(each.calls), str(each.summaries)) for each in done]
        head = "rows to go" if dry_run else "rows gone"
        print_table(("category", head, "calls in them", "rows kept for their sums"), rows)
    else:
        note(f"envpack: nothing to prune: {remembered.path}")


@click.command("merge")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(dir_okay=False))
@click.option("--into", metavar="FILE", type=click.Path(dir_okay=False), help="[default: the history]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def merge_files(files: tuple[str, ...], into: str | None, as_json: bool) -> int:
    """Take the calls of other history FILEs in: those of other machines, or of a damaged file that was set aside.

    Each call comes once, however often and by whatever way it is merged. The FILEs stay as they are; both they and
    the history may be written meanwhile. Exit code 1 if a FILE was damaged and not all of it could be read.
    """
    from envpack_monitor.commands.output import note, print_json, print_table
    from envpack_monitor.history.history import History

    history = History(into)
    done = [history.merge(file) for file in files]
    if as_json:
        print_json({"schema": 1, "into": str(history.path), "files": [each.to_dict() for each in done]})
    else:
        print_table(("file", "rows added", "known"), [(each.path, str(each.added), str(each.known)) for each in done])
    damaged = [each for each in done if each.unreadable]
    for each in damaged:
        note(f"envpack: {each.path} is damaged: up to {each.unreadable} rows could not be read")
    return 1 if damaged else 0


def _write(calls: Iterable[Usage], kind: str, output: str | None, asked: str | None) -> None:
    import sys

    from envpack_monitor.commands.output import note, written_whole
    from envpack_monitor.errors import FormatError
    from envpack_monitor.history.export import FORMATS as WRITERS
    from envpack_monitor.history.export import export_trace

    if kind == "trace" and asked not in (None, "csv"):
        raise FormatError(f"a trace is a CSV file, {asked} was asked for", "leave --format out")
    write = export_trace if kind == "trace" else WRITERS[kind]
    if output is not None:
        with written_whole(output) as file:
            count = write(calls, file)
        note(f"envpack: {count} rows written: {output}")
        return
    if kind == "parquet":
        raise FormatError("parquet is not written to stdout", "-o calls.parquet")
    write(calls, sys.stdout.buffer)
    sys.stdout.flush()


def _kind_of(output: str | None) -> str:
    from pathlib import Path

    ending = Path(output).suffix.lower().lstrip(".") if output is not None else ""
    return ending if ending in FORMATS else "csv"


def _seconds(text: str | None) -> float | None:
    from envpack_monitor.errors import FormatError
    from envpack_monitor.units import parse_seconds

    if text is None:
        return None
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise FormatError(f"--older-than: {error}") from error
