"""The call inside a task of Dask: which function, with which arguments.

What Dask hands to an executor is a node of its graph and a mapping of the values that it depends on. Only the call
itself goes to a context, so that an environment needs no Dask. A node whose arguments hold other calls (Dask fuses
some) goes there as a whole: then the environment must have Dask.

Assumes of a node no more than attributes: `func`, `args`, `kwargs`; and that it can be called with the values.
"""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from envpack_executor.tasks import Task, revived


@dataclass(frozen=True, slots=True)
class DaskCall:
    """A call of a function.

    Args:
        function: what is called; a `@task` with its options.
        args: by position.
        kwargs: by name.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def call_of(node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> DaskCall | None:
    """Return the call inside a node.

    Args:
        node: what Dask would call itself: a node of its graph, or (before Dask 2024.9) a function.
        args: with what; for a node of a graph the values that it depends on.
        kwargs: likewise, by name.

    Returns:
        None for a node that calls nothing: it holds a value, or is another name for one.
    """
    if not _is_node(node):
        return _bare(node, args, kwargs)
    if not hasattr(node, "func"):
        return None
    if not all(map(_is_plain, (*node.args, *node.kwargs.values()))):
        return DaskCall(operator.call, (node, *args), kwargs)
    asked = copy.copy(node)
    asked.func = lambda *found, **named: (found, named)
    return _bare(node.func, *asked(*args, **kwargs))


def _is_node(node: object) -> bool:
    return hasattr(node, "dependencies") and hasattr(node, "substitute")


def _is_plain(argument: object) -> bool:
    """Tell whether an argument is a value, a reference to one, or a container of those: nothing that takes time."""
    if not _is_node(argument) or not hasattr(argument, "func"):
        return True
    inner: Iterable[object] = (*argument.args, *argument.kwargs.values())  # type: ignore[attr-defined]
    return hasattr(argument, "klass") and all(map(_is_plain, inner))


def _bare(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> DaskCall:
    """Return the call without what was wrapped around its function on the way."""
    while type(function := revived(function)) is functools.partial and not isinstance(function, Task):
        args, kwargs = (*function.args, *args), {**function.keywords, **kwargs}
        function = function.func
    return DaskCall(function, args, kwargs)
