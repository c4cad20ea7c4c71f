"""Which processes sit on calls that others could run: the part of the manager's reactor that takes them back. Pure.

Calls are sent ahead by how long the last ones took. One that takes long keeps those behind it from all others. So when
a process has given no result for `STALL_S`, its queue is empty, and its context could run more at once, it is asked for
the calls that it has not begun.
"""

from __future__ import annotations

from collections.abc import Callable

from envpack_executor.manager.alarms import Alarms
from envpack_executor.manager.events import Instruction
from envpack_executor.manager.state import ManagerState, Phase, ProcessRecord

STALL_S = 0.01
_KEY = "stalls"


class Stalls:
    """Looks, while some process has more than one call, whether it goes on.

    Args:
        state: what the manager knows.
        alarms: of the reactor.
        ask_back: asks a process for its calls.
    """

    def __init__(
        self, state: ManagerState, alarms: Alarms, ask_back: Callable[[ProcessRecord, list[Instruction]], None]
    ) -> None:
        self._state = state
        self._alarms = alarms
        self._ask_back = ask_back
        self.deep: set[ProcessRecord] = set()
        """Processes that may have more than one call: whoever sends them puts them in here."""

    def watch(self) -> None:
        """Look in a while whether those that have more than one call have gone on."""
        if _KEY in self._alarms:
            return
        self.deep = {process for process in self.deep if self._is_deep(process)}
        if not self.deep:
            return
        seen = {process: process.first for process in self.deep}
        self._alarms.set(_KEY, self._state.now_s + STALL_S, lambda todo: self._look(seen, todo))

    def _look(self, seen: dict[ProcessRecord, int], todo: list[Instruction]) -> None:
        has_gone_on = False
        for process, first in seen.items():
            if not self._is_deep(process):
                continue
            if process.first != first:
                has_gone_on = True
            elif not process.context.queue and self._has_room_beside(process):
                self._ask_back(process, todo)
        # Where nothing goes on, whatever may change that is an event, and after it there will be another look.
        if has_gone_on:
            self.watch()

    def _is_deep(self, process: ProcessRecord) -> bool:
        return (
            len(process.outstanding) > 1
            and process.phase is Phase.READY
            and not process.is_recalled
            and process.process in self._state.processes
        )

    def _has_room_beside(self, process: ProcessRecord) -> bool:
        return any(each.is_idle for each in process.context.processes.values()) or any(
            node.busy < node.slots for node in self._state.nodes.values()
        )
