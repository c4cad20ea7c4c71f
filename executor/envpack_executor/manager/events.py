"""What the manager's reactor is told, and what it says: typed events and typed instructions. Pure values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from envpack_executor.manager.state import Call, FunctionRecord, Imports, Preparation
from envpack_executor.messages import (
    CallEnded,
    Environment,
    MemoryKept,
    MemorySeen,
    NodeId,
    ProcessGone,
    ProcessId,
    ProcessStarted,
)

# --- events


@dataclass(frozen=True, slots=True)
class CallsQueued:
    """Calls were submitted; their contexts may be new."""

    calls: list[Call]


@dataclass(frozen=True, slots=True)
class CallSentAhead:
    """A call was sent to the process that was lent for it, by whoever submitted it."""

    call: Call


@dataclass(frozen=True, slots=True)
class ContextPrepared:
    """The environment of a context is known now."""

    context: int
    environment: Environment
    boot: bytes


@dataclass(frozen=True, slots=True)
class ContextFailed:
    """A context cannot be had: its environment, its initializer or its set-up function failed."""

    context: int
    error: BaseException


@dataclass(frozen=True, slots=True)
class NodeJoined:
    """A machine offers to host `slots` working processes, and so much of itself for calls; see `state.NodeRecord`."""

    node: NodeId
    name: str
    slots: int
    resident: int
    cores: float = 0.0
    memory_bytes: int | None = None
    context_bytes: int | None = None
    leaves_at_s: float | None = None
    is_back: bool = False
    is_foreign: bool = False
    disk_bytes: int | None = None
    gpus: int = 0
    host: str = ""
    pid: int = 0
    block: str = ""
    python: str = ""


@dataclass(frozen=True, slots=True)
class NodeDraining:
    """A machine will leave: calls that run there may end, and it is given no others."""

    node: NodeId
    reason: str = "nothing is left to do"


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A machine is gone, with everything on it. `is_blameless`: no call there can be the reason."""

    node: NodeId
    reason: str
    is_blameless: bool = False


@dataclass(frozen=True, slots=True)
class ProcessReady:
    """A context process has done its set-up."""

    process: ProcessId


@dataclass(frozen=True, slots=True)
class ResultsArrived:
    """A context process sent outcomes, in the order of its calls.

    Args:
        process: which.
        outcomes: as `pickling.load_outcome` reads them; nothing here looks into them.
        durations: (function number, wall time of a call in seconds) of the functions that were called.
        irregular: (index in `outcomes`, kind, detail) of the calls that did not return: `raised` with the exception
            in a line, `lost` with (exit status of the fork child, why it was killed, for how long it ran in seconds);
            of any other kind the outcome is the end.
        numbers: of the calls at the process, where they are answered in any order.
    """

    process: ProcessId
    outcomes: list[Any]
    durations: list[tuple[int, float]]
    irregular: Sequence[tuple[int, str, Any]] = ()
    numbers: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class PreparationRequested:
    """Processes of a context shall be ready; the context may be new."""

    preparation: Preparation


@dataclass(frozen=True, slots=True)
class TimePassed:
    """An alarm of the reactor is due: `ManagerState.now_s` says what time it is."""


@dataclass(frozen=True, slots=True)
class CallsReturned:
    """A context process has dropped calls that it had not begun, as it was asked: number `first` and those after."""

    process: ProcessId
    first: int


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Whoever submitted a call wants it ended, wherever it is."""

    call: Call


@dataclass(frozen=True, slots=True)
class CallsWithdrawn:
    """Some queued calls were cancelled by whoever submitted them."""


@dataclass(frozen=True, slots=True)
class CloseRequested:
    """No further calls will come. `is_cancelling`: those not yet at a process are dropped."""

    is_cancelling: bool


Event = (
    CallsQueued
    | CallSentAhead
    | ContextPrepared
    | ContextFailed
    | NodeJoined
    | NodeDraining
    | NodeLost
    | ProcessStarted
    | ProcessReady
    | ResultsArrived
    | ProcessGone
    | CallEnded
    | CallsReturned
    | CancelRequested
    | MemorySeen
    | MemoryKept
    | PreparationRequested
    | TimePassed
    | CallsWithdrawn
    | CloseRequested
)

# --- instructions


@dataclass(frozen=True, slots=True)
class StartContext:
    """Start a process for a context on a node, with these GPUs, and let it import this before it is ready."""

    node: NodeId
    process: ProcessId
    environment: Environment
    boot: bytes
    devices: tuple[int, ...] | None = None
    imports: Imports = ()


@dataclass(frozen=True, slots=True)
class SendCalls:
    """Send functions that the process does not have yet, then calls, numbered from `first` on."""

    node: NodeId
    process: ProcessId
    functions: list[FunctionRecord]
    first: int
    calls: list[Call]


@dataclass(frozen=True, slots=True)
class KillCall:
    """Kill a call if it is the one that runs in a process."""

    node: NodeId
    process: ProcessId
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class AskBack:
    """Ask a process for the calls before number `until` that it has not begun."""

    node: NodeId
    process: ProcessId
    until: int


@dataclass(frozen=True, slots=True)
class EndProcess:
    """End a process: it is not needed, or (`is_kill`) it must not go on."""

    node: NodeId
    process: ProcessId
    is_kill: bool


@dataclass(frozen=True, slots=True)
class CallsRequeued:
    """These calls were sent and wait again; nothing has to be done.

    Args:
        calls: which.
        process: where they were.
        kind: `retried`, `lost` or `returned`.
        reason: in words.
    """

    calls: list[Call]
    process: ProcessId
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReleaseNode:
    """Let a machine leave: nothing runs there any more."""

    node: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class CallsDone:
    """These calls have these outcomes."""

    calls: list[Call]
    outcomes: list[Any]


@dataclass(frozen=True, slots=True)
class CallsFailed:
    """These calls end with an error of ours."""

    calls: list[Call]
    error: BaseException


@dataclass(frozen=True, slots=True)
class CallsCancelled:
    """These calls were dropped because the executor closes."""

    calls: list[Call]


@dataclass(frozen=True, slots=True)
class PreparationDone:
    """The processes that were asked for are ready; or they cannot be had."""

    preparation: Preparation
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class Finish:
    """Every call has its end, every process is gone, and the executor closes."""


Instruction = (
    StartContext
    | SendCalls
    | KillCall
    | AskBack
    | EndProcess
    | ReleaseNode
    | CallsRequeued
    | CallsDone
    | CallsFailed
    | CallsCancelled
    | PreparationDone
    | Finish
)
