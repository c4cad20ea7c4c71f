"""Processes that have had nothing to do for too long leave, where the executor was told how long that is. Pure.

Each has one alarm, which looks at how long it has been idle: work itself sets none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from envpack_executor.manager.alarms import Alarms
from envpack_executor.manager.events import Instruction
from envpack_executor.manager.state import ManagerState, ProcessRecord


class Idling:
    """Watches the idle processes of one executor.

    Args:
        state: what the manager knows.
        alarms: of the reactor.
        end: ends an idle process.
    """

    def __init__(
        self, state: ManagerState, alarms: Alarms, end: Callable[[ProcessRecord, list[Instruction]], None]
    ) -> None:
        self._state = state
        self._alarms = alarms
        self._end = end

    def begins(self, process: ProcessRecord) -> None:
        """The process is ready."""
        process.idle_since_s = self._state.now_s
        if self._state.idle_timeout_s is not None:
            self._look_at(process, self._state.now_s + self._state.idle_timeout_s)

    def is_over(self, process: ProcessRecord) -> None:
        """The process is gone, or being ended."""
        self._alarms.drop(("idle", process.process))

    def _look_at(self, process: ProcessRecord, at_s: float) -> None:
        self._alarms.set(("idle", process.process), at_s, functools.partial(self._look, process))

    def _look(self, process: ProcessRecord, todo: list[Instruction]) -> None:
        assert self._state.idle_timeout_s is not None
        now_s = self._state.now_s
        leaves_s = (process.idle_since_s if process.is_idle else now_s) + self._state.idle_timeout_s
        if leaves_s <= now_s:
            self._end(process, todo)
        else:
            self._look_at(process, leaves_s)
