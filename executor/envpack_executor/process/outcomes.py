"""What comes of a call inside a context process, as bytes that the client understands. Standard library only.

An outcome is None for None, the pickle of any other result, or a `Failure`. That of a call with limits is a tuple of
what else would be its outcome, its figures, and the pid: the client decides by the figures.
"""

from __future__ import annotations

import _pickle as pickle
import os
import sys
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from envpack_executor.process.frames import (
    FILE,
    HEADER,
    LARGE_BYTES,
    VALUES,
    WITHOUT_BUFFERS,
    LargeBuffer,
    small_buffers_alone,
)
from envpack_executor.process.functions import Function
from envpack_executor.process.output import printed
from envpack_monitor.isolated.pickled_errors import dumps as dumps_error

PROTOCOL = 5
# The outcome of a call with limits: what else would be its outcome, its figures, the pid.
LIMITED_FIELDS = 3
_TOLD_CHARACTERS = 300
_outbox: tuple[int, Any] | None = None  # see `send_files_by`

Failure = tuple[bytes | None, str, str, str]
"""Pickled exception, or None where it cannot be pickled; name of its type, text, traceback."""
Outcome = bytes | bytearray | Failure | None

_ERRORS = "envpack_executor.errors."
_RESULT_ERROR = f"{_ERRORS}ResultError"
_UNFINISHED: dict[type, str] = {
    GeneratorType: "a generator",
    CoroutineType: "a coroutine",
    AsyncGeneratorType: "an asynchronous generator",
}
_REMEDY = {
    GeneratorType: "return list(...) of it, or iterate inside the call",
    CoroutineType: "call it by asyncio.run(...) inside the call",
    AsyncGeneratorType: "collect it inside the call, by asyncio.run(...)",
}


def run(function: Function, payload: bytes) -> Outcome:
    """Run one call and return its outcome; nothing that the call raises passes."""
    try:
        args, kwargs = pickle.loads(payload)
        if function.injected:
            kwargs = function.with_context(args, kwargs)
        value = function.function(*args, **kwargs)
    except BaseException as error:
        return failure(error)
    if value is None:
        return None
    try:
        return _dumps_result(value)
    except MemoryError as error:
        return failure(error)
    except BaseException as error:
        return _unpicklable(function, value, error)


def irregularity(failure: Failure) -> tuple[str, str]:
    """Return (kind, detail) of a failure, for whoever decides about retries.

    It is `refused` where it lies in the call itself, so that no retry helps, and `raised` otherwise.
    """
    payload, kind, message, _ = failure
    if payload is None and kind.startswith(_ERRORS):
        return "refused", message
    return "raised", f"{kind}: {message}"[:_TOLD_CHARACTERS]


def _dumps_result(value: Any) -> bytes:
    """Pickle a result; what is large leaves ahead of its outcome, in a memory file."""
    if _outbox is None:
        return dumps(value)
    values = None
    if type(value) in WITHOUT_BUFFERS and len(value) >= LARGE_BYTES:
        values = large_values()
        value = values.with_buffer(value)
    try:
        data = dumps(value, small_buffers_alone)
    except LargeBuffer:
        return _sent(*(values or large_values()).file_of_result(value, dumps))
    return data if len(data) < LARGE_BYTES else _sent(*large_values().file_of_pickle(data))


def shortened(outcome: Any) -> Any:
    """Send what is large of an outcome that came from a child, and return what stands for it."""
    if type(outcome) not in (bytes, bytearray) or len(outcome) < LARGE_BYTES:
        return outcome
    try:
        return _sent(*large_values().file_of_pickle(outcome))
    except MemoryError as error:
        return failure(error)


def large_values() -> Any:
    """Return `process.kept`, which came with the bundle and is loaded when the first large value comes."""
    return __import__(VALUES)


def send_files_by(connection: int | None, sending: Any = None) -> None:
    """Send memory files of large results by the socket `connection`, under the lock `sending`; by None, send none."""
    global _outbox
    _outbox = None if connection is None else (connection, sending)


def _sent(descriptor: int, size: int) -> bytes:
    """Send a memory file, close it, and return the outcome that stands for it."""
    import _socket

    assert _outbox is not None
    connection, sending = _outbox
    name = os.urandom(16).hex()
    body = pickle.dumps((name, size), PROTOCOL)
    rights = _socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor.to_bytes(4, sys.byteorder)
    socket = _socket.socket(fileno=connection)
    try:
        with sending:
            socket.sendmsg([HEADER.pack(len(body), FILE) + body], [rights])
    finally:
        socket.detach()
        os.close(descriptor)
    outcome: bytes = large_values().arrival_outcome(name)
    return outcome


def dumps(value: Any, buffer_callback: Any = None) -> bytes:
    """Pickle by the C pickler, and by cloudpickle what lives in no module that the client could import."""
    try:
        data = pickle.dumps(value, PROTOCOL, buffer_callback=buffer_callback)
        if b"__main__" not in data:
            return data
    except (pickle.PicklingError, AttributeError, TypeError):
        pass  # the ordinary pickler goes by name alone; cloudpickle says in its own words what cannot be done
    import cloudpickle

    if hasattr(buffer_callback, "views"):
        buffer_callback.views.clear()  # of the pickle that was of no use
    by_value: bytes = cloudpickle.dumps(value, protocol=PROTOCOL, buffer_callback=buffer_callback)
    return by_value


def _dump_error(error: BaseException) -> bytes:
    try:
        data = dumps_error(error, PROTOCOL)
        if b"__main__" not in data:
            return data
    except (pickle.PicklingError, AttributeError, TypeError):
        pass  # as above
    import cloudpickle

    return dumps_error(error, PROTOCOL, cloudpickle.Pickler)


def failure(error: BaseException) -> Failure:
    """Return what the client is told about an exception."""
    import traceback

    frame = error.__traceback__.tb_next if error.__traceback__ else None  # without our own frame
    text = "".join(traceback.format_exception(type(error), error, frame)) + printed()
    try:
        # A subclass of str would need its class at the other end.
        message = str.__str__(str(error))
    except Exception as unprintable:
        message = f"<unprintable: {type(unprintable).__name__}>"
    try:
        payload = _dump_error(error.with_traceback(None))
    except BaseException:
        payload = None  # the client is told type, text and traceback instead
    return payload, type_name(error), message, text


def refusal(kind: str, message: str) -> Failure:
    """Return the failure of a call that was not begun, by an error of ours that the client knows by its name."""
    return None, f"{_ERRORS}{kind}", message, ""


def type_name(value: object) -> str:
    """Return the full name of the type of `value`, without `builtins`."""
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def flush_streams() -> None:
    """Write what the standard streams have buffered."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # the reader of our output has gone, or the user's code closed it: calls go on without it


def _unpicklable(function: Function, value: Any, error: BaseException) -> Failure:
    """Return the failure of a call whose result cannot be sent."""
    kind = type(value)
    if kind in _UNFINISHED:
        if kind is CoroutineType:
            value.close()  # or Python complains that nobody has awaited it
        what = f"{function.name!r} returned {_UNFINISHED[kind]}, which cannot leave its process"
        return None, _RESULT_ERROR, f"{what} ({_REMEDY[kind]})", ""
    _, _, message, text = failure(error)
    what = f"result of type {type_name(value)!r} cannot be pickled: {message}"
    return None, _RESULT_ERROR, f"{what} (return something that pickle or cloudpickle can carry)", text
