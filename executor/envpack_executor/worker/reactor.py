"""What a worker does about an event: typed events in, typed instructions out. Pure: no socket, clock or process.

Mirror image of `envpack_executor.manager.reactor`. Guarantees: each process that the manager starts is answered by
exactly one `ProcessGone` in the end; a message about a process that is not known (any more) is ignored.
"""

from __future__ import annotations

from typing import assert_never

from envpack_executor import messages
from envpack_executor.messages import ProcessId
from envpack_executor.worker.events import (
    BlobFailed,
    BlobHere,
    CallKilled,
    CheckEnvironment,
    DrainRequested,
    EnvironmentChecked,
    Event,
    FetchBlob,
    FrameArrived,
    FreeBlobs,
    Instruction,
    KillCall,
    Launch,
    Launched,
    LaunchFailed,
    LayerFailed,
    LayerStored,
    Leave,
    MemoryKept,
    MemoryLooked,
    Printed,
    ProcessEnded,
    Reply,
    ResultSent,
    ResultTaken,
    SendResult,
    Stop,
    StoreChunk,
    TakeCallsBack,
    TellBlobs,
    Tick,
    Watch,
    Write,
)
from envpack_executor.worker.state import Phase, ProcessRecord, WorkerState


class WorkerReactor:
    """Decides for one worker.

    Args:
        state: what the worker knows; changed by each event.
    """

    def __init__(self, state: WorkerState) -> None:
        self.state = state

    def handle(self, event: Event) -> list[Instruction]:
        """Take one event and return what to do, in order."""
        match event:
            case messages.Deliver():
                return self._deliver(event)
            case FrameArrived():
                return self._say(event.process, messages.ProcessFrame(event.process, event.kind, event.body))
            case Printed():
                return self._say(event.process, messages.ProcessPrinted(event.process, event.pieces))
            case messages.StartProcess():
                return self._start(event)
            case EnvironmentChecked():
                return self._checked(event)
            case messages.Chunk():
                return self._chunk(event)
            case LayerStored():
                return self._stored(event.digest)
            case LayerFailed():
                return self._layer_failed(event)
            case Launched():
                return self._launched(event)
            case LaunchFailed():
                return self._gone(event.process, None, -1, event.reason)
            case ProcessEnded():
                return self._gone(event.process, event.exit_status, event.running_call, last_words=event.last_words)
            case ResultTaken():
                self.state.sending.setdefault(event.process, set()).add(event.name)
                return [SendResult(event.name)]
            case ResultSent():
                return self._result_sent(event.name)
            case BlobHere():
                return self._blob_here(event.name)
            case BlobFailed():
                return self._blob_failed(event)
            case messages.DropBlobs():
                return self._drop_blobs(event.names)
            case CallKilled():
                return self._say(
                    event.process,
                    messages.CallEnded(event.process, event.number, event.reason, event.ran_s, event.memory_bytes),
                )
            case messages.EndCall():
                return self._if_running(KillCall(event.process, event.number, event.reason))
            case messages.TakeBack():
                return self._if_running(TakeCallsBack(event.process, event.until))
            case MemoryLooked():
                return [Reply(messages.MemorySeen(event.seen))]
            case MemoryKept():
                return [Reply(messages.MemoryKept(event.process, event.kept_bytes))]
            case messages.StopProcess():
                return self._stop(event)
            case messages.Welcome():
                self.state.heartbeat_s, self.state.silence_s = event.heartbeat_s, event.silence_s
                return [Watch(event.watch_every_s)] if event.watch_every_s else []
            case messages.ManagerBeat() | messages.TakeLayer():
                return []  # the connection's own business
            case messages.Farewell():
                return self._farewell(event)
            case Tick():
                return self._tick(event.now_s)
            case DrainRequested():
                return self._drain(event)
            case _:
                assert_never(event)

    def heard(self, now_s: float) -> None:
        """Note that the manager said something at `now_s`."""
        self.state.last_heard_s = now_s

    def _start(self, message: messages.StartProcess) -> list[Instruction]:
        if message.process in self.state.processes or self.state.is_leaving:
            return []
        record = ProcessRecord(
            message.process, message.environment, message.boot, message.devices, is_streamed=message.is_streamed
        )
        self.state.processes[message.process] = record
        todo: list[Instruction] = [CheckEnvironment(message.process, message.environment)]
        if message.blobs:
            first = messages.Deliver(message.process, message.boot, blobs=message.blobs)
            record.boot = b""
            record.held.append(first)
            todo += self._fetch_missing(first)
        return todo

    def _checked(self, event: EnvironmentChecked) -> list[Instruction]:
        record = self.state.processes.get(event.process)
        if record is None:
            return []
        if not event.missing:
            return self._launch(record)
        record.enter(Phase.FETCHING)
        record.missing = set(event.missing)
        new = [digest for digest in event.missing if digest not in self.state.fetching]
        self.state.fetching.update(dict.fromkeys(new, 0))
        return [Reply(messages.NeedChunk(digest, 0)) for digest in new]

    def _chunk(self, message: messages.Chunk) -> list[Instruction]:
        arrived = self.state.fetching.get(message.digest)
        if arrived is None or arrived != message.offset:
            return []  # an answer to a question that we have forgotten, or that came twice
        if message.total < 0:
            return self._layer_failed(LayerFailed(message.digest, "the manager does not have it"))
        arrived += len(message.data)
        self.state.fetching[message.digest] = arrived
        is_last = arrived >= message.total
        todo: list[Instruction] = [StoreChunk(message.digest, message.data, is_last)]
        if not is_last:
            todo.append(Reply(messages.NeedChunk(message.digest, arrived)))
        return todo

    def _stored(self, digest: str) -> list[Instruction]:
        self.state.fetching.pop(digest, None)
        todo: list[Instruction] = []
        for record in [record for record in self.state.processes.values() if digest in record.missing]:
            record.missing.discard(digest)
            if not record.missing and record.phase is Phase.FETCHING:
                todo += self._launch(record)
        return todo

    def _layer_failed(self, event: LayerFailed) -> list[Instruction]:
        self.state.fetching.pop(event.digest, None)
        waiting = [record.process for record in self.state.processes.values() if event.digest in record.missing]
        reason = f"layer {event.digest[:12]} could not be fetched: {event.reason}"
        return [step for process in waiting for step in self._gone(process, None, -1, reason)]

    def _launch(self, record: ProcessRecord) -> list[Instruction]:
        record.enter(Phase.LAUNCHING)
        return [Launch(record.process, record.environment, record.boot, record.devices, record.is_streamed)]

    def _launched(self, event: Launched) -> list[Instruction]:
        record = self.state.processes.get(event.process)
        if record is None:
            return [Stop(event.process, is_kill=True)]
        record.enter(Phase.RUNNING)
        record.boot = b""
        todo: list[Instruction] = [Reply(messages.ProcessStarted(event.process, event.pid))]
        self._hand_over(record, todo)
        if record.is_stopping:
            todo.append(Stop(event.process, is_kill=True))
        return todo

    def _deliver(self, message: messages.Deliver) -> list[Instruction]:
        record = self.state.processes.get(message.process)
        if record is None:
            return []
        if record.phase is Phase.RUNNING and not message.blobs and not record.held:
            return [Write(message.process, message.frames, message.look_s, message.until)]
        record.held.append(message)
        todo = self._fetch_missing(message)
        if record.phase is Phase.RUNNING:
            self._hand_over(record, todo)
        return todo

    # --- large values

    def _say(self, process: ProcessId, message: messages.FromWorker) -> list[Instruction]:
        """Tell what a process said; after its large results, when some are under way."""
        if process in self.state.sending:
            self.state.unsaid.setdefault(process, []).append(message)
            return []
        return [Reply(message)]

    def _result_sent(self, name: str) -> list[Instruction]:
        for process, names in self.state.sending.items():
            if name in names:
                names.discard(name)
                if not names:
                    del self.state.sending[process]
                    return [Reply(message) for message in self.state.unsaid.pop(process, [])]
                break
        return []

    def _fetch_missing(self, message: messages.Deliver) -> list[Instruction]:
        """Ask for what is not here yet, once whoever needs it."""
        state = self.state
        new = [(name, size) for name, size in message.blobs if name not in state.blobs | state.blobs_wanted]
        state.blobs_wanted.update(name for name, _ in new)
        return [FetchBlob(name, size) for name, size in new]

    def _hand_over(self, record: ProcessRecord, todo: list[Instruction]) -> None:
        """Write the frames that are held, in their order, up to the first that need a blob which is not here."""
        while record.held and not any(name in self.state.blobs_wanted for name, _ in record.held[0].blobs):
            message = record.held.popleft()
            names = [name for name, _ in message.blobs if name in self.state.blobs and name not in record.told]
            problems = [(name, record.problems.pop(name)) for name, _ in message.blobs if name in record.problems]
            problems = [(name, reason) for name, reason in problems if name not in self.state.blobs]  # it came since
            if names or problems:
                record.told.update(names)
                todo.append(TellBlobs(record.process, tuple(names), tuple(problems)))
            todo.append(Write(record.process, message.frames, message.look_s, message.until))
        if record.wants_end and not record.held:
            todo.append(Stop(record.process, is_kill=False))

    def _blob_here(self, name: str) -> list[Instruction]:
        if name not in self.state.blobs_wanted:
            return [FreeBlobs((name,))]  # dropped while it was on its way
        self.state.blobs_wanted.discard(name)
        self.state.blobs.add(name)
        return self._hand_over_to_all()

    def _hand_over_to_all(self) -> list[Instruction]:
        todo: list[Instruction] = []
        for record in self.state.processes.values():
            if record.held and record.phase is Phase.RUNNING:
                self._hand_over(record, todo)
        return todo

    def _blob_failed(self, event: BlobFailed) -> list[Instruction]:
        """Let the calls that need the blob find out why they cannot have it; the next that needs it tries again."""
        self.state.blobs_wanted.discard(event.name)
        for record in self.state.processes.values():
            if any(event.name == name for message in record.held for name, _ in message.blobs):
                record.problems[event.name] = event.reason
        return self._hand_over_to_all()

    def _drop_blobs(self, names: tuple[str, ...]) -> list[Instruction]:
        self.state.blobs.difference_update(names)
        self.state.blobs_wanted.difference_update(names)
        todo: list[Instruction] = []
        for record in self.state.processes.values():
            known = record.told.intersection(names)
            if known:
                record.told -= known
                todo.append(TellBlobs(record.process, dropped=tuple(known)))
        return [*todo, FreeBlobs(names)]

    def _if_running(self, instruction: KillCall | TakeCallsBack) -> list[Instruction]:
        """No calls are sent to a process that is not ready, so nothing can be asked back from it."""
        record = self.state.processes.get(instruction.process)
        return [instruction] if record is not None and record.phase is Phase.RUNNING else []

    def _stop(self, message: messages.StopProcess) -> list[Instruction]:
        record = self.state.processes.get(message.process)
        if record is None:
            return []
        if record.phase is Phase.RUNNING:
            if record.held and not message.is_kill:
                record.wants_end = True
                return []
            return [Stop(message.process, message.is_kill)]
        if record.phase is Phase.LAUNCHING:
            record.is_stopping = True  # it cannot be called back any more; it is ended as soon as it is there
            return []
        return self._gone(record.process, None, -1, "stopped before it was started")

    def _gone(
        self,
        process: ProcessId,
        exit_status: int | None,
        running_call: int,
        reason: str = "",
        last_words: str = "",
    ) -> list[Instruction]:
        if self.state.processes.pop(process, None) is None:
            return []
        return self._say(process, messages.ProcessGone(process, exit_status, running_call, reason, last_words))

    def _tick(self, now_s: float) -> list[Instruction]:
        state = self.state
        if not state.heartbeat_s or state.is_leaving:
            return []
        if state.draining and now_s >= state.drained_by_s:
            return self._leave(Leave(state.draining))
        if now_s - state.last_heard_s > state.silence_s:
            silent_s = now_s - state.last_heard_s
            return self._leave(
                Leave(f"manager silent for {silent_s:.1f} s", is_silence=True, may_return=not state.draining)
            )
        if now_s - state.last_beat_s >= state.heartbeat_s:
            state.last_beat_s = now_s
            return [Reply(messages.WorkerBeat())]
        return []

    def _drain(self, event: DrainRequested) -> list[Instruction]:
        if not self.state.heartbeat_s or self.state.draining:
            return self._leave(Leave(event.reason))  # nobody knows us yet, or it was asked for once more
        self.state.draining, self.state.drained_by_s = event.reason, event.until_s
        return [Reply(messages.Draining(event.reason))]

    def _farewell(self, message: messages.Farewell) -> list[Instruction]:
        reason = self.state.draining or message.reason
        may_return = message.may_return and not self.state.draining
        return self._leave(Leave(reason, is_refusal=message.is_refusal, may_return=may_return))

    def _leave(self, leave: Leave) -> list[Instruction]:
        if self.state.is_leaving:
            return []
        self.state.is_leaving = True
        return [leave]
