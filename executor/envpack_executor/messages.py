"""Everything that a manager and a worker say to each other: two unions, and their bytes.

    manager ──ToWorker──▶ worker         manager ◀──FromWorker── worker

The same messages pass, unencoded, between the manager and the node that is the client's own machine. Frames of
context processes travel inside `Deliver` and `ProcessFrame` unopened. Pure: values and their encoding alone.
"""

from __future__ import annotations

from typing import Literal, NewType

import msgspec

PROTOCOL_VERSION = 7

NodeId = NewType("NodeId", str)
ProcessId = NewType("ProcessId", int)


class Environment(msgspec.Struct, frozen=True):
    """Where a context process finds its interpreter and packages.

    Args:
        kind: `inherit` (the interpreter of whoever hosts it), `prefix` (the interpreter named by `python`), or
            `manifest` (an environment made of layers).
        python: path of the interpreter for `prefix`.
        manifest: the manifest as JSON for `manifest`.
        manifest_id: the digest that names it.
    """

    kind: Literal["inherit", "prefix", "manifest"]
    python: str = ""
    manifest: bytes = b""
    manifest_id: str = ""


# --- to the worker


class StartProcess(msgspec.Struct, frozen=True, tag=True):
    """Start a context process.

    Args:
        process: its id.
        environment: where its interpreter is.
        boot: its first frame.
        blobs: name and size of the blobs that it needs.
        devices: indices of the GPUs that it may use; None for no say.
        is_streamed: what its calls print is told to the manager, and appears nowhere else.
    """

    process: ProcessId
    environment: Environment
    boot: bytes
    blobs: tuple[tuple[str, int], ...] = ()
    devices: tuple[int, ...] | None = None
    is_streamed: bool = False


class Deliver(msgspec.Struct, frozen=True, tag=True):
    """Pass frames on to a context process.

    Args:
        process: which.
        frames: whole frames; the worker does not look into them.
        look_s: after how many seconds the first of the calls in them may have to be ended because it takes too much;
            0 if none has limits that the node has to see to.
        until: number at the process of the call after the last of them; only where `look_s` is given.
        blobs: name and size of the blobs that the frames need; the worker has them or gets them first.
    """

    process: ProcessId
    frames: bytes
    look_s: float = 0.0
    until: int = 0
    blobs: tuple[tuple[str, int], ...] = ()


class DropBlobs(msgspec.Struct, frozen=True, tag=True):
    """No call will need these blobs any more."""

    names: tuple[str, ...]


class StopProcess(msgspec.Struct, frozen=True, tag=True):
    """End a context process: `is_kill` at once, otherwise when it has served what it has."""

    process: ProcessId
    is_kill: bool


class EndCall(msgspec.Struct, frozen=True, tag=True):
    """End a call if it runs: its fork child where it has one, otherwise the whole process. A `CallEnded` tells of it.

    Args:
        process: where it was sent.
        number: of the call at the process. One that has not begun, or is over, is left alone.
        reason: comes back with `CallEnded`.
    """

    process: ProcessId
    number: int
    reason: str


class TakeBack(msgspec.Struct, frozen=True, tag=True):
    """Let a context process drop the calls that it has not begun; its frame `RETURNED` says which they were.

    Args:
        process: which.
        until: number of the first call that was not sent yet. All before it that have not begun are dropped, also
            those that the process has not read yet; later ones are not meant.
    """

    process: ProcessId
    until: int


class Chunk(msgspec.Struct, frozen=True, tag=True):
    """A piece of a blob; `total` is the size of the whole in bytes, -1 when the manager has it not."""

    digest: str
    offset: int
    data: bytes
    total: int


class Farewell(msgspec.Struct, frozen=True, tag=True):
    """Leave: end every context process, then yourself.

    Args:
        reason: in words.
        is_refusal: the worker cannot be used.
        may_return: the worker was forgotten because it was silent; it may join again, as a new one.
    """

    reason: str
    is_refusal: bool = False
    may_return: bool = False


class Welcome(msgspec.Struct, frozen=True, tag=True):
    """The manager takes the worker.

    Args:
        heartbeat_s: both beat so often from now on.
        silence_s: both give up after so long without a word.
        watch_every_s: the worker tells so often how much memory its processes have; 0 to tell nothing.
        bulk_port: where the manager takes bulk connections, on the host that the worker has connected to; 0 for none.
        bulk_token: what they are authenticated with; it never leaves the encrypted connection.
        shares_layers: workers pass layers on to each other; the worker says by `Sharing` where it does.
    """

    heartbeat_s: float
    silence_s: float
    watch_every_s: float = 0.0
    bulk_port: int = 0
    bulk_token: bytes = b""
    shares_layers: bool = False


class TakeLayer(msgspec.Struct, frozen=True, tag=True):
    """Take a layer by the bulk channel from another worker, or from the manager where none is named.

    Args:
        digest: of the layer.
        source: names the worker, in words with the manager alone.
        address: where it serves layers.
        port: likewise.
    """

    digest: str
    source: str = ""
    address: str = ""
    port: int = 0


class ManagerBeat(msgspec.Struct, frozen=True, tag=True):
    """The manager is there."""


# --- from the worker


class Hello(msgspec.Struct, frozen=True, tag=True):
    """A worker offers its node, and the Python that `inherit` would mean.

    Args:
        protocol: `PROTOCOL_VERSION`.
        host: its name.
        pid: of the worker.
        python: its version.
        cores: how many calls may run at once.
        memory_bytes: what calls may have together, where the manager promises memory; 0 for no bound.
        context_bytes: what context processes may keep together; 0 for no bound.
        lasts_s: for so long it takes calls; 0 for as long as there are any.
        membership: names this membership of the worker.
        formerly: names the one before, after whose end it has come again: what ran then has ended.
        disk_bytes: what calls may write there, all together; 0 for no bound.
        gpus: how many GPUs calls may use.
        block: which block of workers it belongs to, as whoever started it says; empty without one.
    """

    protocol: int
    host: str
    pid: int
    python: str
    cores: int
    memory_bytes: int = 0
    context_bytes: int = 0
    lasts_s: float = 0.0
    membership: str = ""
    formerly: str = ""
    disk_bytes: int = 0
    gpus: int = 0
    block: str = ""


class ProcessStarted(msgspec.Struct, frozen=True, tag=True):
    """A context process runs, with this pid; it is not ready for calls before its own frame says so."""

    process: ProcessId
    pid: int


class ProcessFrame(msgspec.Struct, frozen=True, tag=True):
    """A context process said something."""

    process: ProcessId
    kind: int
    body: bytes


class ProcessGone(msgspec.Struct, frozen=True, tag=True):
    """A context process has ended or could not be started.

    Args:
        process: which.
        exit_status: what it exited with, minus the signal that killed it; None when it never started.
        running_call: number of the call that it was in; -1 between calls.
        reason: why it could not be started.
        last_words: the end of what it wrote to stderr.
    """

    process: ProcessId
    exit_status: int | None
    running_call: int
    reason: str = ""
    last_words: str = ""


class CallEnded(msgspec.Struct, frozen=True, tag=True):
    """The node has killed a call that ran; sent before what follows from it (a result that is none, `ProcessGone`).

    Args:
        process: which process it ran in.
        number: of the call at the process.
        reason: of `EndCall`; `timeout`, or `wall` or `memory` where a limit of `@monitor` was exceeded.
        ran_s: how long it had run, in seconds.
        memory_bytes: what the process had in memory with all that it had started, where that is the reason; else 0.
    """

    process: ProcessId
    number: int
    reason: str
    ran_s: float
    memory_bytes: int = 0


class ProcessPrinted(msgspec.Struct, frozen=True, tag=True):
    """Calls of a context process have printed something.

    Args:
        process: which.
        pieces: (`stdout` or `stderr`, number of the call at the process, text), in the order in which it was printed.
    """

    process: ProcessId
    pieces: list[tuple[str, int, str]]


class MemorySeen(msgspec.Struct, frozen=True, tag=True):
    """What the context processes of a node have in memory now.

    Args:
        seen: process, its resident memory in bytes with that of its descendants, and the number of the call that ran
            when it was looked at, -1 between calls. Processes of which nothing has changed are left out.
    """

    seen: list[tuple[ProcessId, int, int]]


class MemoryKept(msgspec.Struct, frozen=True, tag=True):
    """What a context process keeps in memory between calls.

    Args:
        process: which.
        kept_bytes: proportional set size of the process and its descendants, in bytes.
    """

    process: ProcessId
    kept_bytes: int


class ResultComing(msgspec.Struct, frozen=True, tag=True):
    """A large result of so many bytes comes, in pieces, before the frame whose outcome names it."""

    name: str
    size: int


class ResultPiece(msgspec.Struct, frozen=True, tag=True):
    """A piece of a large result, where it does not come by the bulk channel."""

    name: str
    offset: int
    data: bytes


class NeedChunk(msgspec.Struct, frozen=True, tag=True):
    """The worker wants a blob, of a layer (by its digest) or of a value (by its name), from `offset` on."""

    digest: str
    offset: int


class Sharing(msgspec.Struct, frozen=True, tag=True):
    """The worker serves layers to others: those that it has, and the pieces of those that it is receiving.

    Args:
        address: where; of the loopback interface, it means something to workers of the same machine only.
        port: likewise.
        machine: name of the machine.
        is_loopback: the address is one of the loopback interface.
    """

    address: str
    port: int
    machine: str
    is_loopback: bool


class NeedLayer(msgspec.Struct, frozen=True, tag=True):
    """The worker wants to know from whom to take a layer by the bulk channel; `TakeLayer` answers, sooner or later.

    Args:
        digest: of the layer.
        failed: the source that it was told before, where that has failed.
        why: `cut` if that cannot be reached, `gone` if it has not got the layer, `wrong` if what came is not the layer.
    """

    digest: str
    failed: str = ""
    why: Literal["", "cut", "gone", "wrong"] = ""


class LayersHere(msgspec.Struct, frozen=True, tag=True):
    """These layers are in the worker's store."""

    digests: tuple[str, ...]


class LayerAway(msgspec.Struct, frozen=True, tag=True):
    """Others cannot have this layer here (any more): it comes another way, or not at all."""

    digest: str


class WorkerBeat(msgspec.Struct, frozen=True, tag=True):
    """The worker is there."""


class Draining(msgspec.Struct, frozen=True, tag=True):
    """The worker leaves as soon as the calls that run have ended; it wants no others, and gives it up after a time."""

    reason: str


class Goodbye(msgspec.Struct, frozen=True, tag=True):
    """The worker leaves by itself; what it ran is lost. `is_blameless`: no call there can be the reason."""

    reason: str
    is_blameless: bool = False


ToWorker = (
    StartProcess
    | Deliver
    | DropBlobs
    | EndCall
    | TakeBack
    | StopProcess
    | Chunk
    | Farewell
    | Welcome
    | ManagerBeat
    | TakeLayer
)
FromWorker = (
    Hello
    | ProcessStarted
    | ProcessFrame
    | ProcessPrinted
    | ProcessGone
    | CallEnded
    | MemorySeen
    | MemoryKept
    | ResultComing
    | ResultPiece
    | NeedChunk
    | Sharing
    | NeedLayer
    | LayersHere
    | LayerAway
    | WorkerBeat
    | Draining
    | Goodbye
)

_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)


def encode(message: ToWorker | FromWorker) -> bytes:
    """Return the bytes of a message."""
    return _encoder.encode(message)


def decode_to_worker(data: bytes) -> ToWorker:
    """Return the message in `data`.

    Raises:
        msgspec.DecodeError: the bytes are no message to a worker.
    """
    message: ToWorker = _to_worker.decode(data)
    return message


def decode_from_worker(data: bytes) -> FromWorker:
    """Return the message in `data`.

    Raises:
        msgspec.DecodeError: the bytes are no message from a worker.
    """
    message: FromWorker = _from_worker.decode(data)
    return message
