"""`HistoryWriter`: takes usages off the path of calls and writes them in batches.

```
 calling threads ──put──▶ queue (bounded) ──▶ one daemon thread ──one transaction per batch──▶ History
```

Guarantees: `flush` and `close` return when everything that was put before is in the file; the end of the interpreter
closes. A process that is killed loses at most what it had queued: 0.1 s of calls. When the queue is full, `put` waits.
A forked child begins with an empty queue and, when it first needs one, a thread of its own.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from envpack_monitor.calls.bracket import Bracket
from envpack_monitor.calls.counters import Background, settle
from envpack_monitor.calls.sums import CallSums
from envpack_monitor.errors import HistoryError
from envpack_monitor.history.history import History
from envpack_monitor.history.rows import Row, to_row
from envpack_monitor.history.thinning import Thinner
from envpack_monitor.settings import history_rows_per_s
from envpack_monitor.usage import Usage

QUEUE_BOUND = 100_000
BATCH_BOUND = 5_000
LINGER_S = 0.1
DEADLINE_S = 120.0
SUMS_S = 1.0

_log = logging.getLogger(__name__)
_writers: weakref.WeakSet[HistoryWriter] = weakref.WeakSet()


class _Ended(tuple[Bracket, str, Mapping[str, float]]):
    """A call that has ended: its bracket, category and features. A tuple, because nothing is made faster."""

    __slots__ = ()

    def row(self) -> dict[str, Any]:
        bracket, category, features = self
        return {**bracket.figures(), "category": category, "features": features}


_Item = Usage | Mapping[str, Any] | _Ended | threading.Event


class HistoryWriter:
    """Writes usages to a history from a background thread.

    Args:
        history: where to.
        bound: how many usages may wait; more make `put` wait.
        linger_s: seconds to collect a batch after its first usage.
        rows_per_s: above so many a second, calls are written as a sample and exact aggregates (see
            `envpack_monitor.history.thinning`); 0 for one row per call always, that of the settings by default.
    """

    def __init__(
        self,
        history: History,
        *,
        bound: int = QUEUE_BOUND,
        linger_s: float = LINGER_S,
        rows_per_s: float | None = None,
    ) -> None:
        self.history = history
        self.rows_per_s = (history_rows_per_s() if rows_per_s is None else rows_per_s) or None
        self._thinner = Thinner(self.rows_per_s)
        self.lost = 0
        self._bound = bound
        self._linger_s = linger_s
        self._closed = False
        self._thread: threading.Thread | None = None
        self._error: HistoryError | None = None
        self._finalizer: Any = None
        self._collected_at = 0.0
        self._begin()
        _writers.add(self)

    def put(self, usage: Usage | Mapping[str, Any]) -> None:
        """Queue one usage; costs about a microsecond. After `close` it is written at once instead.

        Args:
            usage: a usage, or the fields of one as `Bracket.stop` returns them.
        """
        self._put(usage)

    def _put(self, item: _Item) -> None:
        if len(self._queue) >= self._bound:
            self._wait_for_room()
        self._queue.append(item)
        # First append, then look: the thread looks in the opposite order, so that none is forgotten.
        if not self._is_awake:
            self._wake_thread()

    def put_ended(self, bracket: Bracket, category: str, features: Mapping[str, float]) -> None:
        """Queue a call by its bracket, which has ended; what its figures are is worked out by the writing thread."""
        self._put(_Ended((bracket, category, features)))

    def watch(self, sums: CallSums) -> None:
        """Take the sums of calls within `SUMS_S`, or when somebody flushes. After `close` they are taken at once."""
        sums.is_watched = True
        self._sources.append(sums)
        if self._closed:
            self._collect()
            self._write(self._take_batch())
        elif not self._is_awake:
            self._wake_thread()

    def flush(self) -> None:
        """Return when everything that was put before is in the file.

        Raises:
            HistoryError: something could not be written since the last call; `lost` counts how many.
        """
        if self._thread is not None:
            written = threading.Event()
            self._queue.append(written)
            self._hurry.set()
            self._wake.set()
            self._await(written, self._thread)
        if (error := self._error) is not None:
            self._error = None
            raise error

    def close(self) -> None:
        """Flush, end the thread and close the file.

        Raises:
            HistoryError: as `flush`.
        """
        if self._closed:
            return
        try:
            self.flush()
        finally:
            self._closed = True
            self._hurry.set()
            self._wake.set()
            if self._thread is not None:
                self._thread.join(DEADLINE_S)
                self._thread = None
            self._forget_exit()
            self.history.close()

    def __enter__(self) -> HistoryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        self._queue: deque[_Item] = deque()
        self._sources: list[CallSums] = []
        self._wake, self._hurry, self._room = threading.Event(), threading.Event(), threading.Event()
        self._start_lock = threading.Lock()
        self._thread = None
        self._error = None
        self._finalizer = None
        self._is_awake = False

    def _begin_in_child(self) -> None:
        # The lock of the parent's history may be held by a thread that does not exist here.
        self.history = History(self.history.path)
        self._begin()

    def _await(self, written: threading.Event, thread: threading.Thread) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not written.wait(1.0):
            if not thread.is_alive() or time.monotonic() > deadline:
                raise HistoryError(f"history {self.history.path}: {len(self._queue)} calls were not written in time")

    def _wake_thread(self) -> None:
        if self._closed:
            self._write([self._queue.popleft()])
            return
        self._is_awake = True
        with self._start_lock:
            if self._thread is None and not self._start():
                self._is_awake = False
                self._collect()
                self._write(self._take_batch())
                return
        self._wake.set()

    def _start(self) -> bool:
        """Start the thread; return False where none can be: the interpreter is ending, or it is an isolated one."""
        try:
            thread = threading.Thread(target=self._work, name="envpack-history", daemon=True)
            thread.start()
        except RuntimeError:
            return False
        self._thread = thread
        self._close_when_process_ends()
        # Now, between two calls: by the thread it would be loaded during one, whose peak would have its two megabytes.
        import sqlite3  # noqa: F401

        return True

    def _close_when_process_ends(self) -> None:
        atexit.register(self._close_at_exit)
        if (util := sys.modules.get("multiprocessing.util")) is not None:
            # Children of multiprocessing leave without the interpreter's own exit handlers.
            self._finalizer = util.Finalize(None, self._close_at_exit, exitpriority=0)

    def _forget_exit(self) -> None:
        atexit.unregister(self._close_at_exit)
        if self._finalizer is not None:
            self._finalizer.cancel()

    def _close_at_exit(self) -> None:
        try:
            self.close()
        except HistoryError as error:
            _log.error("%s; %d calls are not in the history", error, self.lost)

    def _wait_for_room(self) -> None:
        while len(self._queue) >= self._bound:
            self._room.clear()
            self._hurry.set()
            self._wake_thread()
            self._room.wait(self._linger_s)

    def _work(self) -> None:
        while not self._closed or self._queue or self._sources:
            self._wake.wait(SUMS_S if self._sources else None)
            self._hurry.wait(self._linger_s)
            self._hurry.clear()
            self._is_awake = False
            self._wake.clear()
            with Background():
                if time.monotonic() - self._collected_at >= SUMS_S:
                    self._collect()
                while batch := self._take_batch():
                    self._write(batch)
                    self._room.set()

    def _collect(self) -> None:
        """Put the sums of calls into the queue."""
        self._collected_at = time.monotonic()
        self._queue.extend(self._sums())

    def _sums(self) -> list[Row]:
        # Others append meanwhile: what is taken out is exactly what was seen.
        sources = self._sources[:]
        del self._sources[: len(sources)]
        return [row for sums in sources for row in sums.take()]

    def _take_batch(self) -> list[_Item]:
        batch: list[_Item] = []
        while self._queue and len(batch) < BATCH_BOUND:
            batch.append(self._queue.popleft())
        return batch

    def _write(self, batch: list[_Item]) -> None:
        settle()
        if any(isinstance(item, threading.Event) for item in batch):
            # Somebody waits for all that was there when the event was put, and sums were.
            batch = [*self._sums(), *batch]
        rows = [
            item.row() if isinstance(item, _Ended) else item for item in batch if not isinstance(item, threading.Event)
        ]
        try:
            self.history.add_rows(self._thinner.thin([to_row(row) for row in rows], time.monotonic()))
        except HistoryError as error:
            self.lost += len(rows)
            if self._error is None:
                _log.error("%s; calls are missing from the history", error)
            self._error = error
        for item in batch:
            if isinstance(item, threading.Event):
                item.set()


def _begin_all_in_child() -> None:
    for writer in list(_writers):
        writer._begin_in_child()


os.register_at_fork(after_in_child=_begin_all_in_child)
