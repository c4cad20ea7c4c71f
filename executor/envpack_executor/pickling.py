"""Everything that the client pickles or unpickles: arguments, functions, and the outcomes that come back.

Guarantees: what is sent is the value at the moment of `submit`; a function is pickled again whenever anything that it
captures may have changed, so that stale code is never run; objects that live in the client's `__main__`, or in a
module that the executor was told to send by value, travel by value.
"""

from __future__ import annotations

import functools
import hashlib
import operator
import pickle
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle

from envpack_executor.errors import RemoteError, RemoteTraceback, ResultError

PROTOCOL = 5
_NO_ARGUMENTS = pickle.dumps(((), {}), PROTOCOL)
_BY_VALUE_LOCK = threading.Lock()

# Values of these types cannot change: the same object is the same value.
_CONSTANTS = frozenset(
    {
        *(int, float, complex, bool, str, bytes),
        *(type(None), type(Ellipsis), type(NotImplemented)),
        *(types.ModuleType, types.CodeType, types.BuiltinFunctionType),
    }
)


def dump_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Return the bytes of a call's arguments.

    Raises:
        pickle.PicklingError, TypeError, ...: whatever the argument that cannot be pickled raises.
    """
    if not args and not kwargs:
        return _NO_ARGUMENTS
    return dump((args, kwargs))


def dump(value: Any) -> bytes:
    """Pickle by the C pickler where that is right, by cloudpickle where the ordinary pickle would name `__main__`."""
    try:
        data = pickle.dumps(value, PROTOCOL)
        if b"__main__" not in data:
            return data
    except (pickle.PicklingError, AttributeError, TypeError):
        pass  # cloudpickle may be able to; if not, it raises the error that the user sees
    by_value: bytes = cloudpickle.dumps(value, protocol=PROTOCOL)
    return by_value


def dump_by_value(value: Any, modules: tuple[types.ModuleType, ...]) -> bytes:
    """Pickle `value` so that functions and classes of `modules` travel by value.

    The registry of cloudpickle is global: it is changed for the length of this call, under a lock.
    """
    with _BY_VALUE_LOCK:
        registered = [
            module for module in modules if module.__name__ not in cloudpickle.list_registry_pickle_by_value()
        ]
        try:
            for module in registered:
                cloudpickle.register_pickle_by_value(module)
            data: bytes = cloudpickle.dumps(value, protocol=PROTOCOL)
            return data
        finally:
            for module in registered:
                cloudpickle.unregister_pickle_by_value(module)


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
    error.__cause__ = RemoteTraceback(traceback_text)
    return error


def _stand_in(type_name: str, message: str) -> BaseException:
    if type_name == f"{ResultError.__module__}.{ResultError.__qualname__}":
        return ResultError(message, "return something that pickle or cloudpickle can carry")
    return RemoteError(f"{type_name}: {message}")


class PickledFunction:
    """A function as bytes, and what must still be the same for the bytes to be right.

    Args:
        function: what was pickled.
        payload: the pickle.
        snapshot: the objects that the function captured when it was pickled, or None when one of them may change
            without becoming another object, so that the bytes serve for one use only.
    """

    __slots__ = ("digest", "payload", "reference", "snapshot")

    def __init__(self, function: Callable[..., Any], payload: bytes, snapshot: tuple[Any, ...] | None) -> None:
        self.reference = _reference(function)
        self.payload = payload
        self.digest = hashlib.sha256(payload).hexdigest()
        self.snapshot = snapshot


class FunctionPickler:
    """Pickles functions once for as long as nothing that they capture has changed.

    Args:
        is_by_value: decides by its name whether a module's functions travel by value although it could be imported.
    """

    def __init__(self, is_by_value: Callable[[str], bool] = lambda module: False) -> None:
        self._is_by_value = is_by_value
        self._pickled: dict[int, PickledFunction] = {}

    def pickle(self, function: Callable[..., Any]) -> PickledFunction:
        """Return the bytes of `function` as it is now.

        Raises:
            pickle.PicklingError, TypeError, ...: it, or something that it captures, cannot be pickled.
        """
        key = id(function)
        known = self._pickled.get(key)
        if known is not None and known.reference() is function and self._is_current(function, known.snapshot):
            return known
        fresh = self._fresh(function)
        self._pickled[key] = fresh
        if isinstance(fresh.reference, weakref.ref):
            weakref.finalize(function, self._forget, key, fresh).atexit = False
        return fresh

    def _forget(self, key: int, entry: PickledFunction) -> None:
        if self._pickled.get(key) is entry:
            del self._pickled[key]

    def _fresh(self, function: Callable[..., Any]) -> PickledFunction:
        if self._travels_by_name(function):
            return PickledFunction(function, pickle.dumps(function, PROTOCOL), ())
        snapshot = self._snapshot(function)
        if snapshot is not None and not all(self._is_constant(value) for value in snapshot):
            snapshot = None
        module = sys.modules.get(getattr(function, "__module__", None) or "__main__")
        modules = (module,) if module is not None and self._is_by_value(module.__name__) else ()
        return PickledFunction(function, dump_by_value(function, modules), snapshot)

    def _is_current(self, function: Callable[..., Any], snapshot: tuple[Any, ...] | None) -> bool:
        if not snapshot:
            return snapshot is not None
        now = self._snapshot(function)
        return now is not None and len(now) == len(snapshot) and all(map(operator.is_, now, snapshot))

    def _snapshot(self, function: Callable[..., Any]) -> tuple[Any, ...] | None:
        """Return everything that a plain function takes along, functions that it takes along included."""
        if not isinstance(function, types.FunctionType):
            return None
        found: list[Any] = []
        seen = set()
        functions = [function]
        while functions:
            taken = functions.pop()
            seen.add(id(taken))
            for value in _captured(taken):
                found.append(value)
                if type(value) is types.FunctionType and id(value) not in seen and not self._travels_by_name(value):
                    functions.append(value)
        return tuple(found)

    def _travels_by_name(self, value: Any) -> bool:
        """Tell whether another process finds this very object by importing its module."""
        module_name, path = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        if not isinstance(module_name, str) or not isinstance(path, str) or module_name == "__main__":
            return False
        if self._is_by_value(module_name):
            return False
        found: Any = sys.modules.get(module_name)
        for part in path.split("."):
            found = getattr(found, part, None)
        return found is value

    def _is_constant(self, value: Any) -> bool:
        """Tell whether the same object stays the same value, as far as a pickle of it goes."""
        kind = type(value)
        if kind in _CONSTANTS or kind is types.FunctionType:
            return True  # what a function captures stands in the snapshot itself
        if kind in (tuple, frozenset):
            return all(type(item) is not types.FunctionType and self._is_constant(item) for item in value)
        return isinstance(value, type) and self._travels_by_name(value)


def _reference(function: Callable[..., Any]) -> Callable[[], Any]:
    try:
        return weakref.ref(function)
    except TypeError:
        return lambda: None  # cannot be watched, so it is never taken for the same


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """Return the names that `code` and the code inside it may look up among the globals."""
    inner = [name for constant in code.co_consts if isinstance(constant, types.CodeType) for name in _names(constant)]
    return tuple(dict.fromkeys([*code.co_names, *inner]))


def _captured(function: types.FunctionType) -> Iterator[Any]:
    """Yield what a function sent by value takes along: code, defaults, closure and the globals that it names."""
    yield function.__code__
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            yield None  # not assigned yet
    available = function.__globals__
    for name in _names(function.__code__):
        if name in available:
            yield available[name]
