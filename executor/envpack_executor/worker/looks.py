"""When the host looks at what its context processes keep in memory, so that the manager knows what to evict.

    READY, RESULTS ──note──▶ due ──tick──▶ between calls? ──yes──▶ thread: PSS of the tree ──emit──▶ MemoryKept
                               ▲                └──no──▶ again, ever later; then after its next results
                               └── a second later at the earliest, and 1 % of the time at most

The kernel goes through all pages of a process for this (about 15 ms for each GB), so another thread asks it, and never
on the way of a result.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from envpack_executor.background import BackgroundThread
from envpack_executor.messages import ProcessId
from envpack_executor.worker import events
from envpack_executor.worker.watch import tree_kept_bytes

if TYPE_CHECKING:
    from envpack_executor.worker.context_process import ContextProcess

LOOK_EVERY_S = 1.0
# Looks take this share of the time of a processor at most, for each process.
LOOK_SHARE = 0.01
# Results come a moment before the process says that it is between calls; on a machine that has much to do, that may be
# a long one, and no other results may follow.
SETTLES_WITHIN_S = 0.02


class Looks:
    """Looks at the memory of the context processes of one host.

    Args:
        call_soon: runs a function in the loop's thread, from any thread.
        emit: takes the events that follow.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], None], emit: Callable[[events.Event], None]) -> None:
        self._call_soon = call_soon
        self._emit = emit
        self._thread: BackgroundThread | None = None
        # When, who, and after how much longer again where that is too early.
        self._due: dict[ProcessId, tuple[float, ContextProcess, float]] = {}
        self._not_before_s: dict[ProcessId, float] = {}
        self.next_s: float | None = None

    def note(self, process: ContextProcess) -> None:
        """Look at a process that has become ready or has sent results, when its time has come."""
        if process.process in self._due:
            return
        at_s = max(time.monotonic() + SETTLES_WITHIN_S, self._not_before_s.get(process.process, 0.0))
        self._due[process.process] = at_s, process, 2 * SETTLES_WITHIN_S
        self.next_s = at_s if self.next_s is None else min(at_s, self.next_s)

    def forget(self, process: ProcessId) -> None:
        """Forget a process that has ended."""
        self._not_before_s.pop(process, None)
        if self._due.pop(process, None) is not None:
            self._find_next()

    def tick(self, now_s: float) -> None:
        """Look at what is due."""
        if self.next_s is None or now_s < self.next_s:
            return
        for process_id, (at_s, process, patience_s) in list(self._due.items()):
            if at_s > now_s:
                continue
            if process.running_call >= 0 and patience_s < LOOK_EVERY_S:
                self._due[process_id] = now_s + patience_s, process, 2 * patience_s
                continue
            del self._due[process_id]
            self._not_before_s[process_id] = now_s + LOOK_EVERY_S
            if process.running_call < 0:
                self._look(process_id, process.popen.pid)
        self._find_next()

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.close()

    def _look(self, process: ProcessId, pid: int) -> None:
        if self._thread is None:
            try:
                self._thread = BackgroundThread("envpack-looker")
            except RuntimeError:
                return  # while the interpreter ends it starts no threads, and nobody will ask what a process keeps
        self._thread.run(functools.partial(self._measure, process, pid))

    def _measure(self, process: ProcessId, pid: int) -> None:
        began_s = time.monotonic()
        kept_bytes = tree_kept_bytes(pid)
        took_s = time.monotonic() - began_s
        self._call_soon(functools.partial(self._tell, process, kept_bytes, took_s))

    def _tell(self, process: ProcessId, kept_bytes: int, took_s: float) -> None:
        if process in self._not_before_s and kept_bytes:
            self._not_before_s[process] += took_s / LOOK_SHARE
            self._emit(events.MemoryKept(process, kept_bytes))

    def _find_next(self) -> None:
        self.next_s = min((at_s for at_s, _, _ in self._due.values()), default=None)
