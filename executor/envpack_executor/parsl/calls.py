"""The future of a call as Parsl's data-flow kernel can bear it.

The kernel looks for an `Exception` alone where it takes the end of a call. Of `SystemExit`, which `sys.exit` in an app
raises, it would hear nothing, and its own future would never end.
"""

from __future__ import annotations

from typing import TypeVar

from envpack_executor.errors import ProcessExitedError
from envpack_executor.futures import CallFuture

T = TypeVar("T")


class AppCall(CallFuture[T]):
    """A call whose errors are all an `Exception`: what a process ends by arrives as `ProcessExitedError`."""

    # No fields of its own: a call becomes one after it was submitted, and perhaps after its end.
    __slots__ = ()

    def result(self, timeout: float | None = None) -> T:
        """Return the result of the call, as `concurrent.futures.Future.result` does."""
        try:
            return super().result(timeout)
        except Exception:
            raise
        except BaseException as error:
            if error is not self._exception:
                raise  # of the thread that waits, such as Ctrl-C
            raise ProcessExitedError.caused_by(error, self.function.name) from error
        finally:
            self = None  # type: ignore[assignment]  # as the base class does: no cycle of exception, frame and future

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception of the call, as `concurrent.futures.Future.exception` does."""
        error = super().exception(timeout)
        if error is None or isinstance(error, Exception):
            return error
        exited = ProcessExitedError.caused_by(error, self.function.name)
        exited.__cause__ = error
        return exited
