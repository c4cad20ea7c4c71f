"""The event log: every transition of calls, processes, contexts and nodes as lines of JSON. Pure: events in, text out.

    event ──▶ reactor ──▶ instructions
      └───────────┬──────────┘
             journal ──▶ lines ──▶ `linewriter`

One object a line. All have `time` (seconds since the epoch), `executor` (pid of the client and a number) and `event`:

| `event` | besides |
|---|---|
| `call queued` | `call`, `function`, `category`, `context`, as all events of calls |
| `call sent` | `process`, `node` |
| `call done`, `call failed` | `process` where it ran; `reason` of a failure |
| `call retried`, `call lost`, `call returned` | `process`, `reason`; the call waits again |
| `call cancelled` | `reason` |
| `process starting`, `process started`, `process ready` | `process`, `node`, `context`; `pid` |
| `process asked back`, `process ending`, `process gone` | `process`; `kill`; `exit_status`, `reason` |
| `context prepared`, `context failed` | `context`; `reason` |
| `node joined`, `node draining`, `node lost` | `node`, `name`, `slots`; `reason` |
| `executor closing`, `executor finished` | |

A line is put together from pieces that are the same for many calls: it costs a fraction of what the call costs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from envpack_executor.errors import CallCancelledError
from envpack_executor.manager import events
from envpack_executor.manager.events import Event, Instruction, ResultsArrived
from envpack_executor.manager.state import Call, FunctionRecord, ManagerState
from envpack_executor.messages import ProcessGone, ProcessStarted


class Journal:
    """Writes down what happens in one executor.

    Args:
        executor: names it among all that write to the same file.
        state: what the manager knows; only read.
        clock: the time, in seconds since the epoch.
        put: takes lines.
    """

    def __init__(
        self, executor: str, state: ManagerState, clock: Callable[[], float], put: Callable[[str], None]
    ) -> None:
        self._executor = json.dumps(executor)
        self._state = state
        self._clock = clock
        self._put = put
        self._functions: dict[tuple[FunctionRecord, int], str] = {}

    def note(self, event: Event, instructions: list[Instruction]) -> None:
        """Write down an event and what the reactor made of it."""
        self._note_event(event)
        for instruction in instructions:
            self._note_instruction(event, instruction)

    def calls(self, what: str, calls: Iterable[Call], **fields: Any) -> None:
        """Write down what happened to calls."""
        begin, end = self._ends(what, fields)
        functions = self._functions
        lines = []
        for call in calls:
            key = (call.function, call.context.number)
            about = functions.get(key) or self._about(key)
            lines.append(f'{begin},"call":{call.number}{about}{end}')
        self._put("".join(lines))

    def other(self, what: str, **fields: Any) -> None:
        """Write down what happened to anything else."""
        self._put("".join(self._ends(what, fields)))

    def _ends(self, what: str, fields: dict[str, Any]) -> tuple[str, str]:
        """Return what stands before and after the fields of a call."""
        more = "".join(f',"{name}":{json.dumps(value)}' for name, value in fields.items() if value is not None)
        return f'{{"time":{self._clock():.6f},"executor":{self._executor},"event":"{what}"', f"{more}}}\n"

    def _about(self, key: tuple[FunctionRecord, int]) -> str:
        function, context = key
        words = {"function": function.name, "category": function.category, "context": context}
        about = self._functions[key] = "," + json.dumps(words, separators=(",", ":"))[1:-1]
        return about

    def _note_event(self, event: Event) -> None:
        match event:
            case events.CallsQueued():
                self.calls("call queued", event.calls)
            case events.CallSentAhead():
                self.calls("call queued", [event.call])
                for process in event.call.context.processes.values():
                    if event.call in process.outstanding:
                        self.calls("call sent", [event.call], process=process.process, node=process.node.node)
            case ProcessStarted():
                self.other("process started", process=event.process, pid=event.pid)
            case events.ProcessReady():
                self.other("process ready", process=event.process)
            case ProcessGone():
                reason = event.reason or None
                self.other("process gone", process=event.process, exit_status=event.exit_status, reason=reason)
            case events.ContextPrepared():
                self.other("context prepared", context=event.context)
            case events.ContextFailed():
                self.other("context failed", context=event.context, reason=_told(event.error))
            case events.NodeJoined():
                self.other("node joined", node=event.node, name=event.name, slots=event.slots)
            case events.NodeDraining():
                self.other("node draining", node=event.node, reason=event.reason)
            case events.NodeLost():
                self.other("node lost", node=event.node, reason=event.reason)
            case events.CloseRequested():
                self.other("executor closing")

    def _note_instruction(self, event: Event, instruction: Instruction) -> None:
        match instruction:
            case events.SendCalls():
                self.calls("call sent", instruction.calls, process=instruction.process, node=instruction.node)
            case events.CallsDone():
                self._note_done(event, instruction)
            case events.CallsRequeued():
                what = f"call {instruction.kind}"
                self.calls(what, instruction.calls, process=instruction.process, reason=instruction.reason)
            case events.CallsFailed():
                what = "call cancelled" if isinstance(instruction.error, CallCancelledError) else "call failed"
                self.calls(what, instruction.calls, reason=_told(instruction.error))
            case events.CallsCancelled():
                self.calls("call cancelled", instruction.calls, reason="the executor closes")
            case events.StartContext():
                context = self._state.processes[instruction.process].context.number
                self.other("process starting", process=instruction.process, node=instruction.node, context=context)
            case events.AskBack():
                self.other("process asked back", process=instruction.process)
            case events.EndProcess():
                self.other("process ending", process=instruction.process, kill=instruction.is_kill)
            case events.Finish():
                self.other("executor finished")

    def _note_done(self, event: Event, done: events.CallsDone) -> None:
        process = event.process if isinstance(event, ResultsArrived) else None
        irregular = event.irregular if isinstance(event, ResultsArrived) else ()
        if not irregular:
            self.calls("call done", done.calls, process=process)
            return
        assert isinstance(event, ResultsArrived)
        reasons = {id(event.outcomes[index]): (kind, detail) for index, kind, detail in irregular}
        for call, outcome in zip(done.calls, done.outcomes, strict=True):
            if outcome is None or (found := reasons.get(id(outcome))) is None:
                self.calls("call done", [call], process=process)
            else:
                kind, detail = found
                self.calls("call failed", [call], process=process, reason=str(detail or kind))


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
