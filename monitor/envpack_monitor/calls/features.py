"""Numbers that may explain what a call uses, found in its arguments. Looking at files is all that it does outside.

| argument | features, by the name of the parameter |
|---|---|
| array, frame, series: anything with `nbytes` or `memory_usage` | `rows.bytes`, and `rows.len` |
| text or path that names an existing file | `path.bytes`, and `path.len` of a text |
| other text, bytes, sequence, set, mapping: anything with a length | `rows.len` |
| number, truth value | `n` |
| the rest of the positional ones (`*parts`) | `parts.len`, and `parts.bytes` where any of them has bytes |

A name tells the kind, so that one feature never means two things. Nothing is imported for it: an array is what has the
attributes of one. An argument that cannot tell gives no feature, and neither does one whose own code raises when asked.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import stat
from collections.abc import Callable, Mapping
from typing import Any

_LONGEST_PATH = 4096
_MOST_PARTS = 64
"""So many of a `*parts` are asked for their bytes."""

_KINDS = inspect._ParameterKind
_EMPTY: dict[str, float] = {}


class FeatureFinder:
    """Finds the features of the calls of one function.

    Args:
        function: what is called, or its signature. Of one without a signature only named arguments tell anything.
    """

    __slots__ = ("_positional", "_rest", "is_empty")

    def __init__(self, function: Callable[..., Any] | inspect.Signature) -> None:
        parameters = _parameters(function)
        self.is_empty = not parameters
        self._positional = tuple(
            each.name for each in parameters if each.kind in (_KINDS.POSITIONAL_ONLY, _KINDS.POSITIONAL_OR_KEYWORD)
        )
        self._rest = next((each.name for each in parameters if each.kind is _KINDS.VAR_POSITIONAL), "")

    def find(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, float]:
        """Return the features of one call; what it leaves to defaults has none.

        Args:
            args: positional arguments.
            kwargs: named arguments.
        """
        if not args and not kwargs:
            return _EMPTY
        found: dict[str, float] = {}
        positional = self._positional
        for name, value in zip(positional, args, strict=False):
            _look(found, name, value)
        for name, value in kwargs.items():
            _look(found, name, value)
        if self._rest and len(args) > len(positional):
            _look_at_rest(found, self._rest, args[len(positional) :])
        return found


def features_of(
    function: Callable[..., Any] | inspect.Signature,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Return what the arguments of a call tell about its size.

    Args:
        function: what is called, or its signature.
        args: positional arguments.
        kwargs: named arguments.

    Returns:
        By name: a number of bytes, a length, or the argument itself.
    """
    return finder_of(function).find(args, kwargs or {})


def finder_of(function: Callable[..., Any] | inspect.Signature) -> FeatureFinder:
    """Return the finder of a function, the same one as the last time if the function can be remembered."""
    try:
        return _remembered(function)
    except TypeError:
        return FeatureFinder(function)


@functools.lru_cache(maxsize=1024)
def _remembered(function: Callable[..., Any] | inspect.Signature) -> FeatureFinder:
    return FeatureFinder(function)


def _parameters(function: Callable[..., Any] | inspect.Signature) -> list[inspect.Parameter]:
    try:
        signature = function if isinstance(function, inspect.Signature) else inspect.signature(function)
    except (TypeError, ValueError):
        return [inspect.Parameter("kwargs", _KINDS.VAR_KEYWORD)]
    return list(signature.parameters.values())


def _look(found: dict[str, float], name: str, value: Any) -> None:
    known = _LOOKS.get(type(value))
    if known is not None:
        known(found, name, value)
        return
    try:
        _look_closely(found, name, value)
    except Exception:
        # The code of the user's own class. It was asked out of curiosity, and the call does not depend on it.
        return


def _look_closely(found: dict[str, float], name: str, value: Any) -> None:
    """Look at something of a type that is not one of Python's own plain ones."""
    if isinstance(value, (str, bytes)):
        _look_at_text(found, name, value)
    elif isinstance(value, os.PathLike):
        _look_at_file(found, name, value)
    elif not isinstance(value, type):
        if (size := _bytes_of(value)) is not None:
            found[f"{name}.bytes"] = size
        if hasattr(type(value), "__len__") and getattr(value, "shape", None) != ():
            found[f"{name}.len"] = float(len(value))
        elif size is None or getattr(value, "shape", None) == ():
            # Numbers of numpy have bytes, too; what tells about them is their value.
            _look_at_other_number(found, name, value)


def _bytes_of(value: Any) -> float | None:
    """Return the bytes of an array or a frame, deep contents not included; `None` of anything else."""
    size = getattr(value, "nbytes", None)
    if isinstance(size, (int, float)):
        return float(size)
    if callable(usage := getattr(value, "memory_usage", None)):
        used = usage(deep=False)
        return float(used.sum() if hasattr(used, "sum") else used)
    return None


def _look_at_other_number(found: dict[str, float], name: str, value: Any) -> None:
    if hasattr(type(value), "__float__"):
        found.pop(f"{name}.bytes", None)
        _look_at_number(found, name, value)


def _look_at_number(found: dict[str, float], name: str, value: Any) -> None:
    try:
        number = float(value)
    except OverflowError:
        return
    if math.isfinite(number):
        found[name] = number


def _look_at_length(found: dict[str, float], name: str, value: Any) -> None:
    found[f"{name}.len"] = float(len(value))


def _look_at_text(found: dict[str, float], name: str, value: Any) -> None:
    found[f"{name}.len"] = float(len(value))
    if isinstance(value, str) and 0 < len(value) <= _LONGEST_PATH and "\n" not in value:
        _look_at_file(found, name, value)


def _look_at_file(found: dict[str, float], name: str, value: Any) -> None:
    try:
        status = os.stat(value)
    except (OSError, ValueError):
        return
    if stat.S_ISREG(status.st_mode):
        found[f"{name}.bytes"] = float(status.st_size)


def _look_at_rest(found: dict[str, float], name: str, values: tuple[Any, ...]) -> None:
    found[f"{name}.len"] = float(len(values))
    parts: dict[str, float] = {}
    total, has_bytes = 0.0, False
    for value in values[:_MOST_PARTS]:
        parts.clear()
        _look(parts, "part", value)
        if (size := parts.get("part.bytes")) is not None:
            total, has_bytes = total + size, True
    if has_bytes and len(values) <= _MOST_PARTS:
        found[f"{name}.bytes"] = total


def _nothing(found: dict[str, float], name: str, value: Any) -> None:
    return


_LOOKS: dict[type, Callable[[dict[str, float], str, Any], None]] = {
    int: _look_at_number,
    float: _look_at_number,
    bool: _look_at_number,
    str: _look_at_text,
    **dict.fromkeys((bytes, bytearray, list, tuple, dict, set, frozenset, range), _look_at_length),
    type(None): _nothing,
}
