"""`ContextExecutor.map`: results in order, items taken as they are needed, memory that does not grow with their number.

    iterables ──feed──▶ window: submitted and not consumed ──▶ results, in order
                 ▲                                                │
                 └───────── one for each that is taken ───────────┘

The standard library submits everything when `map` is called. Here that is put off for as long as nobody can tell:
whoever takes a result makes room for the next item. What nobody will ever take is submitted at once: when the executor
shuts down, when the interpreter ends, and when the iterator is dropped before its first result was asked for.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

from envpack_executor.futures import CallFuture
from envpack_executor.values.large import payload_bytes

# So much work is submitted ahead for each slot; and so many calls, because some may take longer than others.
AHEAD_S = 0.1
LEAST_PER_SLOT = 64
MOST_CALLS = 16384
# What arguments and results in the window may have in memory, as far as they are known, as long as each slot has two.
MOST_BYTES = 1 << 26
_WEIGH_EVERY = 16


class Feed:
    """The items of one `map`, submitted in their order.

    Args:
        submit: submits a call of the function with these arguments.
        items: arguments of the calls.
        slots: tells how many calls run at once.
        buffersize: how many calls are submitted and not consumed at most; None to find out.
        on_end: called with this feed when it has submitted all that it ever will.
    """

    def __init__(
        self,
        submit: Callable[..., Future[Any]],
        items: Iterator[tuple[Any, ...]],
        slots: Callable[[], int],
        buffersize: int | None,
        on_end: Callable[[Feed], None],
    ) -> None:
        self._submit: Callable[..., Future[Any]] | None = submit
        self._items = items
        self._slots = slots
        self._buffersize = buffersize
        self._on_end = on_end
        self._lock = threading.RLock()
        self._window: deque[Future[Any]] = deque()
        self._is_over = False
        self._error: BaseException | None = None
        self._taken = 0
        self._size = buffersize or LEAST_PER_SLOT * max(1, slots())
        self._item_bytes = 0.0

    def fill(self) -> None:
        """Submit until the window is full."""
        with self._lock:
            self._size = min(self._wanted(), 2 * self._size)
            while not self._is_over and len(self._window) < self._size:
                self._submit_one()

    def drain(self) -> None:
        """Submit everything that is left, unless no more than a number of calls was wanted."""
        while not self._is_over and self._buffersize is None:
            with self._lock:
                self._submit_one()

    def cancel(self, error: BaseException | None = None) -> None:
        """Submit no more, and cancel what has not begun; `error` is what the next result is."""
        with self._lock:
            self._end(error)
            if error is None:
                while self._window:
                    self._window.pop().cancel()

    def has_next(self) -> bool:
        """Tell whether there is another result, which may be an exception."""
        return bool(self._window) or self._error is not None

    def result(self, end_s: float | None) -> Any:
        """Return the next result.

        Args:
            end_s: until when, on the monotonic clock.

        Raises:
            TimeoutError: it was not there in time.
            BaseException: the call raised it, or the iterables did.
        """
        future = self._take()
        try:
            value = future.result(None if end_s is None else end_s - time.monotonic())
            if self._taken % _WEIGH_EVERY == 0:
                self._weigh(future, value)
            return value
        except BaseException:
            future.cancel()
            raise
        finally:
            del future  # a traceback must not keep it

    def _take(self) -> Future[Any]:
        with self._lock:
            if not self._window:
                assert self._error is not None
                error, self._error = self._error, None
                raise error
            future = self._window.popleft()
            self._taken += 1
            # In bursts where it is all the same: so many calls at once wake the manager once.
            if not self._is_over and (self._buffersize is not None or len(self._window) <= self._size // 2):
                self.fill()
            return future

    def _submit_one(self) -> None:
        if self._submit is None:
            return
        try:
            self._window.append(self._submit(*next(self._items)))
        except StopIteration:
            self._end(None)
        except BaseException as error:
            # It comes in its turn, after the results before it: of the iterables, of the executor or of an argument.
            self._end(error)
            if not isinstance(error, Exception):
                raise

    def _end(self, error: BaseException | None) -> None:
        if not self._is_over:
            self._is_over = True
            self._error = error
            self._items = iter(())
            self._submit = None  # it refers to the executor, which may go now
            self._on_end(self)

    # --- how much is needed to keep everybody busy

    def _wanted(self) -> int:
        if self._buffersize is not None:
            return self._buffersize
        slots = max(1, self._slots())
        last = self._window[-1] if self._window else None
        estimate_s = last.function.estimate_s if isinstance(last, CallFuture) else None
        calls = LEAST_PER_SLOT * slots
        if estimate_s:
            calls = min(max(calls, int(AHEAD_S * slots / estimate_s)), max(calls, MOST_CALLS))
        if self._item_bytes:
            calls = min(calls, int(MOST_BYTES / self._item_bytes))
        return max(calls, 2 * slots)

    def _weigh(self, future: Future[Any], value: Any) -> None:
        """Note how much memory an item takes, as far as it is easily known."""
        if isinstance(future, CallFuture):
            # An array that came as a large result is a view of its memory: `getsizeof` does not count that.
            item_bytes = payload_bytes(future.payload) + max(sys.getsizeof(value, 0), getattr(value, "nbytes", 0))
            self._item_bytes = item_bytes if not self._item_bytes else (self._item_bytes + item_bytes) / 2


class Feeds:
    """The maps of one executor that have not submitted everything yet."""

    def __init__(self) -> None:
        self._open: set[Feed] = set()

    def start(
        self,
        submit: Callable[..., Future[Any]],
        iterables: tuple[Iterable[Any], ...],
        slots: Callable[[], int],
        buffersize: int | None,
        timeout_s: float | None,
    ) -> Iterator[Any]:
        """Submit the first calls of a map, and return its results."""
        end_s = None if timeout_s is None else timeout_s + time.monotonic()
        feed = Feed(submit, zip(*iterables, strict=False), slots, buffersize, self._open.discard)
        self._open.add(feed)
        feed.fill()
        results = _results(feed, end_s)
        # A generator that was never started runs nothing when it is dropped. Its results are not wanted, its calls are.
        weakref.finalize(results, feed.drain).atexit = False
        return results

    def drain(self) -> None:
        """Submit what is left of all of them, as the standard library would have done before."""
        for feed in list(self._open):
            feed.drain()

    def cancel(self) -> None:
        """Drop what is left of all of them; whoever asks for its results is told that it was cancelled."""
        for feed in list(self._open):
            feed.cancel(CancelledError())


def _results(feed: Feed, end_s: float | None) -> Iterator[Any]:
    try:
        while feed.has_next():
            yield feed.result(end_s)
    finally:
        feed.cancel()
