"""What the worker's reactor is told, and what it says: typed events and typed instructions. Pure values."""

from __future__ import annotations

from dataclasses import dataclass

from envpack_executor.messages import Environment, FromWorker, ProcessId, ToWorker

# --- events that are not messages of the manager


@dataclass(frozen=True, slots=True)
class EnvironmentChecked:
    """The store was asked for the environment of a process: which layers are not in it, and which are."""

    process: ProcessId
    missing: tuple[str, ...]
    present: tuple[str, ...] = ()


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
class Printed:
    """Calls of a context process have printed; see `messages.ProcessPrinted`."""

    process: ProcessId
    pieces: list[tuple[str, int, str]]


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
    last_words: str = ""


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
class BlobHere:
    """A blob has arrived whole."""

    name: str


@dataclass(frozen=True, slots=True)
class BlobFailed:
    """A blob could not be brought here."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ResultTaken:
    """A large result of a process is here and must be sent to the client before what the process says next."""

    process: ProcessId
    name: str


@dataclass(frozen=True, slots=True)
class ResultSent:
    """A large result was sent to the client, or could not be sent."""

    name: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; `now_s` is on any clock that never goes back."""

    now_s: float


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """It is time to leave: calls that run may end until `until_s`. When it comes once more: leave at once."""

    reason: str
    until_s: float


Event = (
    EnvironmentChecked
    | LayerStored
    | LayerFailed
    | Launched
    | LaunchFailed
    | FrameArrived
    | Printed
    | ProcessEnded
    | CallKilled
    | MemoryLooked
    | MemoryKept
    | BlobHere
    | BlobFailed
    | ResultTaken
    | ResultSent
    | Tick
    | DrainRequested
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
    devices: tuple[int, ...] | None = None
    is_streamed: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """Write frames to a context process; see `messages.Deliver`."""

    process: ProcessId
    frames: bytes
    look_s: float = 0.0
    until: int = 0


@dataclass(frozen=True, slots=True)
class TellBlobs:
    """Tell a context process where blobs are that the next frames need, or why one is not here.

    Args:
        process: which.
        names: of the blobs that are here.
        problems: (name, reason) of those that could not be brought here.
        dropped: names of blobs that no frame will need any more.
    """

    process: ProcessId
    names: tuple[str, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FetchBlob:
    """Bring a blob of `size` bytes here; `BlobHere` or `BlobFailed` follows, unless it is dropped before."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class FreeBlobs:
    """Free the memory of blobs, or stop bringing them here."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SendResult:
    """Send a large result to the client; `ResultSent` follows."""

    name: str


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
    """Kill every context process and end.

    Args:
        reason: in words.
        is_refusal: the manager does not want this worker.
        is_silence: nobody answers.
        may_return: the worker may join again afterwards.
        is_unanswered: it has never been welcomed.
    """

    reason: str
    is_refusal: bool = False
    is_silence: bool = False
    may_return: bool = False
    is_unanswered: bool = False


Instruction = (
    CheckEnvironment
    | StoreChunk
    | Launch
    | Write
    | TellBlobs
    | FetchBlob
    | FreeBlobs
    | SendResult
    | KillCall
    | TakeCallsBack
    | Stop
    | Watch
    | Reply
    | Leave
)
