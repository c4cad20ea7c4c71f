"""Parsl's serializers, where somebody has registered one, or where ours cannot pickle what an app is given.

Otherwise apps and arguments are pickled as everywhere in `envpack_executor`: faster, each app once, large values apart.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from parsl.serialize import facade
from parsl.serialize.concretes import DillCallableSerializer, DillSerializer

from envpack_executor.parsl.apps import unwrapped
from envpack_executor.tasks import Task

# Above it Parsl warns of the size of what is packed; here large values travel apart from their calls.
_NO_THRESHOLD = 1 << 62
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def is_asked_for() -> bool:
    """Tell whether the user has registered, or taken away, a serializer of Parsl's."""
    return _types(facade.methods_for_code) != [DillCallableSerializer] or _types(facade.methods_for_data) != [
        DillSerializer
    ]


def packed(
    function: Callable[..., Any], task: Task[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Task[..., Any], bytes]:
    """Return a task that unpacks and runs a call, and the call as bytes of Parsl's serializers.

    Args:
        function: the app as Parsl hands it over.
        task: what it is otherwise.
        args: arguments of the call.
        kwargs: likewise.

    Raises:
        Exception: whatever the last of the serializers raises that cannot take them.
    """
    names = () if task.options.setup is None else _names(function)
    data = facade.pack_apply_message(function, tuple(args), kwargs, buffer_threshold=_NO_THRESHOLD)
    return Task(_opener(names) if names else _open, task.options), data


def _types(methods: dict[bytes, Any]) -> list[type]:
    return [type(method) for method in methods.values()]


def _names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the parameters of an app to which its set-up may provide values."""
    core = unwrapped(function)
    parameters = inspect.signature(core.function if isinstance(core, Task) else core).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind in _NAMED)


def _opener(names: tuple[str, ...]) -> Callable[..., Any]:
    """Return a function that runs a packed call, and takes what a set-up provides under these names."""

    def run(data: bytes, /, **provided: Any) -> Any:
        from parsl.serialize import unpack_apply_message

        function, args, kwargs = unpack_apply_message(data)
        for name in names[len(args) :]:
            if name in provided:
                kwargs.setdefault(name, provided[name])
        return function(*args, **kwargs)

    # As the signature of a wrapper is found out: it says what is provided.
    run.__wrapped__ = run  # type: ignore[attr-defined]
    first = inspect.Parameter("data", inspect.Parameter.POSITIONAL_ONLY)
    others = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names]
    run.__signature__ = inspect.Signature([first, *others])  # type: ignore[attr-defined]
    return run


def _make_open() -> Callable[[bytes], Any]:
    """Return a function without a name of its own: it travels by value to where this module is not installed."""

    def run(data: bytes) -> Any:
        from parsl.serialize import unpack_apply_message

        function, args, kwargs = unpack_apply_message(data)
        return function(*args, **kwargs)

    return run


_open = _make_open()
