"""A function of each kind, wrapped so that its calls are measured and it stays what it was.

The wrapper of an ordinary function has two ways. Where calls come slowly, or somebody wants to know of each, a call has
all its figures. Where they come fast, it leaves a record that is added up later (`envpack_monitor.calls.sums`): that is
the path of microseconds, and what stands on it was measured.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from envpack_monitor.calls import gpu
from envpack_monitor.calls.bracket import Bracket
from envpack_monitor.calls.recording import NO_FEATURES, Recording
from envpack_monitor.calls.sums import FOLD
from envpack_monitor.errors import MonitorError
from envpack_monitor.usage import Usage


def wrap(recording: Recording, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of the same kind whose calls are measured.

    Raises:
        MonitorError: it shall be isolated and runs in steps.
    """
    inner = _called(function)
    for applies, wrapper in _WRAPPERS:
        if applies(inner):
            if recording.isolate:
                kind = "a coroutine or generator function cannot be isolated"
                raise MonitorError(f"{kind}: {recording.category}", "isolate an ordinary function that runs it")
            return wrapper(recording, function)
    if recording.isolate:
        return _wrap_isolated(recording, function)
    return _wrap_telling(recording, function) if recording.tells_each_call() else _wrap_quick(recording, function)


def _called(thing: Any) -> Any:
    """Return the function behind an object that can be called, or a `partial`."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    return thing if inspect.isroutine(thing) else type(thing).__call__


def _wrap_telling(recording: Recording, function: Callable[..., Any]) -> Callable[..., Any]:
    def measured(*args: Any, **kwargs: Any) -> Any:
        features = recording.features_of(function, args, kwargs)
        extras = recording.extras()
        bracket = Bracket()
        bracket.start()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            recording.finish(extras.add_to(bracket.stop()), features, error)
            raise
        return recording.result(result, recording.finish(extras.add_to(bracket.stop()), features, None))

    return measured


def _wrap_quick(recording: Recording, function: Callable[..., Any]) -> Callable[..., Any]:
    sums = recording.sums_of()
    telling = _wrap_telling(recording, function)

    def measured(*args: Any, **kwargs: Any) -> Any:
        if sums.skip <= 0 or gpu.used:
            return one_row(args, kwargs)
        sums.skip -= 1
        bracket = Bracket()
        bracket.start(sums)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            recording.finish(bracket.stop(), NO_FEATURES, error)
            raise
        record = bracket.end(sums)
        if record is None:
            sums.add(bracket.figures())
        else:
            sums.records.append(record)
            if len(sums.records) >= FOLD:
                sums.fold()
        if not sums.is_watched:
            recording.watch(sums)
        return result

    def one_row(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if gpu.is_used():
            return telling(*args, **kwargs)
        features = recording.features_of(function, args, kwargs)
        bracket = Bracket()
        bracket.start(sums)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            recording.finish(bracket.stop(), features, error)
            raise
        bracket.end(sums)
        bracket.take_counters_from(sums)
        if (writer := recording.admit_row(sums)) is not None:
            writer.put_ended(bracket, recording.category, features)
        return result

    return measured


def _wrap_generator(recording: Recording, function: Callable[..., Any]) -> Callable[..., Any]:
    from envpack_monitor.calls.steps import Steps

    def measured(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        features = recording.features_of(function, args, kwargs)
        steps = Steps()
        try:
            result = yield from steps.drive(function(*args, **kwargs))
        except BaseException as error:
            # To be closed early by its consumer is no failure of a generator.
            recording.finish(steps.figures(), features, None if isinstance(error, GeneratorExit) else error)
            raise
        return recording.result(result, recording.finish(steps.figures(), features, None))

    return measured


def _wrap_coroutine(recording: Recording, function: Callable[..., Any]) -> Callable[..., Any]:
    from envpack_monitor.calls.steps import Steps

    async def measured(*args: Any, **kwargs: Any) -> Any:
        features = recording.features_of(function, args, kwargs)
        steps = Steps()
        try:
            result = await steps.wait_for(function(*args, **kwargs))
        except BaseException as error:
            recording.finish(steps.figures(), features, error)
            raise
        return recording.result(result, recording.finish(steps.figures(), features, None))

    return measured


def _wrap_async_generator(recording: Recording, function: Callable[..., Any]) -> Callable[..., Any]:
    from envpack_monitor.calls.steps import Steps

    async def measured(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        features = recording.features_of(function, args, kwargs)
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
            recording.finish(steps.figures(), features, None if isinstance(error, GeneratorExit) else error)
            raise
        recording.check(recording.finish(steps.figures(), features, None))

    return measured


def _wrap_isolated(recording: Recording, function: Callable[..., Any]) -> Callable[..., Any]:
    def measured(*args: Any, **kwargs: Any) -> Any:
        from envpack_monitor.isolated.isolate import run_isolated

        assert recording.isolate
        features = recording.features_of(function, args, kwargs)
        outcome = run_isolated(
            function,
            args,
            kwargs,
            limits=recording.limits,
            category=recording.category,
            method=recording.isolate,
            folder=recording.folder,
        )
        figures = recording.finish(outcome.figures, features, outcome.error)
        if outcome.error is not None:
            raise outcome.error
        return (outcome.result, Usage(**figures)) if recording.return_usage else outcome.result

    return measured


_WRAPPERS: tuple[tuple[Callable[[Any], bool], Callable[[Recording, Callable[..., Any]], Callable[..., Any]]], ...] = (
    (inspect.iscoroutinefunction, _wrap_coroutine),
    (inspect.isasyncgenfunction, _wrap_async_generator),
    (inspect.isgeneratorfunction, _wrap_generator),
)
