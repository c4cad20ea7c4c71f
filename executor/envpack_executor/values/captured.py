"""Says which captured value makes a function large, once for each: most often nobody meant to send it."""

from __future__ import annotations

import logging
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any

from envpack_executor.process import kept

_log = logging.getLogger(__name__)

WARN_BYTES = 10_000_000
_told: set[tuple[str, str, str]] = set()


def warn_of_large(function: Callable[..., Any], size_bytes: int) -> None:
    """Warn, once for each variable of each function, if a function takes along more than `WARN_BYTES`.

    Args:
        function: what is sent by value.
        size_bytes: with everything that it takes along.
    """
    if size_bytes < WARN_BYTES or not isinstance(function, types.FunctionType):
        return
    sizes = [(_size(value), name) for name, value in _named(function)]
    size, variable = max(sizes, default=(0, "?"))
    key = function.__module__, function.__qualname__, variable
    if key not in _told:
        _told.add(key)
        _log.warning(
            "function %r takes %.0f MB along, most of it as %r (%.0f MB); it goes to each node once, and again when it "
            "changes: give it as an argument, by executor.put(...), or make it in the set-up of a context",
            function.__qualname__,
            size_bytes / 1e6,
            variable,
            size / 1e6,
        )


def _named(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Return the variables that a function captures, with their values."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield name, function.__globals__[name]
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    yield from zip(names[len(names) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def _size(value: Any) -> int:
    """Return the size of the pickle of a value in bytes, with its buffers; 0 for what goes by name or not at all."""
    if isinstance(value, types.ModuleType | types.FunctionType | type):
        return 0
    buffers = kept.Buffers()
    try:
        stream = pickle.dumps(value, kept.PROTOCOL, buffer_callback=buffers)
    except Exception:
        return 0  # only cloudpickle can, or nobody: then it is not what is large
    return len(stream) + sum(map(len, buffers.views))
