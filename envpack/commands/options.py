"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


ARGUMENTS = "envpack.arguments"


class CommandWithArguments(click.Command):
    """A command whose words behind `--` are not its own; they are in `ctx.meta[ARGUMENTS]`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set the words aside, then parse as usual."""
        if "--" in args:
            position = args.index("--")
            args, ctx.meta[ARGUMENTS] = args[:position], tuple(args[position + 1 :])
        return super().parse_args(ctx, args)


def selection_options(command: F) -> F:
    """Add `--include`, `--exclude` and `--map`, which correct what discovery finds; the last arrives as `mapping`."""
    include = click.option("--include", multiple=True, metavar="DIST", help="Add a distribution; repeatable.")
    exclude = click.option(
        "--exclude", multiple=True, metavar="DIST", help="Leave out a distribution or module; repeatable."
    )
    mapping = click.option(
        "--map", "mapping", multiple=True, metavar="IMPORT=DIST", callback=_pairs, help="Name a module's distribution."
    )
    return include(exclude(mapping(command)))


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for value, (module, _, distribution) in zip(values, pairs, strict=True):
        if not (module and distribution):
            raise click.BadParameter(f"{value!r} met, IMPORT=DIST expected, such as yaml=PyYAML", ctx, param)
    return {module: distribution for module, _, distribution in pairs}
