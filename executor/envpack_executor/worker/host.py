"""Starts context processes, speaks to them, and makes sure that none outlives its host.

    loop thread ──Launch──▶ launcher thread: put the environment together, start the interpreter
                ◀─adopt──── process with socket, lifeline, shared progress words, pidfd
    selector: socket readable ▶ frames;  pidfd readable ▶ the process has ended

Guarantees: a process is reported as ended after everything that it had written was read; then its whole process
group is killed, so that what it had started ends with it. The lifeline is a pipe that nobody writes to: when the host
dies, however, the kernel kills the process and its group. Another pipe takes commands that do not wait behind a call.
"""

from __future__ import annotations

import functools
import os
import pickle
import selectors
import socket
import struct
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, assert_never

from envpack_executor import settings
from envpack_executor.background import BackgroundThread
from envpack_executor.errors import ProcessStartError
from envpack_executor.messages import Environment, ProcessId
from envpack_executor.process import frames
from envpack_executor.process.bundle import bundle
from envpack_executor.worker import events
from envpack_executor.worker.blobs import NodeBlobs
from envpack_executor.worker.bounds import Bounds
from envpack_executor.worker.context_process import ContextProcess, Words, spawn_patiently
from envpack_executor.worker.events import (
    CheckEnvironment,
    FetchBlob,
    FreeBlobs,
    KillCall,
    Launch,
    SendResult,
    Stop,
    StoreChunk,
    TakeCallsBack,
    TellBlobs,
    Watch,
    Write,
)
from envpack_executor.worker.looks import Looks
from envpack_executor.worker.watch import tree_bytes

if TYPE_CHECKING:
    from envpack.pack import Store

# More at once would be a mapping of its own, made and dropped at each read: three times the cost of a short answer.
_READ_BYTES = 1 << 16
_ANCILLARY_BYTES = socket.CMSG_SPACE(16 * struct.calcsize("i"))
_STOP_GRACE_S = 3.0

HostInstruction = (
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
)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """Return the descriptors that have come with some bytes."""
    return [
        descriptor
        for level, kind, data in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for (descriptor,) in struct.iter_unpack("i", data)
    ]


class Host:
    """Executes the instructions of a worker's reactor on this machine, from the thread of one loop.

    Args:
        selector: the loop's selector; the host registers callbacks `(mask) -> None` as data.
        call_soon: runs a function in the loop's thread, from any thread.
        emit: takes the events that follow.
        slots: how many calls run at once here; the cores are shared out among them.
        store: folder of the store of layers, opened when the first manifest comes; None for the default.
        blobs: the large values of this node.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        call_soon: Callable[[Callable[[], None]], None],
        emit: Callable[[events.Event], None],
        slots: int,
        store: str | None,
        blobs: NodeBlobs,
    ) -> None:
        self._blobs = blobs
        self._selector = selector
        self._call_soon = call_soon
        self._emit = emit
        self._threads = max(1, settings.usable_cores() // slots)
        self._store_folder = store
        self._store: Store | None = None
        self._processes: dict[ProcessId, ContextProcess] = {}
        self._spawned: deque[ContextProcess] = deque()  # started by the launcher, not adopted by the loop yet
        self._arriving: dict[str, IO[bytes]] = {}
        self._launcher = BackgroundThread("envpack-launcher")
        self._looks = Looks(call_soon, emit)
        self._bounds = Bounds(self._end_for)
        self.watch_every_s = 0.0
        self._watched_s = 0.0

    def execute(self, instruction: HostInstruction) -> None:
        """Do what the reactor decided; what follows comes back as events."""
        match instruction:
            case Write():
                self._write(instruction.process, instruction.frames, instruction.look_s, instruction.until)
            case Launch():
                self._launcher.run(functools.partial(self._launch, instruction))
            case CheckEnvironment():
                self._check(instruction)
            case Stop():
                self._stop(instruction)
            case KillCall():
                self._kill_call(instruction)
            case TakeCallsBack():
                if (process := self._processes.get(instruction.process)) is not None:
                    process.command(frames.TAKE_BACK, instruction.until)
            case TellBlobs():
                self._tell_blobs(instruction)
            case FetchBlob():
                self._blobs.fetch(instruction.name, instruction.size)
            case FreeBlobs():
                self._blobs.free(instruction.names)
            case SendResult():
                self._blobs.send_result(instruction.name)
            case StoreChunk():
                self._store_chunk(instruction)
            case Watch():
                self.watch_every_s = instruction.every_s
            case _:
                assert_never(instruction)

    def next_deadline_s(self) -> float | None:
        """Return the monotonic time at which `tick` has something to do."""
        deadlines = [process.kill_at_s for process in self._processes.values() if process.kill_at_s is not None]
        if self.watch_every_s and self._processes:
            deadlines.append(self._watched_s + self.watch_every_s)
        deadlines += [at_s for at_s in (self._looks.next_s, self._bounds.next_s) if at_s is not None]
        return min(deadlines, default=None)

    def tick(self) -> None:
        """Kill the processes that were asked to end and did not; look at the memory of all when it is time."""
        now = time.monotonic()
        if self.watch_every_s and now >= self._watched_s + self.watch_every_s:
            self._watched_s = now
            self._look()
        self._looks.tick(now)
        self._bounds.tick(now)
        for process in self._processes.values():
            if process.kill_at_s is not None and now >= process.kill_at_s:
                process.kill()
                process.kill_at_s = None

    def sender(self, process_id: ProcessId) -> Callable[[bytes], int] | None:
        """Return what writes to the socket of a process without blocking; None while something waits to be written."""
        process = self._processes.get(process_id)
        if process is None or process.is_closing or process.unsent:
            return None
        return process.connection.send

    def close(self) -> None:
        """Kill every process, stop the launcher, free everything. Nothing of this host is left afterwards."""
        self._launcher.close()
        self._looks.close()
        for process in list(self._processes.values()):
            self._forget(process)
            process.reap()
        self._blobs.close()
        while self._spawned:
            self._spawned.popleft().reap()
        for spool in self._arriving.values():
            spool.close()
        self._arriving.clear()

    def _look(self) -> None:
        changed = []
        for process in self._processes.values():
            # The call first: if another begins meanwhile, its memory is taken for that of the one before.
            seen = process.running_call, tree_bytes(process.popen.pid)
            if seen != process.seen:
                process.seen = seen
                changed.append((process.process, seen[1], seen[0]))
        if changed:
            self._emit(events.MemoryLooked(changed))

    # --- environments and launching, in the launcher's thread

    def store(self) -> Store:
        """Return the store of this node; opened when it is first needed."""
        if self._store is None:
            from envpack.pack import Store

            self._store = Store(self._store_folder)
        return self._store

    def _launch(self, instruction: Launch) -> None:
        process = instruction.process
        try:
            python, is_isolated = self._interpreter(instruction.environment)
            environ = settings.child_environ(os.environ, self._threads, instruction.devices)
            context_process = spawn_patiently(process, python, is_isolated, environ, instruction.is_streamed)
        except Exception as error:
            failed = events.LaunchFailed(process, f"{type(error).__name__}: {error}")
            self._call_soon(functools.partial(self._emit, failed))
            return
        first = bundle(with_source=is_isolated)
        if not is_isolated:
            first += frames.encode(frames.PATHS, pickle.dumps(sys.path))
        # The loop may end without running what it was asked to run: then `close` finds the process here.
        self._spawned.append(context_process)
        self._call_soon(functools.partial(self._adopt, first + instruction.boot))

    def _interpreter(self, environment: Environment) -> tuple[str, bool]:
        """Return the interpreter of an environment, and whether it must see nothing else."""
        match environment.kind:
            case "inherit":
                return sys.executable, False
            case "prefix":
                if not os.access(environment.python, os.X_OK):
                    raise ProcessStartError(
                        f"no interpreter at {environment.python!r}", "name a prefix that has bin/python"
                    )
                return environment.python, True
            case "manifest":
                return str(self._materialise(environment) / "bin" / "python"), True
            case _:
                assert_never(environment.kind)

    def _materialise(self, environment: Environment) -> Path:
        import json

        from envpack.pack import Manifest

        return self.store().materialise(Manifest.from_dict(json.loads(environment.manifest)))

    # --- from here on in the loop's thread

    def _adopt(self, first: bytes) -> None:
        process = self._spawned.popleft()
        self._processes[process.process] = process
        self._selector.register(process.connection, selectors.EVENT_READ, functools.partial(self._on_socket, process))
        self._selector.register(process.pidfd, selectors.EVENT_READ, functools.partial(self._on_exit, process))
        if process.prints is not None:
            on_print = functools.partial(self._on_print, process)
            self._selector.register(process.prints.pipe, selectors.EVENT_READ, on_print)
        self._write(process.process, first)
        self._emit(events.Launched(process.process, process.popen.pid))

    def _check(self, instruction: CheckEnvironment) -> None:
        if instruction.environment.kind != "manifest":
            self._emit(events.EnvironmentChecked(instruction.process, ()))
            return
        self._launcher.run(functools.partial(self._check_layers, instruction))

    def _check_layers(self, instruction: CheckEnvironment) -> None:
        import json

        from envpack.pack import Manifest

        event: events.Event
        try:
            manifest = Manifest.from_dict(json.loads(instruction.environment.manifest))
            missing = tuple(layer.digest for layer in self.store().missing(manifest))
            present = tuple(layer.digest for layer in manifest.layers if layer.digest not in missing)
            event = events.EnvironmentChecked(instruction.process, missing, present)
        except Exception as error:
            event = events.LaunchFailed(instruction.process, f"{type(error).__name__}: {error}")
        self._call_soon(functools.partial(self._emit, event))

    def _store_chunk(self, instruction: StoreChunk) -> None:
        """Spool a layer that arrives in pieces; the store takes it, verified, when it is whole."""
        spool = self._arriving.get(instruction.digest)
        if spool is None:
            spool = self._arriving[instruction.digest] = tempfile.TemporaryFile(prefix="envpack-layer-")  # noqa: SIM115
        spool.write(instruction.data)
        if instruction.is_last:
            del self._arriving[instruction.digest]
            self._launcher.run(functools.partial(self._add_blob, instruction.digest, spool))

    def store_layer(self, digest: str, spool: IO[bytes]) -> None:
        """Verify a layer that has come whole and put it into the store; `spool` is closed."""
        self._launcher.run(functools.partial(self._add_blob, digest, spool))

    def _add_blob(self, digest: str, spool: IO[bytes]) -> None:
        event: events.Event
        try:
            with spool:
                spool.seek(0)
                self.store().add_blob(digest, iter(lambda: spool.read(1 << 20), b""))
            event = events.LayerStored(digest)
        except Exception as error:
            event = events.LayerFailed(digest, f"{type(error).__name__}: {error}")
        self._call_soon(functools.partial(self._emit, event))

    def _write(self, process_id: ProcessId, data: bytes, look_s: float = 0.0, until: int = 0) -> None:
        process = self._processes.get(process_id)
        if process is None or process.is_closing:
            return
        if look_s:
            self._bounds.expect(process, look_s, until)
        if process.unsent:
            process.unsent.append(memoryview(data))
            return
        try:
            sent = process.connection.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it has ended; the pidfd will say so
        if sent < len(data):
            process.unsent.append(memoryview(data)[sent:])
            self._watch(process, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _tell_blobs(self, instruction: TellBlobs) -> None:
        news = [(name, self._blobs.place(name)) for name in instruction.names]
        news += [(name, ("", 0, 0, problem)) for name, problem in instruction.problems]
        body = pickle.dumps((news, instruction.dropped))
        self._write(instruction.process, frames.encode(frames.BLOBS, body))

    def _on_socket(self, process: ContextProcess, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush(process)
        if mask & selectors.EVENT_READ:
            self._read(process)

    def _flush(self, process: ContextProcess) -> None:
        try:
            while process.unsent:
                piece = process.unsent[0]
                sent = process.connection.send(piece)
                if sent < len(piece):
                    process.unsent[0] = piece[sent:]
                    return
                process.unsent.popleft()
        except BlockingIOError:
            return
        except OSError:
            process.unsent.clear()
        self._watch(process, selectors.EVENT_READ)
        if process.is_closing:
            self._shut(process)

    def _read(self, process: ContextProcess) -> bool:
        """Read what is there once; return whether there may be more."""
        try:
            data, ancillary, _, _ = process.connection.recvmsg(_READ_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return False
        except OSError:
            data, ancillary = b"", []
        if ancillary:
            process.files.extend(_descriptors(ancillary))
        if not data:
            # The end of the stream may come before the end of the process: only the pidfd tells that it is over.
            self._watch(process, 0)
            return False
        if process.prints is not None:
            self._on_print(process)  # before the results of those who printed
        for kind, body in process.frames.feed(data):
            if kind == frames.FILE:
                self._take_file(process, *pickle.loads(body))
                continue
            if kind == frames.RETURNED:
                self._bounds.returned(process.process, int.from_bytes(body, "little"))
            self._emit(events.FrameArrived(process.process, kind, body))
        self._looks.note(process)
        return True

    def _take_file(self, process: ContextProcess, name: str, size: int) -> None:
        """Take the memory file of a large result; it comes before the outcome that names it."""
        if self._blobs.take_result(process.process, name, size, process.files.popleft()):
            self._emit(events.ResultTaken(process.process, name))

    def _watch(self, process: ContextProcess, mask: int) -> None:
        if process.connection not in self._selector.get_map():
            return  # its stream has ended: there is nothing to wait for but its exit
        if mask:
            self._selector.modify(process.connection, mask, functools.partial(self._on_socket, process))
        else:
            self._selector.unregister(process.connection)

    def _on_print(self, process: ContextProcess, mask: int = 0) -> None:
        assert process.prints is not None
        if pieces := process.prints.read():
            self._emit(events.Printed(process.process, pieces))

    def _on_exit(self, process: ContextProcess, mask: int) -> None:
        while process.connection in self._selector.get_map() and self._read(process):
            pass
        running_call = process.running_call
        if process.prints is not None:
            self._on_print(process)
        self._forget(process)
        self._blobs.forget_results(process.process)
        last_words = process.last_words()
        self._emit(events.ProcessEnded(process.process, process.reap(), running_call, last_words))

    def _forget(self, process: ContextProcess) -> None:
        del self._processes[process.process]
        self._looks.forget(process.process)
        self._bounds.forget(process.process)
        self._watch(process, 0)
        self._selector.unregister(process.pidfd)
        if process.prints is not None:
            self._selector.unregister(process.prints.pipe)

    def _stop(self, instruction: Stop) -> None:
        process = self._processes.get(instruction.process)
        if process is None:
            return
        if instruction.is_kill:
            process.kill()
            return
        process.is_closing = True
        process.kill_at_s = time.monotonic() + _STOP_GRACE_S
        if not process.unsent:
            self._shut(process)

    def _kill_call(self, instruction: KillCall) -> None:
        process = self._processes.get(instruction.process)
        if process is None or process.running_call != instruction.number:
            return
        words = process.words()
        if words.child:
            # Its parent ends it, and tells how it ended: nobody else knows when its pid is free for another process.
            process.command(frames.END_CALL, instruction.number)
        elif words.number == instruction.number:
            self._end_for(process, words, instruction.reason, 0)

    def _end_for(self, process: ContextProcess, words: Words, reason: str, memory_bytes: int) -> None:
        """Kill a process for the call that runs in it."""
        ran_s = (time.monotonic_ns() - words.started_ns) / 1e9
        process.kill()
        self._emit(events.CallKilled(process.process, words.number, reason, ran_s, memory_bytes))

    def _shut(self, process: ContextProcess) -> None:
        try:
            process.connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has ended already
