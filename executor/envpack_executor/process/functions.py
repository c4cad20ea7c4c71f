"""The functions that a context process has learned, and how what the set-up provides reaches them. Standard library
only.
"""

from __future__ import annotations

import _pickle as pickle
import sys
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from envpack_executor.process.meter import Tally


class Function:
    """A function that calls name by its number, and what is the same for all its calls.

    Args:
        number: of the function.
        function: what is called.
        provided: what the set-up returned.
        settings: what the manager says about its calls: `mode`, `timeout_s` (0 without), `limits` by the names of the
            fields of `Limits` (empty without), `is_alone` (each call is measured alone, however short).

    Attributes:
        injected: which results of the set-up it takes, as (position, name, value).
        tally: what its calls used.
        is_forked: each call runs in a child of the process.
        is_threaded: each call runs in a thread, beside others.
        timeout_ns: how long a call may run before it is ended; 0 for ever.
        is_bounded: somebody must see to it that a call does not take too much.
        limits: what a call may use.
        name: for messages to people.
    """

    __slots__ = (
        "function",
        "injected",
        "is_bounded",
        "is_forked",
        "is_threaded",
        "limits",
        "name",
        "tally",
        "timeout_ns",
    )

    def __init__(
        self, number: int, function: Callable[..., Any], provided: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        self.function = function
        self.injected = _injected(function, provided)
        self.limits: Mapping[str, float] = settings["limits"]
        self.is_forked: bool = settings["mode"] == "fork"
        self.is_threaded: bool = settings["mode"] == "thread"
        self.timeout_ns = int(settings["timeout_s"] * 1e9)
        self.is_bounded = bool(self.limits or self.timeout_ns)
        self.tally = Tally(number, bool(self.limits), self.is_bounded or settings["is_alone"])
        self.name: str = getattr(function, "__qualname__", None) or type(function).__qualname__

    def bounds(self, started_ns: int) -> tuple[int, int, int]:
        """Return the words for the host about a call that starts now: deadline, memory, whether it is a wall limit."""
        timeout_at_ns = started_ns + self.timeout_ns if self.timeout_ns else 0
        wall_at_ns = started_ns + int(self.limits.get("wall_s", 0) * 1e9) if "wall_s" in self.limits else 0
        memory_bytes = int(self.limits.get("memory_bytes", 0))
        if wall_at_ns and (not timeout_at_ns or wall_at_ns < timeout_at_ns):
            return wall_at_ns, memory_bytes, 1
        return timeout_at_ns, memory_bytes, 0

    def with_context(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return `kwargs` with what the set-up provides for parameters that the caller left open."""
        given = len(args)
        for position, name, value in self.injected:
            if position >= given and name not in kwargs:
                kwargs[name] = value
        return kwargs


def learn(number: int, payload: bytes, settings: Mapping[str, Any], provided: Mapping[str, Any]) -> Function:
    """Return the function in `payload`; one that cannot be loaded here fails each of its calls, with the reason."""
    try:
        return Function(number, pickle.loads(payload), provided, settings)
    except BaseException as error:
        mode = settings["mode"]
        return Function(number, _raiser(error), {}, {**settings, "mode": "direct" if mode == "fork" else mode})


class PythonMismatchError(Exception):
    """Code met an interpreter of another minor version; the client knows it by the name of its own error."""

    __module__ = "envpack_executor.errors"

    def __reduce__(self) -> Any:
        raise pickle.PicklingError("told by its name and text")


def refuse_bytecode(major: int, minor: int) -> None:
    """Let cloudpickle refuse code, both ways, because the client has another minor version of Python.

    Args:
        major: of the client's version.
        minor: likewise.
    """
    from types import CodeType

    import cloudpickle.cloudpickle as engine

    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    find = engine._builtin_type

    def refuse(code: Any) -> Any:
        raise PythonMismatchError(
            f"a function travels as bytecode between Python {major}.{minor} of the client and Python {ours} of its "
            "context (let both run the same minor version, or put the function into a module that is installed on "
            "both sides)"
        )

    # Each code object in a pickle is made of a type that is found by this function.
    engine._builtin_type = lambda name: refuse(None) if name == "CodeType" else find(name)
    engine.Pickler._dispatch_table[CodeType] = refuse


def checked_mapping(function: Callable[..., Any], value: Any) -> Mapping[str, Any]:
    """Return what a set-up function has returned, as a mapping.

    Raises:
        TypeError: it is none, or not one of names.
    """
    if value is None:
        return {}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return value
    name = getattr(function, "__qualname__", repr(function))
    raise TypeError(f"set-up function {name!r} returned {type(value).__name__}, expected a mapping of parameter names")


def _parameters(function: Callable[..., Any]) -> list[tuple[int, str]]:
    """Return the parameters of `function` that can be named, as (position, name); by keyword alone is past them all."""
    if type(function) is FunctionType and not hasattr(function, "__wrapped__"):
        code = function.__code__
        count = code.co_argcount
        names = code.co_varnames[: count + code.co_kwonlyargcount]
        return [
            (index if index < count else sys.maxsize, name)
            for index, name in enumerate(names)
            if index >= code.co_posonlyargcount
        ]
    import inspect

    kinds = {inspect.Parameter.POSITIONAL_OR_KEYWORD: False, inspect.Parameter.KEYWORD_ONLY: True}
    return [
        (sys.maxsize if kinds[parameter.kind] else index, parameter.name)
        for index, parameter in enumerate(inspect.signature(function).parameters.values())
        if parameter.kind in kinds
    ]


def _injected(function: Callable[..., Any], provided: Mapping[str, Any]) -> list[tuple[int, str, Any]]:
    """Return what the set-up provides for `function`, as (position, name, value)."""
    if not provided:
        return []
    return [(position, name, provided[name]) for position, name in _parameters(function) if name in provided]


def _raiser(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail
