"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

_SIZES = {"": 1, "b": 1} | {
    unit: base**power
    for power, letter in enumerate("kmgtp", start=1)
    for base, ending in ((1000, ""), (1000, "b"), (1024, "ib"))
    for unit in [letter + ending]
}
_AGES = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800}

F = TypeVar("F", bound=Callable[..., Any])


class Quantity(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest click
    """A number with a unit: `SIZE` gives bytes, `AGE` seconds."""

    def __init__(self, name: str, units: dict[str, int], expected: str) -> None:
        self.name = name
        self._units = units
        self._expected = expected

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number in the smallest unit."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", value, re.ASCII | re.IGNORECASE)
        if match is None or match[2].lower() not in self._units:
            self.fail(f"{value!r} met, {self._expected} expected", param, ctx)
        return float(match[1]) * self._units[match[2].lower()]


SIZE = Quantity("SIZE", _SIZES, "a size such as 20GB, 512MiB or a number of bytes")
AGE = Quantity("AGE", _AGES, "an age such as 30d, 12h or 90min")

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
