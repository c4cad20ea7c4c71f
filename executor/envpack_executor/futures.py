"""A future that is the call itself, and costs what it is used for.

`concurrent.futures.Future` makes a condition variable and two lists for each call: about 1.5 kB and a microsecond
that most calls of a large batch never need, because they are done before anybody waits. Here these are made when
somebody waits, cancels or adds a callback.

Call and future are one object, because a hundred thousand of them may wait: each further object would cost memory and
work of the garbage collector.

Why this is safe: `_condition` is made, and a future without one is ended, under one lock for all futures. So whoever
ends a future either sees that nobody can be waiting, or sees the condition and does what the base class does. All
readers in `concurrent.futures` (`wait`, `as_completed`, `result`, ...) reach the state through `_condition`. A gate is
made under the same lock, and only while there is no condition; whoever ends the future opens it after that.
"""

from __future__ import annotations

import _thread
import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from typing import Any, TypeVar

from envpack_executor.errors import CallCancelledError
from envpack_executor.manager.state import Call, ContextRecord, FunctionRecord

# The one of the base class, which says the same.
_log = logging.getLogger("concurrent.futures")
T = TypeVar("T")
_OPEN = (PENDING, RUNNING)

# Re-entrant, because a signal handler or a finalizer that runs while it is held may use another future.
_lock = threading.RLock()


class CallFuture(Call, Future[T]):
    """One call and its future.

    Args:
        number, function, context, payload: see `Call`.
        on_cancel: called when the call was cancelled before it began.
    """

    __slots__ = ("_done_callbacks", "_exception", "_gate", "_made", "_on_cancel", "_result", "_state", "_waiters")

    def __init__(
        self,
        number: int,
        function: FunctionRecord,
        context: ContextRecord,
        payload: bytes,
        on_cancel: Callable[[], None],
    ) -> None:
        # Not the base class's, which makes what most calls never need.
        Call.__init__(self, number, function, context, payload)
        self._on_cancel = on_cancel
        self._state = PENDING
        self._result = None
        self._exception = None
        self._made: threading.Condition | None = None
        # What the one thread waits for that asks for the result first: half the price of a condition, and one change
        # between threads less, because whoever is woken by a condition has to wait for its lock again.
        self._gate: _thread.LockType | None = None

    def cancel(self) -> bool:
        """Cancel the call if it has not begun; return whether it is cancelled."""
        try:
            return super().cancel()
        finally:  # a callback may have raised an interrupt
            if self.cancelled():
                self._open_gate()
                self.payload = b""
                self._on_cancel()

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]  # the base class never assigns it again
        if self._made is None:
            with _lock:
                if self._made is None:
                    self._waiters: list[Any] = []
                    self._done_callbacks: list[Any] = []
                    self._made = threading.Condition()
        return self._made

    def cancelled(self) -> bool:
        """Tell whether the call was cancelled."""
        return self._state in (CANCELLED, CANCELLED_AND_NOTIFIED)

    def done(self) -> bool:
        """Tell whether the call was cancelled or has its end."""
        return self._state in (FINISHED, CANCELLED, CANCELLED_AND_NOTIFIED)

    def result(self, timeout: float | None = None) -> T:
        """Return the result of the call, as `concurrent.futures.Future.result` does."""
        if self._state in _OPEN and self._made is None:
            self._wait_at_gate(timeout)
        if self._state == FINISHED and self._exception is None:
            return self._result  # type: ignore[return-value]
        try:
            return super().result(timeout)
        except CancelledError as error:
            raise self._cancellation(error) from None
        finally:
            self = None  # type: ignore[assignment]  # as the base class does: no cycle of exception, frame and future

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception of the call, as `concurrent.futures.Future.exception` does."""
        try:
            return super().exception(timeout)
        except CancelledError as error:
            raise self._cancellation(error) from None
        finally:
            self = None  # type: ignore[assignment]

    def _cancellation(self, error: CancelledError) -> CancelledError:
        """Return the error of a call that was cancelled before it began: the base class's own, with its name."""
        return CallCancelledError(self.function.name) if type(error) is CancelledError and self.cancelled() else error

    def set_running_or_notify_cancel(self) -> bool:
        """Mark the call as running; return False if it was cancelled."""
        if self._made is None:
            with _lock:
                if self._made is None and self._state == PENDING:
                    self._state = RUNNING
                    return True
        return super().set_running_or_notify_cancel()

    def set_result(self, result: T) -> None:
        """End the future with a result."""
        if self._made is None:
            with _lock:
                if self._made is None and self._state == RUNNING:
                    self._result = result
                    self._state = FINISHED
                    self._open_gate()
                    return
        super().set_result(result)
        self._open_gate()

    def set_exception(self, exception: BaseException | None) -> None:
        """End the future with an exception."""
        super().set_exception(exception)
        self._open_gate()

    def _invoke_callbacks(self) -> None:
        """Call what wants to know of the end, as the base class does; but none of it ends the executor's thread."""
        for callback in self._done_callbacks:
            try:
                callback(self)
            except BaseException as error:
                # `SystemExit`, say, which `result` raises of a call that ended by it. Interrupts are the user's.
                if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
                    raise
                _log.exception("exception calling callback for %r", self)

    def _wait_at_gate(self, timeout: float | None) -> None:
        """Wait for the end, if nobody else does.

        Raises:
            TimeoutError: it did not come in time.
        """
        with _lock:
            if self._made is not None or self._gate is not None or self._state not in _OPEN:
                return
            self._gate = gate = _thread.allocate_lock()
            gate.acquire()
        if not gate.acquire(timeout=-1 if timeout is None else min(max(0, timeout), threading.TIMEOUT_MAX)):
            with _lock:
                self._gate = None
                if self._state in _OPEN:
                    raise TimeoutError

    def _open_gate(self) -> None:
        """Let the thread go on that waits, after the state was changed."""
        if self._gate is None:
            return
        with _lock:  # it may be cancelled by several threads at once
            gate, self._gate = self._gate, None
        if gate is not None:
            gate.release()
