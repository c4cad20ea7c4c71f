"""The inner side of an isolated call: call, measure, end what was left behind, and send what came of it.

What is sent is three parts, each its length and its bytes: the figures, then what kind of end it was, then the value.
The figures go first where somebody watches: from then on it is the value that takes memory, not the call.
"""

from __future__ import annotations

import errno
import fcntl
import marshal
import os
import pickle
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from envpack_monitor.calls.bracket import Bracket
from envpack_monitor.errors import ResultNotPicklable
from envpack_monitor.isolated.pickled_errors import dumps as dumps_error
from envpack_monitor.trees import tree
from envpack_monitor.trees.marks import Mark

PARTS = 3
LENGTH = struct.Struct("<Q")
_PIPE_BYTES = 65536
_WIDE_PIPE_BYTES = 1 << 20
_ENOUGH_BYTES = 1 << 16
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""What needs no pickle."""


class Measure(Protocol):
    """A bracket."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> Any:
        """End, and return what can be sent: fields of `Usage`, or the readings of a forked child."""


def settle(parent: int, mark: Mark) -> None:
    """Make this process the top of a tree that ends with it and with its parent."""
    tree.die_with_parent(parent)
    tree.become_subreaper()
    mark.put_on()


def run_to_end(
    pipe: int,
    measure: Measure,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    is_watched: bool,
) -> NoReturn:
    """Call, send and leave this process.

    Args:
        pipe: where the parts go.
        measure: what measures the call.
        function: what is called.
        args: its arguments.
        kwargs: its named arguments.
        is_watched: somebody watches the memory, so the figures go ahead.
    """
    status = 70
    try:
        figures, kind, text, value = _call(measure, function, args, kwargs)
        sent = _part(marshal.dumps(figures))
        if is_watched:
            _write(pipe, sent)
            sent = b""
        kind, text, payload = _packed(kind, text, value)
        end_rest()
        flush_all()
        # One write where the value is small.
        head = sent + _part(marshal.dumps((kind, text))) + LENGTH.pack(len(payload))
        for data in (head + payload,) if len(payload) <= _ENOUGH_BYTES else (head, payload):
            _write(pipe, data)
        status = 0
    except BaseException:
        # Nobody above this frame may run: it belongs to the caller's program.
        traceback.print_exc()
    finally:
        os._exit(status)


def fail_to_begin(pipe: int, error: BaseException) -> NoReturn:
    """Send an error from before the call, as that of the call, and leave this process."""

    def fail() -> NoReturn:
        raise error

    _write(pipe, _part(b""))
    run_to_end(pipe, Bracket(), fail, (), {}, is_watched=False)


def end_rest() -> None:
    """Kill what this process has started and what was left to it."""
    if tree.has_children():
        tree.kill_tree(os.getpid(), spare_root=True)


def dumps(value: Any, *, by_value: bool = False) -> bytes:
    """Return the pickle of a value, by cloudpickle if it is installed and the standard library cannot.

    Args:
        value: what is pickled.
        by_value: let cloudpickle be tried first, which sends what is defined in the main module whole.
    """
    try:
        if by_value and (cloudpickle := _cloudpickle()) is not None:
            return bytes(cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        # Functions and classes made at run time need more.
        if (cloudpickle := _cloudpickle()) is None:
            raise
        return bytes(cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL))


def _dump_error(error: BaseException) -> bytes:
    try:
        return dumps_error(error, pickle.HIGHEST_PROTOCOL)
    except Exception:
        if (cloudpickle := _cloudpickle()) is None:
            raise
        return dumps_error(error, pickle.HIGHEST_PROTOCOL, cloudpickle.Pickler)


def flush_all() -> None:
    """Write what this process has buffered: its history, if it kept one, and its standard streams."""
    # Whoever has recorded anything has imported it.
    if (recorder := sys.modules.get("envpack_monitor.history.recorder")) is not None:
        recorder.flush_default()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _call(
    measure: Measure, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, str, str, Any]:
    pid = os.getpid()
    measure.start()
    try:
        value = function(*args, **kwargs)
    except BaseException as error:
        if os.getpid() != pid:
            _leave(error)
        return measure.stop(), "error", "".join(traceback.format_exception(error)), error
    if os.getpid() != pid:
        _leave(None)
    return measure.stop(), "result", "", value


def _leave(error: BaseException | None) -> NoReturn:
    """End a process that the function has forked and that came back from it: there is one result, not two."""
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)
        status = 1
    flush_all()
    os._exit(status & 0xFF)


def _cloudpickle() -> Any:
    try:
        import cloudpickle
    except ImportError:
        return None
    return cloudpickle


def _packed(kind: str, text: str, value: Any) -> tuple[str, str, bytes]:
    if type(value) in _PLAIN:
        return "plain", text, marshal.dumps(value)
    try:
        return kind, text, _dump_error(value) if kind == "error" else dumps(value)
    except Exception as error:
        what = f"the {kind} of type {type(value).__name__!r} cannot be pickled"
        return "error", text, pickle.dumps(ResultNotPicklable(f"{what}: {error}"))


def _part(data: bytes) -> bytes:
    return LENGTH.pack(len(data)) + data


def _write(fd: int, data: bytes) -> None:
    if len(data) > _PIPE_BYTES:
        _widen(fd)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _widen(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _WIDE_PIPE_BYTES)
    except OSError as error:
        # A user may own only so much buffer; the pipe works as it is.
        if error.errno not in (errno.EPERM, errno.EBUSY):
            raise
