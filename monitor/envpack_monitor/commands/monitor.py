"""`envpack monitor`: run a command and say what it, and everything that it started, has used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from envpack_monitor.command import CommandResult


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--limits", "limits_text", metavar="LIMITS", help="What ends it early, such as memory=2GB,wall=60s.")
@click.option("--category", metavar="NAME", help="Under which name it is remembered.  [default: the command's name]")
@click.option("--folder", type=click.Path(exists=True, file_okay=False), help="A folder whose growth is measured.")
@click.option(
    "--mechanism",
    type=click.Choice(["auto", "cgroup", "proc"]),
    default="auto",
    show_default=True,
    help="How the peak of the tree is measured: by a memory cgroup, or by looking at /proc.",
)
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
    output: str | None,
    as_json: bool,
) -> int:
    """Run COMMAND and say what it used, with everything that it started.

    The summary goes to stderr. Exit code: 0 if the command's is 0, 1 if it failed, 2 if there is no such command, 3 if
    a limit was exceeded; then all of its processes have been killed.
    """
    from envpack_monitor.command import run_command
    from envpack_monitor.commands.output import note, print_json, write_json
    from envpack_monitor.limits import Limits
    from envpack_monitor.recorder import flush_default

    result = run_command(
        command,
        limits=Limits.parse(limits_text) if limits_text is not None else None,
        category=category,
        mechanism=mechanism,  # type: ignore[arg-type]  # click has checked it
        folder=folder,
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


def _summary(result: CommandResult) -> str:
    from envpack_monitor.units import format_bytes, format_seconds

    usage = result.usage
    rows = [
        ("wall", format_seconds(usage.wall_s), ""),
        ("cpu", format_seconds(usage.cpu_s or 0.0), f"{usage.cores or 0.0:.2f} cores"),
        (
            "peak memory",
            format_bytes(usage.peak_memory_bytes or 0),
            f"{usage.quality_of('peak_memory_bytes')}, by {result.mechanism}",
        ),
        ("read", format_bytes(usage.bytes_read or 0), ""),
        ("written", format_bytes(usage.bytes_written or 0), ""),
        ("processes", str(usage.processes_max), "at once"),
    ]
    if usage.disk_bytes is not None:
        rows.append(("disk", format_bytes(usage.disk_bytes), "growth of the folder"))
    lines = [f"envpack: {usage.category!r} {_ending(result)}"]
    lines += [f"  {name:12} {value:>9}  {remark}".rstrip() for name, value, remark in rows]
    if result.left_behind:
        lines.append(f"  killed what it left behind: {result.left_behind} processes")
    return "\n".join(lines)


def _ending(result: CommandResult) -> str:
    from envpack_monitor.command import signal_name

    if result.error is not None:
        return "was ended"
    if result.exit_code < 0:
        return f"was killed: {signal_name(-result.exit_code)}"
    return "is done" if result.exit_code == 0 else f"failed: exit status {result.exit_code}"
