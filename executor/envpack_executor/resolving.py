"""What a callable means to an executor: its bytes, what is the same for all its calls, and its context by content.

    submit(fn, ...) ──▶ Resolver ──▶ FunctionRecord (bytes, options), ContextRecord (environment, set-up, mode)

Found out once per callable and kept until anything that it captures may have changed: so nothing stale is run, and the
next call of the same function costs a comparison.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import itertools
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from envpack_executor.context import Context, bytes_of_equals
from envpack_executor.environments import Preparer, Request, SetupPayload, boot_frame, environment_key, module_by_value
from envpack_executor.hoisting import imports_of
from envpack_executor.manager.admission import carries_bytecode
from envpack_executor.manager.state import CallOptions, ContextRecord, FunctionRecord
from envpack_executor.pickling import (
    FunctionPickler,
    PickledFunction,
    dump_arguments,
    is_constant,
    weak_reference,
)
from envpack_executor.tasks import INHERIT, Task, TaskOptions, mode_class
from envpack_executor.values.large import LargePayload
from envpack_monitor.allocation import Allocation

if TYPE_CHECKING:
    from envpack_monitor.limits import Limits

FindFeatures = Callable[[tuple[Any, ...], dict[str, Any]], Mapping[str, float]]
ContextKey = tuple[str, SetupPayload | None, str, Allocation | None]
FunctionKey = tuple[str, str, "Limits | None", CallOptions]
# How often the memory of a process is looked at while a call runs in it whose memory is limited.
LOOK_EVERY_S = 0.025
_NO_OPTIONS = TaskOptions()
# So many functions with large captured values are remembered; each holds their bytes.
_MOST_LARGE = 4


class Resolver:
    """Finds out what callables mean to one executor.

    Args:
        environment: where calls run that do not say so themselves, see `ContextExecutor`.
        initializer: pickled initializer of the executor and its arguments; None without one.
        preparer: finds out the environments of contexts.
        is_sized: whether features of calls are wanted.
        on_memory_asked: called before the first call of a context that asks for memory.
    """

    def __init__(
        self,
        environment: Any,
        initializer: bytes | None,
        preparer: Preparer,
        is_sized: bool,
        on_memory_asked: Callable[[], None],
    ) -> None:
        self.environment = environment
        self._initializer = initializer
        self._preparer = preparer
        self._is_sized = is_sized
        self._on_memory_asked = on_memory_asked
        self._pickler = FunctionPickler()
        self._contexts: dict[ContextKey, ContextRecord] = {}
        self._functions: dict[FunctionKey, FunctionRecord] = {}
        self._function_numbers = itertools.count()
        self._large: deque[FunctionKey] = deque()
        self._resolved: dict[int, Resolved] = {}
        self._lock = threading.Lock()

    def resolve(self, fn: Callable[..., Any]) -> Resolved:
        """Return what `fn` means now.

        Raises:
            pickle.PicklingError, TypeError, ...: it, or something that it captures, cannot be pickled.
            EnvironmentPreparationError: its `environment` is nothing that can be one.
        """
        resolved = self._resolved.get(id(fn))
        if resolved is None or not resolved.is_current(fn):
            resolved = self._resolve(fn)
        return resolved

    def release(self) -> None:
        """Forget everything, with the large values that functions captured: no call will come any more."""
        with self._lock:
            for record in self._functions.values():
                record.payload = b""
            for context in self._contexts.values():
                context.boot = b""
            for known in (self._functions, self._contexts, self._resolved):
                known.clear()
            self._pickler = FunctionPickler()

    def _resolve(self, fn: Callable[..., Any]) -> Resolved:
        """Find out the function of a call as bytes, its context, and the module that travels by value."""
        options = fn.options if isinstance(fn, Task) else _NO_OPTIONS
        bare, category, limits = _unwrapped(fn, options)
        environment = self.environment if options.environment is INHERIT else options.environment
        by_value = module_by_value(bare, environment)
        pickled = self._pickler.pickle(bare, by_value)
        setup = None
        if options.setup is not None:
            setup = self._pickler.pickle(options.setup, module_by_value(options.setup, environment))
        function = self._function(bare, pickled, category, limits, options)
        context = self._context(
            Request(environment, bare, options.setup, _setup_payload(setup, options)), pickled, options
        )
        resolved = Resolved(fn, bare, pickled, options, setup, function, context)
        if self._is_sized:
            resolved.features = _finder(fn.function if isinstance(fn, Task) else fn, bare)
        key, known = id(fn), self._resolved
        if (former := known.get(key)) is not None:
            former.reference = weak_reference(None)  # or it would be a cycle, and keep what it captured for long
        known[key] = resolved
        # Without a reference to this executor: that would be a cycle, and only the garbage collector would close it.
        resolved.reference = weak_reference(fn, lambda: _forget(known, key, resolved))
        return resolved

    def _function(
        self,
        bare: Callable[..., Any],
        pickled: PickledFunction,
        category: str,
        limits: Limits | None,
        options: TaskOptions,
    ) -> FunctionRecord:
        shared = CallOptions(
            options.mode,
            options.timeout_s,
            options.retries,
            options.priority,
            options.resources,
            options.least_s,
            options.is_measured_alone,
        )
        key = (pickled.digest, category, limits, shared)
        with self._lock:
            known = self._functions.get(key)
            if known is None:
                number = next(self._function_numbers)
                known = FunctionRecord(number, pickled.payload, _name(bare), category, limits, options=shared)
                known.look_s = _look_s(shared, limits)
                known.imports = imports_of(bare, pickled.by_value, options.mode == "fork")
                is_large = isinstance(pickled.payload, LargePayload)  # only by value are functions large
                known.has_bytecode = is_large or carries_bytecode(pickled.payload)
                self._functions[key] = known
                if is_large:
                    self._note_large(key)
            return known

    def _note_large(self, key: FunctionKey) -> None:
        """Forget the oldest large function when there are more than a few: what it captured may have changed since."""
        self._large.append(key)
        if len(self._large) > _MOST_LARGE:
            self._functions.pop(self._large.popleft(), None)

    def _context(self, request: Request, pickled: PickledFunction, options: TaskOptions) -> ContextRecord:
        where = environment_key(request.environment, pickled.digest)
        setup = None
        if request.payload is not None:
            # Equal arguments are one context, also where one of them was made anew.
            setup = request.payload[0], bytes_of_equals(options.setup_args, request.payload[1])
        key = (where, setup, mode_class(options.mode), options.resources)
        with self._lock:
            record = self._contexts.get(key) or self._new_context(key, request)
            # It is no part of what a context is. Of several that are told, the largest holds.
            record.setup_timeout_s = max(record.setup_timeout_s, options.setup_timeout_s)
            record.has_priorities |= options.priority != 0
            return record

    def _new_context(self, key: ContextKey, request: Request) -> ContextRecord:
        where, setup, mode, resources = key
        asked = "" if resources is None else json.dumps(resources.to_dict(), sort_keys=True)
        context = Context(where, _digest(self._initializer), _digest(setup), mode, asked)
        record = ContextRecord(len(self._contexts), context.key, _name(request.setup or request.function))
        record.is_fresh, record.is_threaded, record.resources = mode == "fresh", mode == "thread", resources
        if resources is not None and resources.memory_bytes:
            self._on_memory_asked()
        setup = request.payload
        record.stage = "set-up" if setup is not None else "initializer" if self._initializer is not None else ""
        if (environment := self._preparer.ready(request)) is not None:
            record.environment, record.boot = environment, boot_frame(self._initializer, setup)
            record.has_bytecode = carries_bytecode(record.boot)
        else:
            self._preparer.expect(record, request)
        self._contexts[key] = record
        return record


class Resolved:
    """What a callable was found to be, and how to tell that it still is.

    Kept per callable, because finding it out costs ten times as much as the rest of `submit`.
    """

    __slots__ = (
        "_bare",
        "_is_reusable",
        "_pickled",
        "_setup",
        "_setup_function",
        "by_value",
        "context",
        "features",
        "function",
        "reference",
    )

    def __init__(
        self,
        fn: Callable[..., Any],
        bare: Callable[..., Any],
        pickled: PickledFunction,
        options: TaskOptions,
        setup: PickledFunction | None,
        function: FunctionRecord,
        context: ContextRecord,
    ) -> None:
        self._bare = None if bare is fn else bare
        self._pickled = pickled
        self._setup = setup
        self._setup_function = options.setup
        # Arguments of the set-up that may change in place are pickled anew for each call.
        self._is_reusable = all(map(is_constant, options.setup_args))
        self.reference: Callable[[], Any] = lambda: None
        self.function = function
        self.context = context
        self.by_value = pickled.by_value
        self.features: FindFeatures | None = None

    def is_current(self, fn: Callable[..., Any]) -> bool:
        """Tell whether `fn` is still what was resolved, down to the values that it captures."""
        if self.reference() is not fn or not self._pickled.is_current(fn if self._bare is None else self._bare):
            return False
        if self._setup is None:
            return True
        assert self._setup_function is not None
        return self._is_reusable and self._setup.is_current(self._setup_function)


def _forget(known: dict[int, Resolved], key: int, entry: Resolved) -> None:
    if known.get(key) is entry:
        del known[key]


def _unwrapped(fn: Callable[..., Any], options: TaskOptions) -> tuple[Callable[..., Any], str, Limits | None]:
    """Return the function that is sent, the category of its calls, and their limits.

    The context process measures every call: a `@monitor` is taken off, its category and its limits are kept.
    """
    bare = fn.function if isinstance(fn, Task) else fn
    monitored = getattr(bare, "__envpack_monitor__", None)
    if monitored is None:
        return bare, options.category or _category(bare), None
    category = options.category or monitored.category
    inner = inspect.unwrap(bare, stop=lambda inner: not hasattr(inner, "__envpack_monitor__"))
    return inner, category, monitored.limits


def _finder(function: Callable[..., Any], bare: Callable[..., Any]) -> FindFeatures:
    """Return what finds the features of calls: as `@monitor` was told, or in their arguments."""
    monitored = getattr(function, "__envpack_monitor__", None)
    if monitored is not None:
        return functools.partial(monitored.features_of, bare)
    from envpack_monitor.calls.features import finder_of

    return finder_of(bare).find


def _look_s(options: CallOptions, limits: Limits | None) -> float:
    """Return after how long a node must look at a call, see `FunctionRecord`. Children are their parent's business."""
    if options.mode == "fork":
        return 0.0
    looks = [options.timeout_s]
    if limits is not None:
        looks += [limits.wall_s or 0.0, LOOK_EVERY_S if limits.memory_bytes else 0.0]
    return min((look_s for look_s in looks if look_s), default=0.0)


def _setup_payload(setup: PickledFunction | None, options: TaskOptions) -> SetupPayload | None:
    return None if setup is None else (setup.payload, dump_arguments(options.setup_args, {}, setup.by_value))


def _digest(payload: bytes | tuple[bytes, ...] | None) -> str:
    if payload is None:
        return ""
    pieces = (payload,) if isinstance(payload, bytes) else payload
    return hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in pieces)).hexdigest()


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def _category(function: Any) -> str:
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}.{_name(function)}"
