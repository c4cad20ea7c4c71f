"""Calls that run at once in one context process, in threads, with what its set-up has made. Standard library only.

What is sent is begun at once: how many run beside each other is the manager's choice. Results are told in the order in
which calls end, with their numbers. Guarantees: the shared words name the oldest call that runs; the process does not
end in order before all have.

Each call is measured as well as can be said: its wall time is exact. Of processor time and the like it is told what its
own thread used, which is too little if it has others work for it; memory belongs to all of them.
"""

from __future__ import annotations

import time
from _queue import SimpleQueue
from _thread import get_ident
from collections.abc import Callable
from resource import RUSAGE_THREAD, getrusage
from time import monotonic_ns
from typing import Any

from envpack_executor.process.functions import Function
from envpack_executor.process.outcomes import Outcome, run
from envpack_executor.process.output import numbers

_QUALITY = "lower bound; wall_s: exact"
Tell = Callable[[Function, int, Outcome, dict[str, Any]], None]


class Threads:
    """Runs calls in threads that are kept for the next ones.

    Args:
        progress: the words that are shared with the host.
        tell: takes function, number, outcome and figures of a call that has ended; called in its thread.
    """

    def __init__(self, progress: memoryview, tell: Tell) -> None:
        # Imported in the main thread, or Python would take the first thread that needs it for the main one.
        import threading

        self._threading = threading
        self._progress = progress
        self._tell = tell
        self._jobs: SimpleQueue[tuple[Function, bytes, int]] = SimpleQueue()
        self._changed = threading.Condition()
        self._running: dict[int, int] = {}
        self._threads = 0

    def begin(self, function: Function, payload: bytes, number: int) -> None:
        """Begin a call in a thread of its own."""
        with self._changed:
            self._running[number] = monotonic_ns()
            self._name_oldest()
            needs_another = len(self._running) > self._threads
            self._threads += needs_another
        self._jobs.put((function, payload, number))
        if needs_another:
            name = f"envpack-call-{self._threads}"
            self._threading.Thread(target=self._serve, name=name, daemon=True).start()

    def join(self) -> None:
        """Wait until nothing runs."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running)

    def _serve(self) -> None:
        while True:
            self._run(*self._jobs.get())

    def _run(self, function: Function, payload: bytes, number: int) -> None:
        started_at, started_ns, before = time.time(), monotonic_ns(), getrusage(RUSAGE_THREAD)
        numbers[get_ident()] = number
        outcome = run(function, payload)
        del numbers[get_ident()]
        wall_s, after = (monotonic_ns() - started_ns) / 1e9, getrusage(RUSAGE_THREAD)
        figures = {
            "started_at": started_at,
            "wall_s": wall_s,
            "cpu_user_s": after[0] - before[0],
            "cpu_system_s": after[1] - before[1],
            "minor_faults": after[6] - before[6],
            "major_faults": after[7] - before[7],
            "voluntary_switches": after[14] - before[14],
            "involuntary_switches": after[15] - before[15],
            "quality": _QUALITY,
        }
        try:
            self._tell(function, number, outcome, figures)
        finally:
            with self._changed:
                del self._running[number]
                self._name_oldest()
                self._changed.notify_all()

    def _name_oldest(self) -> None:
        """Say in the words which call has run longest."""
        number, started_ns = next(iter(self._running.items()), (None, 0))
        if number is not None:
            self._progress[0] = number
        self._progress[1] = started_ns
