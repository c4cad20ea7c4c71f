"""One thread that does, in order, what a loop must not wait for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class BackgroundThread:
    """Runs jobs one after another in a thread of its own.

    The thread is started at once: while the interpreter ends, Python 3.12 and later start none, and calls that were
    accepted before must still be run. A job must not raise: what it has to say, failure or not, it says by posting an
    event.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def run(self, job: Callable[[], None]) -> None:
        """Queue a job; after `close` it is dropped."""
        self._jobs.put(job)

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._is_closed = True
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not self._is_closed:
                job()
