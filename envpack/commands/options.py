"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


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
