"""When an executor may still take calls, and what happens to those that are open when the interpreter ends."""

from __future__ import annotations

import threading
import weakref
from typing import Protocol

from envpack_executor.errors import ExecutorError
from envpack_executor.mapping import Feeds
from envpack_executor.pickling import twin


class Closable(Protocol):
    """The part of the manager's loop that ends it."""

    def request_close(self, is_cancelling: bool = False) -> None:
        """Ask it to end when every call has its end."""

    def join(self) -> None:
        """Wait for its end."""


class Gate:
    """Lets calls in until the executor closes or breaks.

    A call that passes while another thread closes is either run or given back by the loop, never forgotten.
    """

    feeds: Feeds
    """Of the executor: what has not been submitted of its maps."""

    def __init__(self) -> None:
        self.feeds = Feeds()
        self._closed_because = ""
        self._broken: ExecutorError | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls may pass."""
        return self._broken is None and not self._closed_because

    def check(self) -> None:
        """Let a call pass.

        Raises:
            RuntimeError: the executor is closed.
            BrokenExecutor: it is broken.
        """
        if self._broken is not None:
            raise twin(self._broken) from self._broken
        if self._closed_because:
            raise RuntimeError(f"cannot schedule new futures after {self._closed_because}")

    def close(self, because: str = "shutdown") -> None:
        """Let no further call in."""
        self._closed_because = self._closed_because or because

    def breaks(self, error: ExecutorError) -> None:
        """Let no further call in, because the executor cannot run any."""
        self._broken = self._broken or error


_open: weakref.WeakKeyDictionary[Closable, Gate] = weakref.WeakKeyDictionary()


def close_at_end(executor: object, loop: Closable, gate: Gate) -> None:
    """Close `loop` when `executor` is collected or the interpreter ends, whichever comes first.

    Calls that were accepted are run to their end even then, as `concurrent.futures` promises.
    """
    _open[loop] = gate
    weakref.finalize(executor, loop.request_close).atexit = False


def _at_interpreter_exit() -> None:
    loops = list(_open.items())
    for loop, gate in loops:
        gate.feeds.drain()
        gate.close("interpreter shutdown")
        loop.request_close()
    for loop, _ in loops:
        loop.join()


# Before the interpreter waits for threads and before `atexit`: later no thread can be started and no call be sent. The
# function is private but the only one there is; concurrent.futures itself and joblib's loky use it.
threading._register_atexit(_at_interpreter_exit)  # type: ignore[attr-defined]
