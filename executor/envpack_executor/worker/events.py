"""What the worker's reactor is told, and what it says: typed events and typed instructions. Pure values."""

from __future__ import annotations

from dataclasses import dataclass

from envpack_executor.messages import Environment, FromWorker, ProcessId, ToWorker

# --- events that are not messages of the manager


@dataclass(frozen=True, slots=True)
class EnvironmentChecked:
    """The store was asked for the environment of a process: these layers are not in it."""

    process: ProcessId
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LayerStored:
    """A layer has arrived whole and its digest is right."""

    digest: str


@dataclass(frozen=True, slots=True)
class LayerFailed:
    """A layer could not be stored."""

    digest: str
    reason: str


@dataclass(frozen=True, slots=True)
class Launched:
    """A context process runs."""

    process: ProcessId
    pid: int


@dataclass(frozen=True, slots=True)
class LaunchFailed:
    """A context process could not be started."""

    process: ProcessId
    reason: str


@dataclass(frozen=True, slots=True)
class FrameArrived:
    """A context process said something."""

    process: ProcessId
    kind: int
    body: bytes


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """A context process has ended; see `messages.ProcessGone`."""

    process: ProcessId
    exit_status: int
    running_call: int


@dataclass(frozen=True, slots=True)
class CallKilled:
    """The host has killed a call that ran; see `messages.CallEnded`."""

    process: ProcessId
    number: int
    reason: str
    ran_s: float
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MemoryLooked:
    """What has changed in the memory of context processes; see `messages.MemorySeen`."""

    seen: list[tuple[ProcessId, int, int]]


@dataclass(frozen=True, slots=True)
class MemoryKept:
    """What a context process keeps between calls; see `messages.MemoryKept`."""

    process: ProcessId
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; `now_s` is on any clock that never goes back."""

    now_s: float


Event = (
    EnvironmentChecked
    | LayerStored
    | LayerFailed
    | Launched
    | LaunchFailed
    | FrameArrived
    | ProcessEnded
    | CallKilled
    | MemoryLooked
    | MemoryKept
    | Tick
    | ToWorker
)

# --- instructions


@dataclass(frozen=True, slots=True)
class CheckEnvironment:
    """Find out which layers of the environment are not in the store."""

    process: ProcessId
    environment: Environment


@dataclass(frozen=True, slots=True)
class StoreChunk:
    """Append a piece to the blob of a layer; after the last one, verify it and put it into the store."""

    digest: str
    data: bytes
    is_last: bool


@dataclass(frozen=True, slots=True)
class Launch:
    """Put the environment together and start the context process."""

    process: ProcessId
    environment: Environment
    boot: bytes


@dataclass(frozen=True, slots=True)
class Write:
    """Write frames to a context process; see `messages.Deliver`."""

    process: ProcessId
    frames: bytes
    look_s: float = 0.0


@dataclass(frozen=True, slots=True)
class KillCall:
    """Kill a call if it is the one that runs in a context process; see `messages.EndCall`."""

    process: ProcessId
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class TakeCallsBack:
    """Let a context process drop what it has not begun; see `messages.TakeBack`."""

    process: ProcessId
    until: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End a context process, at once or when it has served what it has."""

    process: ProcessId
    is_kill: bool


@dataclass(frozen=True, slots=True)
class Watch:
    """Look at the memory of context processes every so many seconds."""

    every_s: float


@dataclass(frozen=True, slots=True)
class Reply:
    """Send a message to the manager."""

    message: FromWorker


@dataclass(frozen=True, slots=True)
class Leave:
    """Kill every context process and end. `is_refusal`, `is_silence`: whose decision it was."""

    reason: str
    is_refusal: bool = False
    is_silence: bool = False


Instruction = CheckEnvironment | StoreChunk | Launch | Write | KillCall | TakeCallsBack | Stop | Watch | Reply | Leave
