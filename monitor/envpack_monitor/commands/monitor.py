"""`envpack monitor`: run a command, or look at a running process, and say what it and all below it have used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from envpack_monitor.trees.command import CommandResult
    from envpack_monitor.usage import Usage


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--limits", "limits_text", metavar="LIMITS", help="What ends it early, such as memory=2GB,wall=60s.")
@click.option("--category", metavar="NAME", help="Under which name it is remembered.  [default: the command's name]")
@click.option("--folder", type=click.Path(exists=True, file_okay=False), help="A folder whose growth is measured.")
@click.option(
    "--mechanism",
    type=click.Choice(["auto", "cgroup", "proc"]),
    default="auto",
    show_default=True,
    help="How the peak of the tree is measured: by a memory cgroup, or by /proc.",
)
@click.option("--pid", type=click.IntRange(min=1), metavar="PID", help="Look at this running process instead.")
@click.option(
    "--for", "duration", metavar="TIME", help="Look at it for so long, such as 30s.  [default: until it ends]"
)
@click.option("--series", metavar="FILE", help="Write a time series to FILE meanwhile: .csv or .jsonl.")
@click.option("--interval", metavar="TIME", default="100ms", show_default=True, help="How often the series gets a row.")
@click.option("--shared-out", is_flag=True, help="Measure memory with shared pages shared out (PSS) too.")
@click.option("--explain", is_flag=True, help="Say which ways of measuring this machine allows, and run nothing.")
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(dir_okay=False), help="Write the usage to FILE as JSON."
)
@click.option("--json", "as_json", is_flag=True, help="Print the usage as one line of JSON after the command's output.")
def monitor(
    command: tuple[str, ...],
    limits_text: str | None,
    category: str | None,
    folder: str | None,
    mechanism: str,
    pid: int | None,
    duration: str | None,
    series: str | None,
    interval: str,
    shared_out: bool,
    explain: bool,
    output: str | None,
    as_json: bool,
) -> int:
    """Run COMMAND and say what it used, with everything that it started.

    The summary goes to stderr. Exit code: 0 if the command's is 0, 1 if it failed, 2 if there is no such command, 3 if
    a limit was exceeded; then all of its processes have been killed. With --pid a running process is looked at until it
    ends, and left as it is.
    """
    if sum((bool(command), pid is not None, explain)) != 1:
        raise click.UsageError("one of COMMAND, --pid PID and --explain expected")
    if pid is None and duration is not None:
        raise click.UsageError("--for needs --pid; a command is ended by --limits wall=TIME")
    if pid is not None and limits_text is not None:
        raise click.UsageError("--pid ends nothing, so it takes no --limits")
    interval_s = _seconds(interval)
    if explain:
        return _explain(as_json)
    if pid is not None:
        return _look_at(pid, duration, category, folder, series, interval_s, shared_out, output, as_json)

    from envpack_monitor.commands.output import note, print_json, write_json
    from envpack_monitor.history.recorder import flush_default
    from envpack_monitor.limits import Limits
    from envpack_monitor.trees.command import run_command

    result = run_command(
        command,
        limits=Limits.parse(limits_text) if limits_text is not None else None,
        category=category,
        mechanism=mechanism,  # type: ignore[arg-type]  # click has checked it
        folder=folder,
        series=series,
        interval_s=interval_s,
        shared_out=shared_out,
        is_alone=True,
    )
    flush_default()
    if output is not None:
        write_json(output, result.to_dict())
    if as_json:
        print_json(result.to_dict())
    else:
        note(_summary(result))
    if result.error is not None:
        raise result.error
    return 0 if result.exit_code == 0 else 1


def _look_at(
    pid: int,
    duration: str | None,
    category: str | None,
    folder: str | None,
    series: str | None,
    interval_s: float,
    shared_out: bool,
    output: str | None,
    as_json: bool,
) -> int:
    from envpack_monitor.commands.output import note, print_json, write_json
    from envpack_monitor.history.recorder import flush_default
    from envpack_monitor.trees.attach import monitor_pid

    usage = monitor_pid(
        pid,
        duration_s=_seconds(duration) if duration is not None else None,
        category=category,
        folder=folder,
        series=series,
        interval_s=interval_s,
        shared_out=shared_out,
    )
    flush_default()
    found = {"schema": 1, "pid": pid, "usage": usage.to_dict()}
    if output is not None:
        write_json(output, found)
    if as_json:
        print_json(found)
    else:
        note("\n".join([f"envpack: {usage.category!r} (pid {pid}) was looked at", *_rows(usage)]))
    return 0


def _explain(as_json: bool) -> int:
    from envpack_monitor.commands.output import print_json
    from envpack_monitor.trees.mechanisms import chosen, explain

    reports = explain()
    if as_json:
        print_json({"schema": 1, "chosen": chosen(reports), "mechanisms": [report.to_dict() for report in reports]})
        return 0
    for report in reports:
        print(f"{report.name}: {'available' if report.is_available else 'not available'}, for {report.used_for}")
        print(f"  {report.detail}")
        for figure, quality in report.figures.items():
            print(f"  {figure}: {quality}")
    print("\n".join(["chosen", *(f"  {what}: {name}" for what, name in chosen(reports).items())]))
    return 0


def _seconds(text: str) -> float:
    from envpack_monitor.units import parse_seconds

    try:
        return parse_seconds(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _summary(result: CommandResult) -> str:
    lines = [f"envpack: {result.usage.category!r} {_ending(result)}", *_rows(result.usage, result.mechanism)]
    if result.left_behind:
        lines.append(f"  killed what it left behind: {result.left_behind} processes")
    return "\n".join(lines)


def _rows(usage: Usage, mechanism: str = "") -> list[str]:
    """Return a line for each figure that people want to see, with its quality where it is not exact."""
    from envpack_monitor.units import format_bytes, format_seconds

    by = f", by {mechanism}" if mechanism else ""
    rows: list[tuple[str, str, str]] = [
        ("wall", format_seconds(usage.wall_s), ""),
        ("cpu", format_seconds(usage.cpu_s or 0.0), f"{usage.cores or 0.0:.2f} cores"),
        ("peak memory", format_bytes(usage.peak_memory_bytes or 0), usage.quality_of("peak_memory_bytes") + by),
    ]
    if usage.shared_out_bytes is not None:
        rows.append(("shared out", format_bytes(usage.shared_out_bytes), usage.quality_of("shared_out_bytes")))
    if usage.gpu_memory_bytes:
        rows.append(("gpu memory", format_bytes(usage.gpu_memory_bytes), usage.quality_of("gpu_memory_bytes")))
    rows += [
        ("read", format_bytes(usage.bytes_read or 0), ""),
        ("written", format_bytes(usage.bytes_written or 0), ""),
        ("processes", str(usage.processes_max), f"at once, {usage.processes_total} in total"),
    ]
    if usage.threads_max is not None:
        rows.append(("threads", str(usage.threads_max), "at once"))
    if usage.disk_bytes is not None:
        rows.append(("disk", format_bytes(usage.disk_bytes), "growth of the folder"))
    return [f"  {name:12} {value:>9}  {remark}".rstrip() for name, value, remark in rows]


def _ending(result: CommandResult) -> str:
    from envpack_monitor.trees.command import signal_name

    if result.error is not None:
        return "was ended"
    if result.exit_code < 0:
        why = ": the machine was out of memory" if result.is_out_of_memory else ""
        return f"was killed: {signal_name(-result.exit_code)}{why}"
    return "is done" if result.exit_code == 0 else f"failed: exit status {result.exit_code}"
