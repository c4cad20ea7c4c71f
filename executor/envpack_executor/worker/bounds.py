"""Ends calls that run in a context process itself for longer, or with more memory, than they may.

    frames with bounded calls ──expect──▶ look after the shortest of their limits
    look: the shared words name the call, its deadline, its memory ──too much──▶ kill the process, tell which call
                                                        ──else──▶ look again, until all are over

The process writes the words before such a call and clears them after it. So nobody looks in between for nothing, and a
time limit is met exactly: a call that began after the last look is seen at the next, before its deadline. Calls in
children are none of this: their parent, which only waits for them, ends them (`process.waiting`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envpack_executor.messages import ProcessId
from envpack_executor.worker.watch import tree_bytes

if TYPE_CHECKING:
    from envpack_executor.worker.context_process import ContextProcess, Words

Kill = Callable[["ContextProcess", "Words", str, int], None]


@dataclass(slots=True)
class _Watched:
    """A process that has been sent bounded calls: when to look at it, how often, until which number they go."""

    process: ContextProcess
    at_s: float
    every_s: float
    until: int


class Bounds:
    """Watches the bounded calls of one host.

    Args:
        kill: ends a process for the call that these words name, because of `timeout`, `wall` or `memory`, with the
            bytes that it had in memory where that is the reason, else 0.
    """

    def __init__(self, kill: Kill) -> None:
        self._kill = kill
        self._watched: dict[ProcessId, _Watched] = {}
        self.next_s: float | None = None

    def expect(self, process: ContextProcess, look_s: float, until: int) -> None:
        """Watch a process that was sent calls with numbers below `until`; the first limit is over after `look_s`."""
        at_s = time.monotonic() + look_s
        known = self._watched.get(process.process)
        if known is None:
            self._watched[process.process] = _Watched(process, at_s, look_s, until)
        else:
            known.at_s, known.every_s, known.until = min(known.at_s, at_s), min(known.every_s, look_s), until
        self.next_s = at_s if self.next_s is None else min(self.next_s, at_s)

    def returned(self, process: ProcessId, first: int) -> None:
        """Note that calls from number `first` on will not be begun."""
        if (watched := self._watched.get(process)) is not None:
            watched.until = min(watched.until, first)

    def forget(self, process: ProcessId) -> None:
        """Forget a process that has ended."""
        if self._watched.pop(process, None) is not None:
            self._find_next()

    def tick(self, now_s: float) -> None:
        """Look at what is due."""
        if self.next_s is None or now_s < self.next_s:
            return
        for watched in list(self._watched.values()):
            if watched.at_s <= now_s:
                self._look(watched, now_s)
        self._find_next()

    def _look(self, watched: _Watched, now_s: float) -> None:
        process = watched.process
        words = process.words()
        if not words.started_ns and words.begun >= watched.until:
            del self._watched[process.process]
            return
        watched.at_s = now_s + watched.every_s
        now_ns = time.monotonic_ns()
        if words.deadline_ns and now_ns < words.deadline_ns:
            watched.at_s = min(watched.at_s, now_s + (words.deadline_ns - now_ns) / 1e9)
        reason, memory_bytes = "", 0
        if words.deadline_ns and now_ns >= words.deadline_ns:
            reason = "wall" if words.is_wall else "timeout"
        elif words.memory_bytes:
            memory_bytes = tree_bytes(process.popen.pid)
            reason = "memory" if memory_bytes > words.memory_bytes else ""
        # The words again: the call may just have ended by itself.
        if reason and process.words() == words:
            self._kill(process, words, reason, memory_bytes)

    def _find_next(self) -> None:
        self.next_s = min((watched.at_s for watched in self._watched.values()), default=None)
