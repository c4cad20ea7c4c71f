"""Parsl's serializers, where somebody has registered one, or where ours cannot pickle what an app is given.

Otherwise apps and arguments are pickled as everywhere in `envpack_executor`: faster, each app once, large values apart.
"""

from __future__ import annotations

import functools
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
    return _is_code_asked_for() or _types(facade.methods_for_data) != [DillSerializer]


def packed(
    function: Callable[..., Any], task: Task[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Task[..., Any], bytes]:
    """Return a task that unpacks and runs a call, and its arguments as bytes of Parsl's serializers.

    The app is among these bytes only where a serializer for code was registered.

    Args:
        function: the app as Parsl hands it over.
        task: what it is otherwise.
        args: arguments of the call.
        kwargs: likewise.

    Raises:
        Exception: whatever the last of the serializers raises that cannot take them.
    """
    is_code_packed = _is_code_asked_for()
    parts = [function, tuple(args), kwargs] if is_code_packed else [tuple(args), kwargs]
    data = facade.pack_buffers([facade.serialize(part, buffer_threshold=_NO_THRESHOLD) for part in parts])
    return _opener(task, is_code_packed), data


def _is_code_asked_for() -> bool:
    return _types(facade.methods_for_code) != [DillCallableSerializer]


def _types(methods: dict[bytes, Any]) -> list[type]:
    return [type(method) for method in methods.values()]


def _names(task: Task[..., Any]) -> tuple[str, ...]:
    """Return the parameters of an app to which its set-up may provide values."""
    if task.options.setup is None:
        return ()
    core = unwrapped(task.function)
    parameters = inspect.signature(core.function if isinstance(core, Task) else core).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind in _NAMED)


@functools.lru_cache(maxsize=256)
def _opener(task: Task[..., Any], is_code_packed: bool) -> Task[..., Any]:
    """Return the task that unpacks and runs calls of an app, and takes what its set-up provides."""
    app = None if is_code_packed else task.function
    names = _names(task)

    # Without a name of its own, it travels by value to where this module is not installed.
    def run(data: bytes, /, **provided: Any) -> Any:
        from parsl.serialize.facade import deserialize, unpack_buffers

        *packed_app, args, kwargs = map(deserialize, unpack_buffers(data))
        function = app or packed_app[0]
        for name in names[len(args) :]:
            if name in provided:
                kwargs.setdefault(name, provided[name])
        return function(*args, **kwargs)

    if names:
        # As the signature of a wrapper is found out: it says what is provided.
        run.__wrapped__ = run  # type: ignore[attr-defined]
        first = inspect.Parameter("data", inspect.Parameter.POSITIONAL_ONLY)
        others = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names]
        run.__signature__ = inspect.Signature([first, *others])  # type: ignore[attr-defined]
    return Task(run, task.options)
