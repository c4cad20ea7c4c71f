"""What becomes of calls that were sent, or that nobody wants any more: the part of the manager's reactor about them.

    result ──────────────────────────────────────────────▶ done
    raised, exited, too long ──retries left──▶ queue        otherwise failed, with the story of all tries
    its process lost under it ──tries left──▶ queue         otherwise `ProcessLostError`, with all losses
    its process lost, but another call ran ──▶ queue        nobody else is blamed
    asked back before it began ──▶ queue
    cancelled ──▶ out of the queue; asked back; or its fork child, else its process, is killed ──▶ `CallCancelledError`

Whether a call has begun only its process knows. So a call that is cancelled is asked back first, with all others that
have not begun, and killed only when the answer says that it was too late for that.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

from envpack_executor.errors import CallCancelledError, CallTimeoutError, ProcessExitedError, ProcessLostError
from envpack_executor.manager.events import (
    AskBack,
    CallsCancelled,
    CallsDone,
    CallsFailed,
    CallsRequeued,
    CallsReturned,
    CloseRequested,
    Instruction,
    KillCall,
    ResultsArrived,
)
from envpack_executor.manager.state import Call, ContextRecord, ManagerState, Phase, ProcessRecord
from envpack_executor.messages import CallEnded, ProcessGone
from envpack_monitor.errors import LimitExceeded

# The share of the newest observation in the estimate of a function's duration.
NEWEST_SHARE = 0.3
CANCELLED = "cancelled"
TIMEOUT = "timeout"
# Of `@monitor`: the resource by which a node names it, and the field of `Limits`.
LIMITS = {"wall": "wall_s", "memory": "memory_bytes"}


class CallEnds(ABC):
    """Decides how calls end.

    Args:
        state: what the manager knows; changed by each event.
        claim: tells whether a call is still wanted, just before it is sent; from then on it cannot be cancelled.
        is_cancelled: tells whether a call was cancelled, and changes nothing.
    """

    def __init__(
        self, state: ManagerState, claim: Callable[[Call], bool], is_cancelled: Callable[[Call], bool]
    ) -> None:
        self.state = state
        self._claim = claim
        self._is_cancelled = is_cancelled

    @abstractmethod
    def _release(self, process: ProcessRecord) -> None:
        """Give back the slot of a process that has no calls any more."""

    @abstractmethod
    def _stop(self, process: ProcessRecord, is_kill: bool, todo: list[Instruction]) -> None:
        """End a process."""

    # --- results

    def _results(self, event: ResultsArrived, todo: list[Instruction]) -> None:
        process = self.state.processes.get(event.process)
        if process is None:
            return
        process.is_lent &= not event.outcomes
        outstanding = process.outstanding
        outcomes = event.outcomes
        if process.context.is_threaded:
            calls = _take_numbered(process, event.numbers)
        else:
            calls = [outstanding.popleft() for _ in outcomes]
        process.since_s = self.state.now_s
        for number, duration_s in event.durations:
            _update_estimate(calls, number, duration_s)
        if calls and not outstanding:
            self._release(process)
            if process.context.is_fresh or process.node.is_draining:
                self._stop(process, False, todo)
            elif process.is_recalled:
                _recover(process)
        if event.irregular:
            calls, outcomes = self._sift(process, calls, event, todo)
        self._end(calls)
        todo.append(CallsDone(calls, outcomes))

    def _sift(
        self, process: ProcessRecord, calls: list[Call], event: ResultsArrived, todo: list[Instruction]
    ) -> tuple[list[Call], list[object]]:
        """Return the calls that have their end with these outcomes; the others wait again, or fail."""
        apart = set()
        again = []
        for index, kind, detail in event.irregular:
            call = calls[index]
            if kind == "raised" and self._may_retry(call):
                apart.add(index)
                self._note_failure(process, call, str(detail), todo)
                again.append(call)
            elif kind == "lost":
                apart.add(index)
                again += self._lost_alone(process, call, *detail, todo=todo)
        self._requeue(process.context, again)
        ended = [index for index in range(len(calls)) if index not in apart]
        return [calls[index] for index in ended], [event.outcomes[index] for index in ended]

    def _lost_alone(
        self,
        process: ProcessRecord,
        call: Call,
        exit_status: int,
        reason: str,
        ran_s: float,
        *,
        todo: list[Instruction],
    ) -> list[Call]:
        """Return the call if it must be run again whose fork child has ended without an outcome."""
        if reason:
            return self._killed(process, call, reason, ran_s, todo)
        if call.is_unwanted:
            self._cancelled(call, ran_s, todo)
            return []
        return self._ended(process, call, exit_status, todo)

    def _ended(
        self, process: ProcessRecord, call: Call, exit_status: int | None, todo: list[Instruction]
    ) -> list[Call]:
        """Return the call if it must be run again that has ended the process in which it ran."""
        if exit_status is not None and exit_status >= 0:
            return self._failed(process, call, ProcessExitedError(call.function.name, exit_status), todo)
        return self._blame(call, f"{ending(exit_status)} on {process.node.name}", process, todo)

    def _killed(
        self, process: ProcessRecord, call: Call, reason: str, ran_s: float, todo: list[Instruction]
    ) -> list[Call]:
        """Return the call if it must be run again that its node has killed, for this reason."""
        if reason == CANCELLED or call.is_unwanted:
            self._cancelled(call, ran_s, todo)
            return []
        if reason == TIMEOUT:
            function = call.function
            return self._failed(process, call, CallTimeoutError(function.name, function.options.timeout_s, ran_s), todo)
        if reason in LIMITS:
            self._fail([call], _excess(process, call, reason, ran_s), todo)
            return []
        return self._blame(call, f"killed on {process.node.name}: {reason}", process, todo)

    # --- another try, or none

    def _may_retry(self, call: Call) -> bool:
        retries = call.function.options.retries
        if not retries or call.is_unwanted:
            return False
        return call.troubles is None or len(call.troubles.failures) < retries

    def _failed(self, process: ProcessRecord, call: Call, error: BaseException, todo: list[Instruction]) -> list[Call]:
        """Return the call if it may be run again; otherwise it ends with this error."""
        if self._may_retry(call):
            self._note_failure(process, call, f"{type(error).__name__}: {error}", todo)
            return [call]
        self._fail([call], error, todo)
        return []

    def _note_failure(self, process: ProcessRecord, call: Call, how: str, todo: list[Instruction]) -> None:
        where = f"on {process.node.name}, pid {process.pid}" if process.pid else f"on {process.node.name}"
        call.met().failures += (f"{how} ({where})",)
        todo.append(CallsRequeued([call], process.process, "retried", how))

    def _blame(self, call: Call, loss: str, process: ProcessRecord, todo: list[Instruction]) -> list[Call]:
        """Note a loss; return the call if it may be run again."""
        call.losses += (loss,)
        if call.is_unwanted:
            self._cancelled(call, 0.0, todo)
            return []
        if len(call.losses) >= self.state.max_tries:
            self._fail([call], ProcessLostError(call.function.name, call.losses), todo)
            return []
        todo.append(CallsRequeued([call], process.process, "lost", loss))
        return [call]

    def _cancelled(self, call: Call, ran_s: float, todo: list[Instruction]) -> None:
        self._fail([call], CallCancelledError(call.function.name, ran_s), todo)

    # --- losses

    def _lost(self, process: ProcessRecord, event: ProcessGone, todo: list[Instruction]) -> None:
        """Blame the call that ran; the others, finished or not, did nothing wrong and are run again.

        Between calls the next one is blamed: it may be its function that no process survives to load. Were nobody
        blamed, such a call would be tried for ever. Where the node has killed the process for one of its calls, only
        that one is meant, and if its result came before, nobody.
        """
        calls = list(process.outstanding)
        if process.is_doomed:
            killed = [call for call in calls if call.troubles is not None and call.troubles.killed_for]
            self._put_back(process, calls, todo, killed, lambda call: self._end_killed(process, call, todo))
            return
        if process.context.is_threaded:
            # Nobody knows which of those that ran side by side it was.
            loss = f"{ending(event.exit_status)} on {process.node.name}"
            self._put_back(process, calls, todo, calls, lambda call: self._blame(call, loss, process, todo))
            return
        index = event.running_call - process.first
        if event.last_words and calls:
            calls[index if 0 <= index < len(calls) else 0].met().last_words = event.last_words
        if event.running_call >= 0 and 0 <= index < len(calls):
            self._put_back(
                process, calls, todo, [calls[index]], lambda call: self._ended(process, call, event.exit_status, todo)
            )
        else:
            loss = f"{ending(event.exit_status)} on {process.node.name}"
            self._put_back(process, calls, todo, calls[:1], lambda call: self._blame(call, loss, process, todo))

    def _lost_with_node(self, process: ProcessRecord, reason: str, is_blameless: bool, todo: list[Instruction]) -> None:
        """Blame the first of its calls: it was running, or about to; the others only stood behind it."""
        loss = f"node {process.node.name} lost: {reason}"
        calls = list(process.outstanding)
        culprits = [] if is_blameless else calls[:1]
        self._put_back(process, calls, todo, culprits, lambda call: self._blame(call, loss, process, todo))

    def _end_killed(self, process: ProcessRecord, call: Call, todo: list[Instruction]) -> list[Call]:
        troubles = call.met()
        reason, troubles.killed_for = troubles.killed_for, ""
        return self._killed(process, call, reason, troubles.ran_s, todo)

    def _put_back(
        self,
        process: ProcessRecord,
        calls: list[Call],
        todo: list[Instruction],
        culprits: list[Call] | None = None,
        judge: Callable[[Call], list[Call]] = lambda call: [call],
        kind: str = "lost",
    ) -> None:
        """Let calls wait again that have left their process; those that nobody wants end, and `judge` has culprits.

        Args:
            process: where they were.
            calls: in their order.
            todo: takes what follows.
            culprits: those of them that did something.
            judge: returns a culprit if it must be run again.
            kind: see `CallsRequeued`.
        """
        again, innocent = [], []
        for call in calls:
            if culprits and call in culprits:
                again += judge(call)
            elif call.is_unwanted:
                self._cancelled(call, 0.0, todo)
            else:
                again.append(call)
                innocent.append(call)
        if innocent:
            reason = "the process was lost while another call ran" if kind == "lost" else "another process is free"
            todo.append(CallsRequeued(innocent, process.process, kind, reason))
        self._requeue(process.context, again)

    def _call_ended(self, event: CallEnded) -> None:
        """Note that the node has killed a call, and with it its process unless that has a child for it."""
        process = self.state.processes.get(event.process)
        if process is None:
            return
        index = event.number - process.first
        if 0 <= index < len(process.outstanding):
            call = process.outstanding[index]
            if call.function.options.mode == "fork":
                return  # what has become of it stands in the results
            troubles = call.met()
            troubles.killed_for, troubles.ran_s = event.reason, event.ran_s
            troubles.memory_bytes = event.memory_bytes
        process.is_doomed = process.is_recalled = True

    # --- taking back, and cancelling

    def _ask_back(self, process: ProcessRecord, todo: list[Instruction]) -> None:
        """Ask a process for the calls that it has not begun."""
        if process.is_asked or process.phase is not Phase.READY:
            return
        process.is_asked = process.is_recalled = True
        todo.append(AskBack(process.node.node, process.process, process.sent))

    def _returned(self, event: CallsReturned, todo: list[Instruction]) -> None:
        process = self.state.processes.get(event.process)
        if process is None or not process.is_asked:
            return
        calls = self._take_returned(process, event.first)
        self._put_back(process, calls, todo, kind="returned")
        if process.node.is_draining and process.is_idle:
            self._stop(process, False, todo)
        for index, call in enumerate(process.outstanding):
            if call.is_unwanted:
                self._kill(process, process.first + index, todo)

    def _take_returned(self, process: ProcessRecord, first: int) -> list[Call]:
        """Take from a process the calls that it has given back, in their order."""
        process.is_asked = False
        outstanding = process.outstanding
        count = min(max(0, process.first + len(outstanding) - first), len(outstanding))
        calls = [outstanding.pop() for _ in range(count)]
        process.taken += count
        if calls and not outstanding:
            self._release(process)
        if not outstanding:
            _recover(process)
        return calls[::-1]

    def _cancel(self, call: Call, todo: list[Instruction]) -> None:
        """End a call, wherever it is."""
        for process in call.context.processes.values():
            if call in process.outstanding:
                if process.context.is_threaded:
                    return  # it has begun, and a thread cannot be ended
                call.met().is_unwanted = True
                # What has answered already has given back all that it had not begun.
                has_begun = process.is_recalled and not process.is_asked
                if not process.is_recalled:
                    self._ask_back(process, todo)
                if has_begun or call is process.outstanding[0]:
                    self._kill(process, process.first + process.outstanding.index(call), todo)
                return
        if call in call.context.queue:
            self._unqueue(call)
            if self._claimed(call):
                self._cancelled(call, 0.0, todo)

    def _kill(self, process: ProcessRecord, number: int, todo: list[Instruction]) -> None:
        todo.append(KillCall(process.node.node, process.process, number, CANCELLED))

    def _withdraw(self) -> None:
        """Take cancelled calls out of the queues. Sending skips them anyway, but nobody may ever ask for these."""
        for context in list(self.state.waiting.values()):
            kept = [call for call in context.queue if not self._is_cancelled(call) or self._claimed(call)]
            self._keep(context, kept)

    def _close(self, event: CloseRequested, todo: list[Instruction]) -> None:
        self.state.is_closing = True
        if not event.is_cancelling:
            return
        for context in list(self.state.waiting.values()):
            # A call for which a process is being started counts as begun, as it does in `ProcessPoolExecutor`.
            starting = sum(process.phase is Phase.STARTING for process in context.processes.values())
            begun = {call.number for call in itertools.islice(context.queue, starting)}
            calls = [call for call in context.queue if not call.is_claimed and call.number not in begun]
            self._keep(context, [call for call in context.queue if call.is_claimed or call.number in begun])
            self._end(calls)
            todo.append(CallsCancelled(calls))

    # --- queues

    def _requeue(self, context: ContextRecord, calls: Iterable[Call]) -> None:
        """Put calls back to the front of their queue, in their order."""
        context.queue.extendleft(reversed(list(calls)))
        if context.queue:
            self.state.waiting[context.number] = context

    def _unqueue(self, call: Call) -> None:
        context = call.context
        context.queue.remove(call)
        if not context.queue:
            self.state.waiting.pop(context.number, None)

    def _keep(self, context: ContextRecord, calls: list[Call]) -> None:
        """Let nothing but these calls be in a queue, in their order."""
        context.queue.clear()
        context.queue.extend(calls)
        if not calls:
            del self.state.waiting[context.number]

    def _claimed(self, call: Call) -> bool:
        """Tell whether a queued call is still wanted; one that was cancelled has its end already."""
        if call.is_claimed or self._claim(call):
            call.is_claimed = True
            return True
        self.state.open_calls -= 1
        return False

    def _end(self, calls: list[Call]) -> None:
        self.state.open_calls -= len(calls)

    def _fail(self, calls: list[Call], error: BaseException, todo: list[Instruction]) -> None:
        if calls:
            self._end(calls)
            todo.append(CallsFailed(calls, error))


def _take_numbered(process: ProcessRecord, numbers: Sequence[int]) -> list[Call]:
    """Take calls that were answered out of their order, and give back the slots that they took."""
    calls = []
    for number in numbers:
        index = process.numbers.index(number)
        del process.numbers[index]
        calls.append(process.outstanding[index])
        del process.outstanding[index]
    count_threads(process)
    return calls


def count_threads(process: ProcessRecord) -> None:
    """Let a process whose calls run side by side take a slot for each; one of them it takes in any case."""
    extra_slots = max(0, len(process.outstanding) - 1)
    process.node.busy += extra_slots - process.extra_slots
    process.extra_slots = extra_slots


def _recover(process: ProcessRecord) -> None:
    """Let a process without calls have new ones, unless it must answer first or is dying."""
    process.taken = 0
    process.is_recalled = process.is_asked or process.is_doomed
    if process.is_doomed and process.phase is Phase.READY:
        process.enter(Phase.STOPPING)


def _excess(process: ProcessRecord, call: Call, resource: str, ran_s: float) -> LimitExceeded:
    """Return the error of a call that was killed in its process because it used more than a limit of `@monitor`."""
    used = ran_s if resource == "wall" else call.met().memory_bytes
    function = call.function
    return LimitExceeded(
        resource, getattr(function.limits, LIMITS[resource]), used, function.category, process.pid or None
    )


def _update_estimate(calls: list[Call], number: int, duration_s: float) -> None:
    for call in calls:
        function = call.function
        if function.number == number:
            old = function.estimate_s
            function.estimate_s = duration_s if old is None else old + NEWEST_SHARE * (duration_s - old)
            return


def ending(exit_status: int | None) -> str:
    """Say how a process ended."""
    if exit_status is None:
        return "not started"
    return f"killed by signal {-exit_status}" if exit_status < 0 else f"exited with status {exit_status}"
