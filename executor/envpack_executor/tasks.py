"""`@task`: a function with what the executor should know about each of its calls.

How a task is pickled depends on who does it. By name where that leads back to it. By value, our own picklers send the
bare function: an environment without envpack can open it, and only the call counts there. Those of others (Dask's, for
instance, on the way to its workers) get the bare function too, with the options beside it as bytes that nobody needs to
open; `revived` makes it a task again.
"""

from __future__ import annotations

import functools
import math
import pickle
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

from envpack_executor.errors import TaskError
from envpack_monitor.allocation import Allocation
from envpack_monitor.units import parse_bytes

P = ParamSpec("P")
R = TypeVar("R")

Mode = Literal["direct", "fork", "thread", "fresh"]
MODES: tuple[Mode, ...] = ("direct", "fork", "thread", "fresh")


RESOURCES = ("cores", "memory", "disk", "gpus")


def mode_class(mode: str) -> str:
    """Return what must be equal for calls of two modes to share the processes of a context."""
    return {"direct": "warm", "fork": "warm"}.get(mode, mode)


class _Inherit:
    """The executor's own setting; not to be confused with None, which is the interpreter that runs."""

    def __repr__(self) -> str:
        return "INHERIT"

    def __reduce__(self) -> str:
        return "INHERIT"  # there is one


INHERIT = _Inherit()
"""For `environment`: what the executor was told."""


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What `@task` was told.

    Args:
        setup: the set-up function of the context; None without one.
        setup_args: its arguments.
        category: under which usage is remembered; None for the function's own name.
        environment: see `ContextExecutor`; `INHERIT` for the executor's.
        mode: `direct`, `fork`, `thread` or `fresh`.
        setup_timeout_s: how long a process of the context may take to become ready; 0 for as long as the executor
            allows.
        timeout_s: a call that runs longer is ended; 0 for no bound.
        retries: how often a call that raises is run again.
        priority: calls with a larger one go first.
        resources: what a call needs of its node at least; None for one slot.
        least_s: a call is not begun on a node that leaves within this time, unless it has just come and no other stays
            longer; 0 to judge by earlier calls alone.
        is_measured_alone: what a call uses is told of each, however short it is; otherwise the sum of several.
    """

    setup: Callable[..., Any] | None = None
    setup_args: tuple[Any, ...] = ()
    category: str | None = None
    environment: Any = INHERIT
    mode: Mode = "direct"
    setup_timeout_s: float = 0.0
    timeout_s: float = 0.0
    retries: int = 0
    priority: float = 0
    resources: Allocation | None = None
    least_s: float = 0.0
    is_measured_alone: bool = False

    def with_mode(self, mode: Mode) -> TaskOptions:
        """Return the same options with another mode."""
        return replace(self, mode=mode)


class Task(Generic[P, R]):
    """A function that carries its context and options; calling it calls the function, here and now.

    Args:
        function: the function.
        options: what the executor should know.
    """

    # In slots, so that `functools.wraps` around a task does not copy them: they would travel with the wrapper.
    __slots__ = ("__dict__", "__weakref__", "function", "options")

    def __init__(self, function: Callable[P, R], options: TaskOptions) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.options = options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, here and now."""
        return self.function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Task[..., R] | Task[P, R]:
        """Bind to an instance, as a function would: `submit(obj.method)` keeps the options."""
        if instance is None:
            return self
        return Task(self.function.__get__(instance, owner), self.options)

    def __reduce__(self) -> str | tuple[Any, ...]:
        # The wrapper of the standard library can be opened everywhere.
        name: str = getattr(self, "__qualname__", "")
        module = getattr(self, "__module__", "__main__")
        if module != "__main__" and getattr(sys.modules.get(module), name, None) is self:
            return name
        if _pickling.is_bare:
            return functools.partial, (self.function,)
        import cloudpickle

        packed = cloudpickle.dumps(self.options)
        return functools.partial, (self.function,), (self.function, (), {}, {_OPTIONS: packed})

    def __repr__(self) -> str:
        return f"<task {getattr(self, '__qualname__', self.function)!s}>"


class _Pickling(threading.local):
    is_bare = False


_pickling = _Pickling()
_OPTIONS = "__envpack_options__"


@contextmanager
def without_options() -> Iterator[None]:
    """Let tasks that this thread pickles by value be bare functions."""
    before, _pickling.is_bare = _pickling.is_bare, True
    try:
        yield
    finally:
        _pickling.is_bare = before


def revived(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the task that `function` was before somebody else has pickled it; any other callable as it is."""
    packed = getattr(function, "__dict__", {}).get(_OPTIONS) if type(function) is functools.partial else None
    return function if packed is None else Task(function.func, _options(packed))  # type: ignore[attr-defined]


@functools.lru_cache(maxsize=256)
def _options(packed: bytes) -> TaskOptions:
    """Return the same object for the same bytes, so that the set-up function of many calls is one."""
    options: TaskOptions = pickle.loads(packed)
    return options


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(
    *,
    context: Callable[..., Any] | tuple[Any, ...] | None = None,
    category: str | None = None,
    environment: str | PathLike[str] | _Inherit | None = INHERIT,
    mode: Mode = "direct",
    setup_timeout_s: float | None = None,
    timeout_s: float | None = None,
    retries: int = 0,
    priority: float = 0,
    resources: Mapping[str, Any] | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    context: Callable[..., Any] | tuple[Any, ...] | None = None,
    category: str | None = None,
    environment: Any = INHERIT,
    mode: Mode = "direct",
    setup_timeout_s: float | None = None,
    timeout_s: float | None = None,
    retries: int = 0,
    priority: float = 0,
    resources: Mapping[str, Any] | None = None,
) -> Any:
    """Declare what the executor should know about the calls of a function.

    Args:
        function: the function, when used as `@task` alone.
        context: a set-up function, or a tuple of it and its arguments. It runs once in each process of the context
            and returns a mapping; a call receives the values whose keys are names of its parameters.
        category: under which the usage of calls is remembered; module and name of the function by default.
        environment: where calls run, see `ContextExecutor`; by default what the executor was told.
        mode: `direct` runs calls one after another in warm processes; `fork` each in a child of a warm process, which
            shares its memory until one of both writes; `thread` several at once in one warm process, a slot for each;
            `fresh` each in a new process.
        setup_timeout_s: a context process that is not ready after so long, in seconds, is killed, and its calls end
            with `ContextSetupTimeoutError`; by default what the executor was told.
        timeout_s: a call that runs longer, in seconds, is ended with `CallTimeoutError`; the time in which it waits
            does not count. In mode `fork` only its child ends, otherwise its process.
        retries: a call that raises, ends its process or exceeds its time is run again so often. The exception of the
            last try tells of those before it (`__notes__`). Lost processes and nodes count apart, see `max_tries` of
            `ContextExecutor`.
        priority: waiting calls of larger priority go first, those of equal priority in the order of `submit`. What
            has begun is not interrupted.
        resources: what a call takes of its node while it runs: `cores`, `memory` and `disk` (bytes or `"4GB"`), `gpus`
            (a whole number, or a share of one). Calls are packed by it; it is no limit. Only the GPUs of a call are
            visible to it.

    Raises:
        TaskError: the context is no function or tuple that begins with one, the mode is unknown, a time is not
            positive, `retries` is negative or no integer, `priority` is no finite number, or calls of mode `thread`
            have limits or ask for resources.
    """
    setup, setup_args = _split_context(context)
    if mode not in MODES:
        raise TaskError(f"mode {mode!r} is not one of {', '.join(MODES)}")
    limit_s = _positive("setup_timeout_s", setup_timeout_s)
    options = TaskOptions(
        setup,
        setup_args,
        category,
        environment,
        mode,
        setup_timeout_s=limit_s,
        timeout_s=_positive("timeout_s", timeout_s),
        retries=_integer("retries", retries, 0),
        priority=_number("priority", priority),
        resources=None if resources is None else _allocation(resources),
    )
    if function is not None:
        return _declared(function, options)
    return lambda function: _declared(function, options)


def _declared(function: Callable[..., Any], options: TaskOptions) -> Task[..., Any]:
    """Return the task, unless nobody could keep what it promises."""
    monitored = getattr(function, "__envpack_monitor__", None)
    has_limits = monitored is not None and monitored.limits is not None
    if options.mode == "thread" and (options.timeout_s or has_limits):
        what = "limits" if has_limits else "timeout_s"
        raise TaskError(f"{what} with mode 'thread', but a thread cannot be ended", "declare mode='fork'")
    if options.mode == "thread" and options.resources is not None:
        raise TaskError("resources with mode 'thread', whose calls take a slot each", "declare mode='direct' or 'fork'")
    return Task(function, options)


def _allocation(resources: Mapping[str, Any]) -> Allocation:
    """Return what a call asks for."""
    if not isinstance(resources, Mapping) or not set(resources) <= set(RESOURCES):
        raise TaskError(f"resources is {resources!r}, expected a mapping of {', '.join(RESOURCES)}")
    gpus = _positive("resources: gpus", resources.get("gpus")) or None
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise TaskError(f"resources: gpus is {gpus:g}, expected a whole number or a share of one")
    return Allocation(
        cores=_positive("resources: cores", resources.get("cores")) or 1.0,
        memory_bytes=_bytes("resources: memory", resources.get("memory")),
        disk_bytes=_bytes("resources: disk", resources.get("disk")),
        gpus=gpus,
    )


def _bytes(name: str, size: int | str | None) -> int | None:
    try:
        size_bytes = parse_bytes(size) if isinstance(size, str) else size
    except ValueError as error:
        raise TaskError(f"{name}: {error}") from error
    return int(_positive(name, size_bytes)) or None


def _integer(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TaskError(f"{name} is {value!r}, expected an integer")
    if value < least:
        raise TaskError(f"{name} is {value}, expected {least} or more")
    return value


def _number(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TaskError(f"{name} is {value!r}, expected a number")
    return value


def _positive(name: str, value: float | None) -> float:
    if value is not None and (isinstance(value, bool) or not (isinstance(value, int | float) and 0 < value < math.inf)):
        raise TaskError(f"{name} is {value!r}, expected more than 0")
    return value or 0.0


def _split_context(context: Any) -> tuple[Callable[..., Any] | None, tuple[Any, ...]]:
    if context is None:
        return None, ()
    setup, *args = context if isinstance(context, tuple) and context else (context,)
    if not callable(setup):
        raise TaskError(
            f"context is {context!r}, expected a set-up function or a tuple of it and its arguments",
            "write @task(context=(load, 'model.pt'))",
        )
    return setup, tuple(args)
