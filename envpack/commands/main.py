"""The command `envpack` itself: finds its subcommands by entry points and turns errors into one line and an exit code.

Subcommands live in three packages that must not import one another. Each registers a click command under the entry
point group `envpack.commands`; it is imported only when it is called (or when `--help` lists it), and its module keeps
heavy imports inside its functions. Other distributions may register commands of their own: ours win over theirs, and
one that cannot be imported is listed with its error.

An expected error is any exception whose class carries an `exit_code`: it is printed as one line on stderr. Everything
else is a bug and keeps its traceback.

The entry points are read from the `entry_points.txt` files themselves. `importlib.metadata` does the same, but its
import costs 60 ms of CPU on the machine where `import click` costs 47 ms, and the whole of `--help` may cost 100 ms.
It is asked only when our own file is not found on the path (an import hook, a zip archive).
"""

from __future__ import annotations

import importlib
import os
import select
import sys
from collections.abc import Iterator

import click

GROUP = "envpack.commands"
DISTRIBUTION = "envpack-hpc"


def _metadata_folders() -> Iterator[str]:
    for folder in dict.fromkeys(path or "." for path in sys.path):
        try:
            with os.scandir(folder) as entries:
                yield from sorted(entry.path for entry in entries if entry.name.endswith(".dist-info"))
        except OSError:
            continue  # sys.path may name what does not exist, a zip archive, or a folder that is not ours to read


def _entries_of(metadata_folder: str) -> dict[str, str]:
    """Return name to `module:attribute` for the entry points of `GROUP` in one installed distribution."""
    try:
        with open(os.path.join(metadata_folder, "entry_points.txt"), encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except OSError:
        return {}  # most distributions have no entry points
    entries, is_ours = {}, False
    for line in lines:
        if line.startswith("["):
            is_ours = line == f"[{GROUP}]"
        elif is_ours and "=" in line and not line.startswith(("#", ";")):
            name, _, target = line.partition("=")
            entries[name.strip()] = target.partition("[")[0].strip()
    return entries


def _own_entries() -> dict[str, str]:
    prefix = DISTRIBUTION.replace("-", "_") + "-"
    for folder in _metadata_folders():
        if os.path.basename(folder).startswith(prefix) and (entries := _entries_of(folder)):
            return entries
    from importlib.metadata import entry_points

    return {entry.name: entry.value for entry in entry_points(group=GROUP)}


def _all_entries() -> dict[str, str]:
    entries = _own_entries()
    for folder in _metadata_folders():
        for name, target in _entries_of(folder).items():
            entries.setdefault(name, target)
    return entries


def _load(target: str) -> click.Command:
    module, _, attribute = target.partition(":")
    command = getattr(importlib.import_module(module), attribute)
    if not isinstance(command, click.Command):
        raise TypeError(f"entry point {target!r} of {GROUP!r} is not a click command but {command!r}")
    return command


class _BrokenCommand(click.Command):
    """Stands in the list of `--help` for a command that cannot be imported; calling that one shows its traceback."""

    def __init__(self, name: str, target: str, error: BaseException) -> None:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        super().__init__(name, short_help=f"(broken: {target}: {reason})")

    def get_short_help_str(self, limit: int = 45) -> str:
        return self.short_help or ""  # not cut: the end of the reason is what helps


class _EntryPointGroup(click.Group):
    """A click group whose commands are the entry points of `GROUP`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_all_entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = _own_entries().get(cmd_name) or _all_entries().get(cmd_name)
        return None if target is None else _load(target)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            remedy = f": did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"no such command '{args[0]}'{remedy}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands: dict[str, click.Command] = {}
        for name, target in sorted(_all_entries().items()):
            try:
                commands[name] = _load(target)
            except (Exception, SystemExit) as error:
                commands[name] = _BrokenCommand(name, target, error)
        limit = formatter.width - 6 - max(map(len, commands), default=0)
        rows = [(name, command.get_short_help_str(limit)) for name, command in commands.items() if not command.hidden]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def _print_version(ctx: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        click.echo(f"envpack {version(DISTRIBUTION)}")
        ctx.exit()


@click.command(cls=_EntryPointGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version."
)
def cli() -> None:
    """Run Python functions where their environment is not: discover, pack, retain, measure, predict."""


def _run(arguments: list[str]) -> int:
    """Run one command; an expected error becomes one line on stderr and an exit code, a bug goes on upwards."""
    try:
        # Not `cli.main`: it turns every broken pipe, also one of a worker's socket, into a silent exit.
        with cli.make_context("envpack", arguments) as ctx:
            result = cli.invoke(ctx)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        print(f"envpack: error: {_one_line(error)}", file=sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("envpack: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        exit_code = getattr(type(error), "exit_code", None)
        if not isinstance(exit_code, int):
            raise
        print(f"envpack: error: {error}", file=sys.stderr)
        return exit_code
    return result if isinstance(result, int) else 0


def _one_line(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    message = message[:1].lower() + message[1:]
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message} (see '{ctx.command_path} --help')" if ctx else message


def _has_reader_left() -> bool:
    """Tell whether the other end of our stdout is closed, so that a broken pipe is that one and no other."""
    poller = select.poll()
    try:
        poller.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError, AttributeError):
        return False  # not a descriptor: closed, replaced by a test, or absent
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(0))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: the words after `envpack`; those of the process by default.

    Returns:
        0 done, 1 the user's program or check failed, 2 wrong usage, 3 limit exceeded, 130 interrupted.
    """
    if completion := os.environ.get("_ENVPACK_COMPLETE"):
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "envpack", "_ENVPACK_COMPLETE", completion)
    try:
        exit_code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _has_reader_left():
            raise
        # The reader of our output left (`envpack ... | head`): not an error, and nothing more can be said to it.
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), sys.stdout.fileno())
        return 0
    return exit_code


if __name__ == "__main__":
    raise SystemExit(main())
