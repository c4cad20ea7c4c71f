"""Everything that the client pickles or unpickles: arguments, functions, and the outcomes that come back.

Guarantees: what is sent is the value at the moment of `submit`; a function is pickled again whenever anything that it
captures may have changed, so that stale code is never run; objects that live in the client's `__main__`, or in a
module that the executor was told to send by value, travel by value.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import io
import operator
import pickle
import sys
import threading
import types
import weakref
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import cloudpickle

from envpack_executor.errors import ForkUnsafeError, PythonMismatchError, RemoteError, RemoteTraceback, ResultError
from envpack_executor.process.frames import LARGE_BYTES, VALUES_BYTES, WITHOUT_BUFFERS, LargeBuffer, small_buffers_alone
from envpack_executor.process.kept import Buffers, references
from envpack_executor.tasks import Task, without_options
from envpack_executor.values import captured, large
from envpack_executor.values.references import Kept, keep, noting_needs

R = TypeVar("R")
PROTOCOL = 5
_NO_ARGUMENTS = pickle.dumps(((), {}), PROTOCOL)
_BY_VALUE_LOCK = threading.Lock()
# What a context process says itself, which cannot import our errors.
_REFUSALS = {
    f"{each.__module__}.{each.__qualname__}": each for each in (ResultError, ForkUnsafeError, PythonMismatchError)
}
BufferCallback = Callable[[pickle.PickleBuffer], Any]
Reducers = Mapping[type, Callable[[Any], Any]]

# Values of these types cannot change: the same object is the same value.
_CONSTANTS = frozenset(
    {
        *(int, float, complex, bool, str, bytes),
        *(type(None), type(Ellipsis), type(NotImplemented)),
        *(types.ModuleType, types.CodeType),
    }
)


def dump_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], by_value: str | None = None) -> bytes:
    """Return the bytes of a call's arguments.

    Args:
        args: by position.
        kwargs: by name.
        by_value: name of a module whose classes and functions travel by value.

    Raises:
        pickle.PicklingError, TypeError, ...: whatever the argument that cannot be pickled raises.
    """
    if not args and not kwargs:
        return _NO_ARGUMENTS
    for value in args:
        if type(value) in WITHOUT_BUFFERS and len(value) >= LARGE_BYTES:
            break  # to pickle it once in vain would take as long as to send it
    else:
        try:
            data = dump((args, kwargs), by_value, small_buffers_alone)
        except LargeBuffer:
            pass
        else:
            # References to kept values stand in the bytes by a name that nothing else has.
            if len(data) < LARGE_BYTES and not (references and VALUES_BYTES in data):
                return data
    return large.dump_arguments(args, kwargs, lambda value, buffers: dump(value, by_value, buffers))


def put(value: R) -> Kept[R]:
    """Return a reference to a value that calls can name.

    Raises:
        MemoryError: there is not enough memory for it.
        pickle.PicklingError, TypeError, ...: it cannot be pickled.
    """
    buffers = Buffers()
    with noting_needs() as needed:
        stream = dump(value, None, buffers)
    return keep(stream, buffers.views, needed)


def dump(
    value: Any,
    by_value: str | None = None,
    buffer_callback: BufferCallback | None = None,
    reducers: Reducers | None = None,
) -> bytes:
    """Pickle by the C pickler where that is right, by cloudpickle where it would name what the other end cannot import.

    That is `__main__`, and the module `by_value`. Both names are looked for in the bytes: exact, and almost free.

    Args:
        value: what is pickled.
        by_value: name of a module whose classes and functions travel by value.
        buffer_callback: says which buffers stay outside, as `pickle.dumps` has it.
        reducers: what stands for values of these types, before anything else that is known of them.
    """
    try:
        data = _dump_by_name(value, buffer_callback, reducers)
        if b"__main__" not in data and (by_value is None or by_value.encode() not in data):
            return data
    except (pickle.PicklingError, AttributeError, TypeError):
        pass  # cloudpickle may be able to; if not, it raises the error that the user sees
    if isinstance(buffer_callback, Buffers):
        buffer_callback.views.clear()
    return dump_by_value(value, by_value, buffer_callback, reducers)


def _dump_by_name(value: Any, buffer_callback: BufferCallback | None, reducers: Reducers | None) -> bytes:
    if reducers is None:
        return pickle.dumps(value, PROTOCOL, buffer_callback=buffer_callback)
    file = io.BytesIO()
    pickler = pickle.Pickler(file, PROTOCOL, buffer_callback=buffer_callback)
    pickler.dispatch_table = {**copyreg.dispatch_table, **reducers}
    pickler.dump(value)
    return file.getvalue()


def dump_by_value(
    value: Any,
    by_value: str | None,
    buffer_callback: BufferCallback | None = None,
    reducers: Reducers | None = None,
) -> bytes:
    """Pickle `value` by cloudpickle so that functions and classes of the module `by_value` travel by value.

    The registry of cloudpickle is global: it is changed for the length of this call, under a lock.
    """
    if by_value is None:
        return _dump_with_cloudpickle(value, buffer_callback, reducers)
    module = sys.modules[by_value]
    with _BY_VALUE_LOCK:
        if by_value in cloudpickle.list_registry_pickle_by_value():
            return _dump_with_cloudpickle(value, buffer_callback, reducers)
        cloudpickle.register_pickle_by_value(module)
        try:
            return _dump_with_cloudpickle(value, buffer_callback, reducers)
        finally:
            cloudpickle.unregister_pickle_by_value(module)


def _dump_with_cloudpickle(value: Any, buffer_callback: BufferCallback | None, reducers: Reducers | None) -> bytes:
    with without_options():
        if reducers is None:
            data: bytes = cloudpickle.dumps(value, protocol=PROTOCOL, buffer_callback=buffer_callback)
            return data
        file = io.BytesIO()
        _ReducingPickler(file, buffer_callback, reducers).dump(value)
        return file.getvalue()


class _ReducingPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """That of cloudpickle, with reducers of its own."""

    def __init__(self, file: io.BytesIO, buffer_callback: BufferCallback | None, reducers: Reducers) -> None:
        # Before the base class, which looks for it once.
        self.dispatch_table = {**cloudpickle.Pickler.dispatch_table, **reducers}
        super().__init__(file, protocol=PROTOCOL, buffer_callback=buffer_callback)


def load_outcome(outcome: bytes | tuple[bytes | None, str, str, str] | None) -> tuple[Any, BaseException | None]:
    """Return an outcome as (result, None) or (None, exception with the remote traceback as its cause)."""
    if outcome is None:
        return None, None
    if isinstance(outcome, tuple):
        return None, load_failure(outcome)
    try:
        return pickle.loads(outcome), None
    except BaseException as error:
        failure = ResultError(f"result could not be unpickled in the client: {type(error).__name__}: {error}")
        failure.__cause__ = error
        return None, failure


def load_failure(failure: tuple[bytes | None, str, str, str]) -> BaseException:
    """Return the exception of a failed call; one that cannot be rebuilt here becomes a `RemoteError`."""
    payload, type_name, message, traceback_text = failure
    error: BaseException
    try:
        error = pickle.loads(payload) if payload is not None else _stand_in(type_name, message)
        if not isinstance(error, BaseException):
            error = _stand_in(type_name, message)
    except BaseException:
        error = _stand_in(type_name, message)
    if traceback_text:
        error.__cause__ = RemoteTraceback(traceback_text)
    return error


def _stand_in(type_name: str, message: str) -> BaseException:
    refused = _REFUSALS.get(type_name)
    if refused is not None:
        return refused(message)
    return RemoteError(f"{type_name}: {message}")


class PickledFunction:
    """A function as bytes, and what must still be the same for the bytes to be right.

    Args:
        function: what was pickled.
        payload: the pickle.
        by_value: name of the module whose functions travelled by value.
        snapshot: the objects that the function captured when it was pickled, or None when one of them may change
            without becoming another object, so that the bytes serve for one use only.
    """

    __slots__ = ("by_value", "digest", "payload", "reference", "snapshot")

    def __init__(
        self, function: Callable[..., Any], payload: bytes, by_value: str | None, snapshot: tuple[Any, ...] | None
    ) -> None:
        self.reference = weak_reference(function)
        self.payload = payload
        self.by_value = by_value
        self.digest = hashlib.sha256(payload).hexdigest()
        self.snapshot = snapshot

    def is_current(self, function: Callable[..., Any]) -> bool:
        """Tell whether the bytes are those of `function` as it is now."""
        then = self.snapshot
        if then is None or self.reference() is not function:
            return False
        if not then:
            return True
        now = _snapshot(function, self.by_value)
        return now is not None and len(now) == len(then) and all(map(operator.is_, now, then))


class FunctionPickler:
    """Pickles functions once for as long as nothing that they capture has changed."""

    def __init__(self) -> None:
        self._pickled: dict[tuple[int, str | None], PickledFunction] = {}

    def pickle(self, function: Callable[..., Any], by_value: str | None = None) -> PickledFunction:
        """Return the bytes of `function` as it is now.

        Args:
            function: any callable.
            by_value: name of the module whose functions and classes travel by value although it could be imported.

        Raises:
            pickle.PicklingError, TypeError, ...: it, or something that it captures, cannot be pickled.
        """
        key = (id(function), by_value)
        known = self._pickled.get(key)
        if known is not None and known.is_current(function):
            return known
        fresh = _pickle_now(function, by_value)
        if known is not None:
            known.reference = weak_reference(None)  # or it would be a cycle, and keep what it captured for long
        self._pickled[key] = fresh
        fresh.reference = weak_reference(function, lambda: self._forget(key, fresh))
        return fresh

    def _forget(self, key: tuple[int, str | None], entry: PickledFunction) -> None:
        if self._pickled.get(key) is entry:
            del self._pickled[key]


def _pickle_now(function: Callable[..., Any], by_value: str | None) -> PickledFunction:
    if travels_by_name(function, by_value):
        return PickledFunction(function, pickle.dumps(function, PROTOCOL), by_value, ())
    snapshot = _snapshot(function, by_value)
    if snapshot is not None and not all(is_constant(value, by_value) for value in snapshot):
        snapshot = None
    return PickledFunction(function, _dump_function(function, by_value), by_value, snapshot)


def _dump_function(function: Callable[..., Any], by_value: str | None) -> bytes:
    """Pickle a function by value; what it captures and is large becomes blobs."""
    try:
        data = dump_by_value(function, by_value, small_buffers_alone)
    except LargeBuffer:
        pass
    else:
        if len(data) < LARGE_BYTES and not (references and VALUES_BYTES in data):
            return data
    payload = large.dump_value(function, lambda value, buffers: dump_by_value(value, by_value, buffers))
    captured.warn_of_large(function, sum(blob.size for blob in large.blobs_of([payload]).values()))
    return payload


def _snapshot(function: Callable[..., Any], by_value: str | None) -> tuple[Any, ...] | None:
    """Return everything that a plain function takes along, functions that it takes along included."""
    if not isinstance(function, types.FunctionType):
        return None
    found = taken_along(function)
    seen = {id(function)}
    for value in found:  # grows while it is read
        if type(value) is types.FunctionType and id(value) not in seen:
            seen.add(id(value))
            if not travels_by_name(value, by_value):
                found += taken_along(value)
        elif type(value) is Task:
            found.append(value.function)  # travels in its place
    return tuple(found)


def travels_by_name(value: Any, by_value: str | None) -> bool:
    """Tell whether another process finds this very object by importing its module."""
    module_name, path = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(path, str) or module_name in ("__main__", by_value):
        return False
    found: Any = sys.modules.get(module_name)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found is value


def is_constant(value: Any, by_value: str | None = None) -> bool:
    """Tell whether the same object stays the same value, as far as a pickle of it goes."""
    kind = type(value)
    if kind in _CONSTANTS or kind is types.FunctionType or kind is Task:
        return True  # what a function captures stands in the snapshot itself
    if kind is types.BuiltinFunctionType:
        return is_constant(value.__self__, by_value)  # a module, or what it is a method of: `table.get`
    if kind in (tuple, frozenset):
        return all(type(item) is not types.FunctionType and is_constant(item, by_value) for item in value)
    return isinstance(value, type) and travels_by_name(value, by_value)


def weak_reference(function: Any, on_gone: Callable[[], None] = lambda: None) -> Callable[[], Any]:
    """Return a weak reference; to what cannot be watched, one that leads nowhere and is never taken for the same.

    Args:
        function: what is referred to.
        on_gone: called when it is collected.
    """
    try:
        return weakref.ref(function, lambda reference: on_gone())
    except TypeError:
        on_gone()
        return lambda: None


@functools.lru_cache(maxsize=4096)
def names_of(code: types.CodeType) -> tuple[str, ...]:
    """Return the names that `code` and the code inside it may look up among the globals."""
    inner = [name for constant in code.co_consts if isinstance(constant, types.CodeType) for name in names_of(constant)]
    return tuple(dict.fromkeys([*code.co_names, *inner]))


def taken_along(function: types.FunctionType) -> list[Any]:
    """Return what a function sent by value takes along: code, attributes, defaults, closure, the globals it names."""
    found: list[Any] = [function.__code__]
    if function.__dict__:
        found += function.__dict__
        found += function.__dict__.values()
    if function.__defaults__:
        found += function.__defaults__
    if function.__kwdefaults__:
        found += function.__kwdefaults__.values()
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:
            found.append(None)  # not assigned yet
    available = function.__globals__
    found += [available[name] for name in names_of(function.__code__) if name in available]
    return found


def twin(error: BaseException) -> BaseException:
    """Return another error that says the same, or the error itself where it cannot be made again."""
    # By its own words: `copy.copy` would ask `copyreg`, where other libraries tell how all exceptions are made again.
    try:
        reduced: Any = error.__reduce_ex__(PROTOCOL)
        make, args, *state = reduced
        twin: BaseException = make(*args)
    except Exception:
        return error  # it cannot be taken apart, or asks for other arguments than it remembers
    if state and state[0]:
        twin.__setstate__(dict(state[0]))
    twin.__cause__ = error.__cause__
    if notes := getattr(error, "__notes__", None):
        twin.__notes__ = list(notes)
    return twin
