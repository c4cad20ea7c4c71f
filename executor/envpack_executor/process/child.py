"""What runs inside a context process: set up once, then serve batches of calls until the host closes the socket.

    host ──PATHS, BOOT──▶ initializer, set-up function ──READY──▶ host
         ──FUNCTION──▶ kept by number
         ──CALLS──▶ one after another ──RESULTS──▶ host      (several results a frame, none held back for long)

Guarantees: results come in the order of the calls; the shared `progress` words name the call that runs now, so that
whoever finds this process dead knows which call killed it; when the host disappears, the process and everything in
its process group ends at once. Assumes: one host, one socket, frames that the host made. Standard library only.
"""

from __future__ import annotations

# `pickle` and `signal` are these with a few classes more, and with `re` and `enum`: a quarter of the start.
import _pickle as pickle
import _thread
import mmap
import os
import sys
from _signal import SIGKILL  # type: ignore[import-not-found]
from collections.abc import Callable, Mapping
from time import monotonic_ns, sleep
from types import FunctionType, ModuleType
from typing import Any

from envpack_executor.process.frames import (
    BOOT,
    CALLS,
    FUNCTION,
    PATHS,
    READY,
    RESULTS,
    SETUP_FAILED,
    read_frame,
    write_frame,
)
from envpack_executor.process.meter import Durations, Meter, Tally, Usages

# A result waits at most this long for company: the clock is looked at between calls.
FLUSH_AFTER_NS = 1_000_000
# While a call runs, another thread sends the results before it. This often, because it takes turns with the call.
FLUSH_EVERY_S = 0.005
PROTOCOL = 5
# The outcome of a call with limits: what else would be its outcome, its figures, the pid.
LIMITED_FIELDS = 3


def type_name(value: object) -> str:
    """Return the full name of the type of `value`, without `builtins`."""
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


class _Function:
    """A function that calls name by its number, which results of the set-up it takes, and what its calls used."""

    __slots__ = ("function", "injected", "tally")

    def __init__(
        self, number: int, function: Callable[..., Any], provided: Mapping[str, Any], is_limited: bool = False
    ) -> None:
        self.function = function
        self.injected = _injected(function, provided)
        self.tally = Tally(number, is_limited)

    def with_context(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return `kwargs` with what the set-up provides for parameters that the caller left open."""
        given = len(args)
        for position, name, value in self.injected:
            if position >= given and name not in kwargs:
                kwargs[name] = value
        return kwargs


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


class ContextServer:
    """One context in one process: what the set-up returned, the functions known so far, and how calls are measured.

    Args:
        descriptor: the socket to the host, blocking.
        progress: four 64-bit words shared with the host: number of the running call, its start on the monotonic clock
            in ns (0 between batches), pid of its fork child (0 without one), its deadline on that clock (0 without).
    """

    def __init__(self, descriptor: int, progress: memoryview) -> None:
        self._descriptor = descriptor
        self._progress = progress
        self._provided: Mapping[str, Any] = {}
        self._functions: dict[int, _Function] = {}
        self._meter = Meter()
        self._outcomes: list[Any] = []
        self._has_irregular = False
        self._sending = _thread.allocate_lock()
        self._batch_runs = _thread.allocate_lock()
        self._batch_runs.acquire()
        self._is_in_batch = False
        self._has_flusher = False

    def serve(self) -> None:
        """Serve frames until the host closes the socket."""
        while (frame := read_frame(self._descriptor)) is not None:
            kind, body = frame
            if kind == CALLS:
                self._run_batch(*pickle.loads(body))
            elif kind == FUNCTION:
                self._learn(*pickle.loads(body))
            elif kind == PATHS:
                sys.path[:] = pickle.loads(body)
            elif kind == BOOT and not self._boot(pickle.loads(body)):
                return
        try:
            self._send_results(is_last=True)
        except BrokenPipeError:
            pass  # the host does not want to know any more

    def _boot(self, boot: Mapping[str, Any]) -> bool:
        started = monotonic_ns()
        stage = "initializer"
        try:
            if boot["initializer"] is not None:
                function, args = pickle.loads(boot["initializer"])
                function(*args)
            stage = "set-up"
            if boot["setup"] is not None:
                function, (args, _) = map(pickle.loads, boot["setup"])
                self._provided = _checked_mapping(function, function(*args))
        except BaseException as error:
            body = pickle.dumps((stage, _failure(error)), PROTOCOL)
            write_frame(self._descriptor, SETUP_FAILED, body)
            return False
        finally:
            _flush_streams()
        ready = pickle.dumps((monotonic_ns() - started) / 1e9, PROTOCOL)
        write_frame(self._descriptor, READY, ready)
        return True

    def _learn(self, number: int, payload: bytes, settings: Mapping[str, Any]) -> None:
        """Keep a function; one that cannot be loaded here fails each of its calls, with the reason."""
        try:
            function = pickle.loads(payload)
            self._functions[number] = _Function(number, function, self._provided, settings["is_limited"])
        except BaseException as error:
            self._functions[number] = _Function(number, _raiser(error), {})

    def _run_batch(self, sequence: int, calls: list[tuple[int, bytes]]) -> None:
        progress, functions, meter = self._progress, self._functions, self._meter
        if len(calls) > 1:
            self._begin_long_batch()
        flushed = started = monotonic_ns()
        for number, payload in calls:
            function = functions[number]
            # Before a call that may take long, and now and then: nobody waits for a result that is there.
            if self._outcomes and (function.tally.is_alone or started - flushed > FLUSH_AFTER_NS):
                self._send_results()
                flushed = started
            progress[0] = sequence
            progress[1] = started
            sequence += 1
            if function.tally.is_alone:
                outcome = meter.alone(function.tally, _run, function, payload, sequence - 1)
                self._has_irregular |= type(outcome) is tuple
                self._outcomes.append(outcome)
                started = monotonic_ns()
                continue
            meter.open(started)
            outcome = _run(function, payload)
            if type(outcome) is tuple:
                self._has_irregular = True
            self._outcomes.append(outcome)
            now = monotonic_ns()
            meter.note(function.tally, now - started)
            started = now
        self._is_in_batch = False
        self._send_results()
        progress[1] = 0

    def _send_results(self, is_last: bool = False) -> None:
        _flush_streams()
        with self._sending:
            self._write_outcomes(*self._meter.take(is_last))

    def _write_outcomes(self, durations: Durations, usages: Usages) -> None:
        """Write what there is. The other thread may append meanwhile, so the list stays the same object."""
        count = len(self._outcomes)
        outcomes = self._outcomes[:count]
        body = pickle.dumps((outcomes, durations, usages, self._take_irregular(outcomes)), PROTOCOL)
        del self._outcomes[:count]
        write_frame(self._descriptor, RESULTS, body)

    def _take_irregular(self, outcomes: list[Any]) -> list[tuple[int, str, Any]]:
        """Return which of these outcomes are no results, as (index, kind, detail)."""
        if not self._has_irregular:
            return []
        self._has_irregular = False
        return [(index, *found) for index, outcome in enumerate(outcomes) if (found := _irregularity(outcome))]

    def _begin_long_batch(self) -> None:
        """Wake the thread that sends results which would otherwise wait behind a call that turns out to be long."""
        self._is_in_batch = True
        if not self._has_flusher:
            self._has_flusher = True
            _thread.start_new_thread(self._flush_now_and_then, ())
        if self._batch_runs.locked():
            self._batch_runs.release()

    def _flush_now_and_then(self) -> None:
        while True:
            self._batch_runs.acquire()
            while self._is_in_batch:
                sleep(FLUSH_EVERY_S)
                with self._sending:
                    if self._outcomes and self._is_in_batch:
                        self._write_outcomes([], [])


def _run(function: _Function, payload: bytes) -> Any:
    """Run one call; return None for None, the pickle of any other result, or the tuple that tells a failure."""
    try:
        args, kwargs = pickle.loads(payload)
        if function.injected:
            kwargs = function.with_context(args, kwargs)
        value = function.function(*args, **kwargs)
    except BaseException as error:
        return _failure(error)
    if value is None:
        return None
    try:
        return _dumps(value)
    except BaseException as error:
        return _unpicklable(value, error)


def _irregularity(outcome: Any) -> tuple[str, Any] | None:
    """Return (kind, detail) of an outcome that is no result: `raised` with the name of the exception's type."""
    if type(outcome) is tuple and len(outcome) == LIMITED_FIELDS:
        outcome = outcome[0]
    return ("raised", outcome[1]) if type(outcome) is tuple else None


def _dumps(value: Any) -> bytes:
    """Pickle by the C pickler, and by cloudpickle what lives in no module that the client could import."""
    try:
        data = pickle.dumps(value, PROTOCOL)
        if b"__main__" not in data:
            return data
    except (pickle.PicklingError, AttributeError, TypeError):
        pass  # the ordinary pickler goes by name alone; cloudpickle says in its own words what cannot be done
    import cloudpickle

    by_value: bytes = cloudpickle.dumps(value, protocol=PROTOCOL)
    return by_value


def _failure(error: BaseException) -> tuple[bytes | None, str, str, str]:
    """Return a failure as (pickled exception or None, type name, text, traceback)."""
    import traceback

    frame = error.__traceback__.tb_next if error.__traceback__ else None  # without our own frame
    text = "".join(traceback.format_exception(type(error), error, frame))
    try:
        message = str(error)
    except Exception as unprintable:
        message = f"<unprintable: {type(unprintable).__name__}>"
    try:
        payload = _dumps(error.with_traceback(None))
    except BaseException:
        payload = None  # the client is told type, text and traceback instead
    return payload, type_name(error), message, text


def _unpicklable(value: Any, error: BaseException) -> tuple[None, str, str, str]:
    """Return the failure of a call whose result cannot be sent."""
    _, _, message, text = _failure(error)
    kind = type_name(value)
    return None, "envpack_executor.errors.ResultError", f"result of type {kind!r} cannot be pickled: {message}", text


def _raiser(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


def _checked_mapping(function: Callable[..., Any], value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return value
    name = getattr(function, "__qualname__", repr(function))
    raise TypeError(f"set-up function {name!r} returned {type(value).__name__}, expected a mapping of parameter names")


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # the reader of our output has gone, or the user's code closed it: calls go on without it


def _watch_lifeline(descriptor: int) -> None:
    """End this process group when the host is gone, even in the middle of a call."""
    while os.read(descriptor, 1):
        pass
    os.killpg(os.getpgid(0), SIGKILL)


class _BundledFinder:
    """Finds the modules that came with the bundle, here cloudpickle, so that both ends speak the same version."""

    def __init__(self, modules: Mapping[str, tuple[bytes | str, bool]]) -> None:
        self._modules = modules

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self._modules:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, self, origin="envpack bundle", is_package=self._modules[name][1])  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        import marshal

        text = self._modules[module.__name__][0]
        if isinstance(text, str):
            exec(compile(text, f"<envpack {module.__name__}>", "exec"), module.__dict__)
        else:
            exec(marshal.loads(text), module.__dict__)


def main(descriptor: int, lifeline: int, progress: int, modules: Mapping[str, tuple[bytes | str, bool]]) -> None:
    """Serve on inherited descriptors: the socket to the host, the lifeline, and the shared progress words."""
    for name in (descriptor, lifeline, progress):
        os.set_inheritable(name, False)
    _thread.start_new_thread(_watch_lifeline, (lifeline,))
    sys.meta_path.insert(0, _BundledFinder(modules))
    words = memoryview(mmap.mmap(progress, 32)).cast("Q")
    os.close(progress)
    ContextServer(descriptor, words).serve()
