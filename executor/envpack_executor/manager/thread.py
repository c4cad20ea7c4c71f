"""A thread that sleeps in a selector until somebody has something for it.

    any thread ──call_soon, ask──▶ jobs ──▶ wakes it, if it sleeps ──▶ it runs them, in order

Guarantees: it never polls; a job that was handed over is run as long as the thread has not ended; who asks gets an
answer, or is told that there is none.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

# How long whoever asks waits for an answer.
ANSWER_WITHIN_S = 10.0

T = TypeVar("T")


class SelectorThread:
    """The thread, and how others speak to it; `_run` is its heir's, which sets `_is_asleep` around `select`.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self.selector = selectors.DefaultSelector()
        self._jobs: deque[Callable[[], None]] = deque()
        self._wake_descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_asleep = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait until it has ended and nothing of it is left."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def call_soon(self, job: Callable[[], None]) -> None:
        """Run `job` in the thread."""
        self._jobs.append(job)
        # First append, then look: the thread says that it sleeps first and looks then, so one of both sees the other.
        if self._is_asleep:
            self._wake()

    def ask(self, question: Callable[[], T]) -> T:
        """Return, in any thread, what a function says in this one; in the caller's when this one has ended.

        Raises:
            TimeoutError: it does not answer: a callback of the user holds it up.
        """
        if not self._thread.is_alive() or threading.current_thread() is self._thread:
            return question()
        answer: Future[T] = Future()

        def tell() -> None:
            try:
                answer.set_result(question())
            except Exception as error:
                answer.set_exception(error)

        self.call_soon(tell)
        try:
            return answer.result(ANSWER_WITHIN_S)
        except TimeoutError:
            if self._thread.is_alive():
                raise
            return question()  # it has ended meanwhile

    def _run(self) -> None:
        raise NotImplementedError

    def _listen_for_wake(self) -> None:
        self.selector.register(self._wake_descriptor, selectors.EVENT_READ, self._on_wake)

    def _wake(self) -> None:
        self._is_asleep = False
        os.eventfd_write(self._wake_descriptor, 1)

    def _on_wake(self, mask: int) -> None:
        os.eventfd_read(self._wake_descriptor)

    def _free(self) -> None:
        self.selector.close()
        os.close(self._wake_descriptor)
