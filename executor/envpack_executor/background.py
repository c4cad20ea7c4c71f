"""One thread that does, in order, what a loop must not wait for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class BackgroundThread:
    """Runs jobs one after another in a thread that is started by the first of them.

    A job must not raise: what it has to say, a failure too, it says by posting an event.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def run(self, job: Callable[[], None]) -> None:
        """Queue a job; after `close` it is dropped."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._is_closed = True
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not self._is_closed:
                job()
