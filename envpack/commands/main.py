"""The command `envpack` itself: finds its subcommands by entry points and turns errors into one line and an exit code.

Subcommands live in three packages that must not import one another. Each registers a click command under the entry
point group `envpack.commands`; it is imported only when it is called (or when `--help` lists it), and its module keeps
heavy imports inside its functions. An expected error is any exception whose class carries an `exit_code`: it is
printed as one line on stderr. Everything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint, entry_points, version

import click

GROUP = "envpack.commands"


class _EntryPointGroup(click.Group):
    """A click group whose commands are the entry points of `GROUP`."""

    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=GROUP)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._entries().get(cmd_name)
        if entry is None:
            return None
        command = entry.load()
        if not isinstance(command, click.Command):
            raise TypeError(f"entry point {entry.value!r} of {GROUP!r} is not a click command but {command!r}")
        return command


@click.command(cls=_EntryPointGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("envpack-hpc"), prog_name="envpack")
def cli() -> None:
    """Run Python functions where their environment is not: discover, pack, retain, measure, predict."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: the words after `envpack`; those of the process by default.

    Returns:
        0 done, 1 the user's program or check failed, 2 wrong usage, 3 limit exceeded, 130 interrupted.
    """
    try:
        result = cli.main(arguments, prog_name="envpack", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show(sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("envpack: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output left (`envpack ... | head`): not an error, and nothing more can be said on stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        exit_code = getattr(type(error), "exit_code", None)
        if not isinstance(exit_code, int):
            raise
        print(f"envpack: error: {error}", file=sys.stderr)
        return exit_code
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    raise SystemExit(main())
