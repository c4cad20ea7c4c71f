"""How long a context process may take to become ready, and what is said when it does not. Pure.

ProcessStarted ──alarm──▶ ready in time: nothing      gone: tried again, some times, there or elsewhere (`misfits`)
                   └────▶ not ready: the context has failed, its processes that start are killed
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from envpack_executor.errors import ContextSetupTimeoutError, InitializerTimeoutError, ProcessStartError
from envpack_executor.manager import misfits
from envpack_executor.manager.alarms import Alarms
from envpack_executor.manager.events import Instruction
from envpack_executor.manager.state import ContextRecord, ManagerState, NodeRecord, Phase, ProcessRecord
from envpack_executor.messages import ProcessStarted

Fail = Callable[[ContextRecord, BaseException, list[Instruction]], None]
HasOther = Callable[[ContextRecord, NodeRecord], bool]


class SetUps:
    """Watches the set-ups of one executor.

    Args:
        state: what the manager knows.
        alarms: of the reactor.
        fail: ends what waits for a context, with an error, and kills the processes of it that start.
        has_other: tells whether a context that a node cannot host may be hosted by another one.
    """

    def __init__(self, state: ManagerState, alarms: Alarms, fail: Fail, has_other: HasOther) -> None:
        self._state = state
        self._has_other = has_other
        self._alarms = alarms
        self._fail = fail

    def began(self, event: ProcessStarted) -> None:
        """A process runs: from now on its set-up is timed. What was fetched and unpacked for it before is not."""
        process = self._state.processes.get(event.process)
        if process is None:
            return
        process.pid = event.pid
        if process.phase is Phase.STARTING:
            limit_s = process.context.setup_timeout_s or self._state.setup_timeout_s
            at_s = self._state.now_s + limit_s
            self._alarms.set(_key(process), at_s, functools.partial(self._expired, process, limit_s))

    def is_over(self, process: ProcessRecord) -> None:
        """The process is ready, gone, or being ended."""
        self._alarms.drop(_key(process))

    def lost(
        self, process: ProcessRecord, reason: str, can_retry: bool, last_words: str, todo: list[Instruction]
    ) -> None:
        """A process ended before it was ready: it is tried again, or everybody who waits is told why not.

        Args:
            process: which.
            reason: how it ended.
            can_retry: whether another one may have better luck.
            last_words: the end of what it wrote to stderr.
            todo: what follows.
        """
        context, node = process.context, process.node
        if not misfits.note(node, context, reason, can_retry):
            return
        if self._has_other(context, node):
            context.misfits[node.node] = self._state.now_s + misfits.AGAIN_AFTER_S
            return
        tries = f"after {len(context.failed_starts)} tries" if len(context.failed_starts) > 1 else "at the first try"
        reasons = "; ".join(reason for _, reason in context.failed_starts)
        error = ProcessStartError(f"no process for context {context.name!r} could be started {tries}: {reasons}")
        if last_words:
            error.add_note(f"stderr of the process ended with:\n{last_words}")
        self._fail(context, error, todo)

    def _expired(self, process: ProcessRecord, limit_s: float, todo: list[Instruction]) -> None:
        context, node = process.context, process.node.name
        kind = InitializerTimeoutError if context.stage == "initializer" else ContextSetupTimeoutError
        self._fail(context, kind(context.name, node, limit_s), todo)


def _key(process: ProcessRecord) -> tuple[str, int]:
    return "set-up", process.process
