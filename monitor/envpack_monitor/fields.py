"""Checked reading of objects that came from elsewhere (JSON, another process) into frozen dataclasses.

All problems of one object are reported at once, each with its place: `usage.wall_s: number expected, 'fast' met`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, TypeVar

from envpack_monitor.errors import FormatError

T = TypeVar("T")

_EXPECTED = {"int": "whole number", "float": "number", "str": "text", "dict": "object of numbers"}


def read_fields(cls: type[T], data: object, where: str) -> T:
    """Return the dataclass `cls` made from `data`.

    Args:
        cls: a dataclass whose annotations are `int`, `float`, `str` or `dict[str, float]`, each perhaps `| None`.
        data: the object; its key `schema` must not be newer than `cls.schema`.
        where: what the object is called in messages.

    Raises:
        FormatError: with every field that is missing, unknown or of a wrong type.
    """
    if not isinstance(data, Mapping):
        raise FormatError(f"{where}: object expected, {data!r} met")
    kinds = _kinds(cls)  # type: ignore[arg-type]  # a class is hashable
    newest = getattr(cls, "schema", 1)
    schema = data.get("schema", newest)
    if schema not in range(1, newest + 1):
        raise FormatError(
            f"{where}.schema: at most {newest} expected, {schema!r} met", "it was made by a newer version"
        )
    problems = [f"{where}.{name}: unknown field" for name in data if name not in kinds and name != "schema"]
    for name, (kind, optional, required) in kinds.items():
        if name not in data:
            if required:
                problems.append(f"{where}.{name}: missing")
        elif not _fits(data[name], kind, optional):
            problems.append(f"{where}.{name}: {_EXPECTED[kind]} expected, {data[name]!r} met")
    if problems:
        raise FormatError("; ".join(problems))
    return cls(**{name: data[name] for name in kinds if name in data})


@functools.cache
def _kinds(cls: type[Any]) -> dict[str, tuple[str, bool, bool]]:
    """Return for each field its kind, whether it may be None, and whether it must be there."""
    kinds = {}
    for field in dataclasses.fields(cls):
        kind, _, rest = str(field.type).partition(" | ")
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        kinds[field.name] = (kind.partition("[")[0], rest == "None", required)
    return kinds


def _fits(value: object, kind: str, optional: bool) -> bool:
    if value is None:
        return optional
    match kind:
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case "str":
            return isinstance(value, str)
        case _:
            return isinstance(value, Mapping) and all(
                isinstance(key, str) and _fits(number, "float", False) for key, number in value.items()
            )
