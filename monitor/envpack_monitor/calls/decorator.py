"""`monitor`: the usage of a function's calls or of a block, as a decorator, with options, or in a `with`.

Whatever is measured stays what it was: results, exceptions, signature, name, documentation and pickling; a coroutine
function stays one, and so do generators, class and static methods.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from envpack_monitor.calls.bracket import Bracket
from envpack_monitor.calls.extras import Extras
from envpack_monitor.calls.recording import Features, Isolation, Recording
from envpack_monitor.calls.wrappers import wrap
from envpack_monitor.errors import MonitorError
from envpack_monitor.history.writer import HistoryWriter
from envpack_monitor.limits import Limits
from envpack_monitor.usage import Usage

P = ParamSpec("P")
R = TypeVar("R")


@overload
def monitor(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def monitor(
    category: str | None = None,
    *,
    limits: Limits | None = None,
    features: Features = None,
    callback: Callable[[Usage], object] | None = None,
    return_usage: bool = False,
    isolate: Isolation = False,
    folder: str | os.PathLike[str] | None = None,
    shared_out: bool = False,
    history: HistoryWriter | bool = True,
) -> Monitor: ...
def monitor(
    category: Any = None,
    *,
    limits: Limits | None = None,
    features: Features = None,
    callback: Callable[[Usage], object] | None = None,
    return_usage: bool = False,
    isolate: Isolation = False,
    folder: str | os.PathLike[str] | None = None,
    shared_out: bool = False,
    history: HistoryWriter | bool = True,
) -> Any:
    """Measure a function's calls (`@monitor`, `@monitor(...)`) or a block (`with monitor("name") as block:`).

    Args:
        category: which calls are alike; by default the module and qualified name of the function. When it is the
            function itself, that function is decorated with the defaults.
        limits: how much a call may use. An isolated call is ended when it exceeds one. A call in this process cannot be
            ended from outside: it runs to its end, and then the error is raised.
        features: numbers that may explain the usage: a mapping, or a function of the call's arguments that returns one.
            They join those that are found in the arguments (sizes of arrays, files and lists, and numbers), and win
            over them. `False` for none at all.
        callback: called with the usage of each call when it has ended.
        return_usage: a call returns `(result, usage)`.
        isolate: `"fork"` runs each call in a forked child; what the call changes in memory stays there. `"spawn"` runs
            it in a fresh interpreter, to which the function and its arguments travel as a pickle.
        folder: a folder whose growth is measured.
        shared_out: measure the memory with shared pages shared out, before and after; milliseconds per gigabyte. For
            calls in this process and blocks.
        history: `False` keeps no history; a writer of your own instead of the one of the settings.

    Returns:
        The decorated function; it has `__wrapped__` and `__envpack_monitor__` (a `Monitor`). Or a `Monitor`.

    Raises:
        FormatError: a disk limit without a folder.
        LimitExceeded: by a call, or at the end of a block, that used more than it was allowed.
    """
    is_function = callable(category) or isinstance(category, (classmethod, staticmethod))
    if not is_function and category is not None and not isinstance(category, str):
        raise TypeError(f"monitor: a function or the name of a category expected, {category!r} met")
    if isolate not in (False, "fork", "spawn"):
        raise ValueError(f"monitor: isolate is False, 'fork' or 'spawn', {isolate!r} met")
    recording = Recording(
        category="" if is_function or category is None else category,
        limits=limits,
        features=features,
        callback=callback,
        return_usage=return_usage,
        isolate=isolate,
        folder=folder,
        shared_out=shared_out,
        history=history,
    )
    return Monitor(recording)(category) if is_function else Monitor(recording)


class Monitor:
    """The options of a monitor; decorates when it is called with a function, measures a block in a `with`."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._block: tuple[Extras, Bracket] | None = None
        self._figures: dict[str, Any] | None = None

    @property
    def category(self) -> str:
        """Which calls are alike."""
        return self._recording.category or "block"

    @property
    def limits(self) -> Limits | None:
        """How much a call may use; `None` for no limits."""
        return self._recording.limits

    def features_of(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Mapping[str, float]:
        """Return the numbers that may explain what a call uses, before it begins.

        Args:
            function: what is called.
            args: its positional arguments.
            kwargs: its named arguments.
        """
        return self._recording.features_of(function, args, kwargs)

    @property
    def usage(self) -> Usage | None:
        """The usage of the last block that ended; `None` before."""
        return None if self._figures is None else Usage(**self._figures)

    def __call__(self, function: Any) -> Any:
        """Return the decorated function."""
        if isinstance(function, (classmethod, staticmethod)):
            return type(function)(self(function.__func__))
        if not callable(function) or inspect.isclass(function):
            raise TypeError(f"monitor: a function expected, {function!r} met")
        # Each function has sums of its own.
        own = replace(self._recording, category=self._recording.category or category_of(function), _sums={})
        wrapper = wrap(own, function)
        # Attributes of an object that can be called are its own business.
        updated = ("__dict__",) if inspect.isroutine(function) else ()
        measured = functools.update_wrapper(wrapper, function, updated=updated)
        if not hasattr(function, "__name__"):
            measured.__name__ = measured.__qualname__ = own.category.rpartition(".")[2]
        measured.__envpack_monitor__ = Monitor(own)  # type: ignore[attr-defined]
        return measured

    def __enter__(self) -> Monitor:
        if self._block is not None:
            raise MonitorError(f"the block {self.category!r} is being measured already", "one monitor(...) per block")
        if self._recording.isolate:
            raise MonitorError("a block cannot be isolated", "put it into a function")
        self._recording.category = self.category
        self._block = self._recording.extras(), Bracket()
        self._block[1].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._block is not None
        extras, bracket = self._block
        self._block = None
        figures = extras.add_to(bracket.stop())
        told = self._recording.features
        features = Recording.told_features(told) if isinstance(told, Mapping) else {}
        self._figures = self._recording.finish(figures, features, error)
        if error is None:
            self._recording.check(self._figures)


def category_of(function: Any) -> str:
    """Return the module and qualified name; of a script its file name, because every script is `__main__`."""
    while isinstance(function, functools.partial):
        # A partial is a call of what it holds.
        function = function.func
    module = getattr(function, "__module__", None) or type(function).__module__
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    if module == "__main__" and (file := getattr(sys.modules["__main__"], "__file__", None)):
        module = Path(file).stem
    return f"{module}.{name}"
