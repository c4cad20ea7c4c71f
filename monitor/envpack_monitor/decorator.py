"""`monitor`: the usage of a function's calls or of a block, as a decorator, with options, or in a `with`.

Whatever is measured stays what it was: results, exceptions, signature, name, documentation and pickling; a coroutine
function stays one, and so do generators, class and static methods.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar, overload

from envpack_monitor.bracket import Bracket, Figures
from envpack_monitor.errors import LimitExceeded, MonitorError
from envpack_monitor.limits import Limits, measured_fields
from envpack_monitor.settings import ROWS_PER_S
from envpack_monitor.sums import FOLD, CallSums
from envpack_monitor.usage import Usage
from envpack_monitor.writer import HistoryWriter

P = ParamSpec("P")
R = TypeVar("R")

Isolation = Literal[False, "fork"]
Features = Callable[..., Mapping[str, float]] | Mapping[str, float]


@overload
def monitor(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def monitor(
    category: str | None = None,
    *,
    limits: Limits | None = None,
    features: Features | None = None,
    callback: Callable[[Usage], object] | None = None,
    return_usage: bool = False,
    isolate: Isolation = False,
    history: HistoryWriter | bool = True,
) -> Monitor: ...
def monitor(
    category: Any = None,
    *,
    limits: Limits | None = None,
    features: Features | None = None,
    callback: Callable[[Usage], object] | None = None,
    return_usage: bool = False,
    isolate: Isolation = False,
    history: HistoryWriter | bool = True,
) -> Any:
    """Measure a function's calls (`@monitor`, `@monitor(...)`) or a block (`with monitor("name") as block:`).

    Args:
        category: which calls are alike; by default the module and qualified name of the function. When it is the
            function itself, that function is decorated with the defaults.
        limits: how much a call may use. An isolated call is ended when it exceeds one. A call in this process cannot be
            ended from outside: it runs to its end, and then the error is raised.
        features: numbers that may explain the usage: a mapping, or a function of the call's arguments that returns one.
        callback: called with the usage of each call when it has ended.
        return_usage: a call returns `(result, usage)`.
        isolate: `"fork"` runs each call in a forked child; what the call changes in memory stays there.
        history: `False` keeps no history; a writer of your own instead of the one of the settings.

    Returns:
        The decorated function; it has `__wrapped__` and `__envpack_monitor__` (a `Monitor`). Or a `Monitor`.

    Raises:
        LimitExceeded: by a call, or at the end of a block, that used more than it was allowed.
    """
    is_function = callable(category) or isinstance(category, (classmethod, staticmethod))
    options = Monitor(
        category=None if is_function else category,
        limits=limits,
        features=features,
        callback=callback,
        return_usage=return_usage,
        isolate=isolate,
        history=history,
    )
    return options(category) if is_function else options


class Monitor:
    """The options of a monitor; decorates when it is called with a function, measures a block in a `with`.

    Attributes:
        category: which calls are alike.
        limits: how much a call may use; `None` for no limits.
        usage: of the last block that ended; `None` before.
    """

    def __init__(
        self,
        *,
        category: str | None,
        limits: Limits | None,
        features: Features | None,
        callback: Callable[[Usage], object] | None,
        return_usage: bool,
        isolate: Isolation,
        history: HistoryWriter | bool,
    ) -> None:
        if category is not None and not isinstance(category, str):
            raise TypeError(f"monitor: a function or the name of a category expected, {category!r} met")
        if isolate not in (False, "fork"):
            raise ValueError(f"monitor: isolate is False or 'fork', {isolate!r} met")
        self.category = category or "block"
        self.limits = limits
        self.usage: Usage | None = None
        self._is_named = category is not None
        self._features = features
        self._callback = callback
        self._return_usage = return_usage
        self._isolate = isolate
        self._history = history
        self._block: Bracket | None = None
        self._sums: dict[tuple[str | None, str | None], CallSums] = {}

    def __call__(self, function: Any) -> Any:
        """Return the decorated function."""
        if isinstance(function, (classmethod, staticmethod)):
            return type(function)(self(function.__func__))
        if not callable(function) or inspect.isclass(function):
            raise TypeError(f"monitor: a function expected, {function!r} met")
        own = self if self._is_named else self._named(_category_of(function))
        wrapper = own._wrapper(function)
        measured = functools.update_wrapper(wrapper, function)
        measured.__envpack_monitor__ = own  # type: ignore[attr-defined]
        return measured

    def __enter__(self) -> Monitor:
        if self._block is not None:
            raise MonitorError(f"the block {self.category!r} is being measured already", "one monitor(...) per block")
        if self._isolate:
            raise MonitorError("a block cannot be isolated", "put it into a function")
        self._block = Bracket()
        self._block.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._block is not None
        figures = self._block.stop()
        self._block = None
        features = self._features if isinstance(self._features, Mapping) else {}
        self.usage = Usage(**self._finish(figures, features, error))
        if error is None:
            self._check(self.usage)

    def _named(self, category: str) -> Monitor:
        return Monitor(
            category=category,
            limits=self.limits,
            features=self._features,
            callback=self._callback,
            return_usage=self._return_usage,
            isolate=self._isolate,
            history=self._history,
        )

    def _wrapper(self, function: Callable[..., Any]) -> Callable[..., Any]:
        for applies, wrap in _WRAPPERS:
            if applies(function):
                if self._isolate:
                    kind = "a coroutine or generator function cannot be isolated"
                    raise MonitorError(f"{kind}: {self.category}", "isolate an ordinary function that runs it")
                return wrap(self, function)
        return _wrap_isolated(self, function) if self._isolate else _wrap_function(self, function)

    def _tells_each_call(self) -> bool:
        """Tell whether somebody wants to know of each call more than the history does."""
        return self._callback is not None or self._return_usage or self.limits is not None

    def _features_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, float]:
        features = self._features
        if features is None:
            return _NO_FEATURES
        found = features(*args, **kwargs) if callable(features) else features
        return {name: float(value) for name, value in found.items()}

    def _finish(self, figures: Figures, features: Mapping[str, float], error: BaseException | None) -> dict[str, Any]:
        """Complete the figures of a call and give them to the history and to the callback."""
        whole: dict[str, Any] = figures
        whole["category"] = self.category
        if features:
            whole["features"] = features
        if error is not None:
            whole["exception"] = type(error).__name__
        if self.limits is not None and not self._isolate:
            self._note_excess(whole)
        self._record(whole)
        if self._callback is not None:
            self._callback(Usage(**whole))
        return whole

    def _note_excess(self, figures: dict[str, Any]) -> None:
        assert self.limits is not None
        for resource, _, _ in self.limits.exceeded_by(**measured_fields(figures)):
            figures["limit_exceeded"] = resource
            return

    def _record(self, figures: dict[str, Any]) -> None:
        """Make the call a row of the history, or where calls come fast, a part of a sum of such that ended alike."""
        sums = self._sums_of(figures.get("exception"), figures.get("limit_exceeded"))
        if sums.skip > 0:
            sums.skip -= 1
            sums.add(figures)
            if not sums.is_watched:
                self._watch(sums)
            return
        writer = self._writer()
        sums.count_row(ROWS_PER_S if writer is None else writer.rows_per_s)
        if writer is not None:
            writer.put(figures)

    def _writer(self) -> HistoryWriter | None:
        if isinstance(self._history, HistoryWriter):
            return self._history
        from envpack_monitor.recorder import default_writer

        return default_writer() if self._history else None

    def _sums_of(self, exception: str | None, limit_exceeded: str | None) -> CallSums:
        found = self._sums.get((exception, limit_exceeded))
        if found is None:
            common = {"category": self.category, "exception": exception, "limit_exceeded": limit_exceeded}
            common = {name: value for name, value in common.items() if value is not None}
            found = self._sums.setdefault((exception, limit_exceeded), CallSums(common))
        return found

    def _watch(self, sums: CallSums) -> None:
        if (writer := self._writer()) is not None:
            writer.watch(sums)
        elif not self._history:
            sums.is_watched = True

    def _result(self, result: Any, figures: dict[str, Any]) -> Any:
        if self.limits is None and not self._return_usage:
            return result
        usage = Usage(**figures)
        self._check(usage)
        return (result, usage) if self._return_usage else result

    def _check(self, usage: Usage) -> None:
        """Raise what a call in this process exceeded; an isolated one was checked while it ran."""
        if self.limits is None or usage.limit_exceeded is None:
            return
        for resource, allowed, measured in self.limits.exceeded_by(**measured_fields(usage.to_dict())):
            raise LimitExceeded(resource, allowed, measured, self.category, os.getpid())


def _wrap_function(options: Monitor, function: Callable[..., Any]) -> Callable[..., Any]:
    if not options._tells_each_call():
        return _wrap_quickly(options, function)

    def measured(*args: Any, **kwargs: Any) -> Any:
        features = options._features_of(args, kwargs)
        bracket = Bracket()
        bracket.start()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            options._finish(bracket.stop(), features, error)
            raise
        return options._result(result, options._finish(bracket.stop(), features, None))

    return measured


def _wrap_quickly(options: Monitor, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap where only the history wants to know: what can be done later than now is."""
    sums = options._sums_of(None, None)
    records = sums.records

    def measured(*args: Any, **kwargs: Any) -> Any:
        if sums.skip <= 0:
            return one_row(args, kwargs)
        sums.skip -= 1
        bracket = Bracket()
        bracket.start(sums)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            options._finish(bracket.stop(), _NO_FEATURES, error)
            raise
        record = bracket.end(sums)
        if record is None:
            sums.add(bracket.figures())
        else:
            records.append(record)
            if len(records) >= FOLD:
                sums.fold()
        if not sums.is_watched:
            options._watch(sums)
        return result

    def one_row(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        features = options._features_of(args, kwargs)
        bracket = Bracket()
        bracket.start()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            options._finish(bracket.stop(), features, error)
            raise
        bracket.end()
        writer = options._writer()
        sums.count_row(ROWS_PER_S if writer is None else writer.rows_per_s)
        if writer is not None:
            writer.put_ended(bracket, options.category, features)
        return result

    return measured


def _wrap_generator(options: Monitor, function: Callable[..., Any]) -> Callable[..., Any]:
    from envpack_monitor.steps import Steps

    def measured(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        features = options._features_of(args, kwargs)
        steps = Steps()
        try:
            result = yield from steps.drive(function(*args, **kwargs))
        except BaseException as error:
            # To be closed early by its consumer is no failure of a generator.
            options._finish(steps.figures(), features, None if isinstance(error, GeneratorExit) else error)
            raise
        return options._result(result, options._finish(steps.figures(), features, None))

    return measured


def _wrap_coroutine(options: Monitor, function: Callable[..., Any]) -> Callable[..., Any]:
    from envpack_monitor.steps import Steps

    async def measured(*args: Any, **kwargs: Any) -> Any:
        features = options._features_of(args, kwargs)
        steps = Steps()
        try:
            result = await steps.wait_for(function(*args, **kwargs))
        except BaseException as error:
            options._finish(steps.figures(), features, error)
            raise
        return options._result(result, options._finish(steps.figures(), features, None))

    return measured


def _wrap_async_generator(options: Monitor, function: Callable[..., Any]) -> Callable[..., Any]:
    from envpack_monitor.steps import Steps

    async def measured(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        features = options._features_of(args, kwargs)
        steps = Steps()
        generator = function(*args, **kwargs)
        method, argument = generator.asend, None
        try:
            while True:
                try:
                    item = await steps.wait_for(method(argument))
                except StopAsyncIteration:
                    break
                try:
                    argument = yield item
                    method = generator.asend
                except GeneratorExit:
                    await steps.wait_for(generator.aclose())
                    raise
                except BaseException as error:
                    method, argument = generator.athrow, error
        except BaseException as error:
            options._finish(steps.figures(), features, None if isinstance(error, GeneratorExit) else error)
            raise
        options._check(Usage(**options._finish(steps.figures(), features, None)))

    return measured


def _wrap_isolated(options: Monitor, function: Callable[..., Any]) -> Callable[..., Any]:
    def measured(*args: Any, **kwargs: Any) -> Any:
        from envpack_monitor.isolate import run_isolated

        features = options._features_of(args, kwargs)
        outcome = run_isolated(function, args, kwargs, limits=options.limits, category=options.category)
        figures = options._finish(outcome.figures, features, outcome.error)
        if outcome.error is not None:
            raise outcome.error
        return (outcome.result, Usage(**figures)) if options._return_usage else outcome.result

    return measured


_WRAPPERS: tuple[tuple[Callable[[Any], bool], Callable[[Monitor, Callable[..., Any]], Callable[..., Any]]], ...] = (
    (inspect.iscoroutinefunction, _wrap_coroutine),
    (inspect.isasyncgenfunction, _wrap_async_generator),
    (inspect.isgeneratorfunction, _wrap_generator),
)

_NO_FEATURES: Mapping[str, float] = {}


def _category_of(function: Any) -> str:
    """Return the module and qualified name; of a script its file name, because every script is `__main__`."""
    module = getattr(function, "__module__", None) or type(function).__module__
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    if module == "__main__" and (file := getattr(sys.modules["__main__"], "__file__", None)):
        module = Path(file).stem
    return f"{module}.{name}"
