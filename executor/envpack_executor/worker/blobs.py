"""The large values of a node: where blobs are, how they come here, where large results go."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Protocol

from envpack_executor.bulk.client import BulkClient, Transfer
from envpack_executor.bulk.wire import Kind
from envpack_executor.messages import Chunk, NeedChunk, ProcessId, ResultComing, ResultPiece
from envpack_executor.process import kept
from envpack_executor.process.kept import Place
from envpack_executor.values.segments import Blob, Segments
from envpack_executor.worker.events import BlobFailed, BlobHere, Event, ResultSent

_log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20


class NodeBlobs(Protocol):
    """Where the blobs of a node are, and its large results; used from the thread of its loop."""

    def place(self, name: str) -> Place:
        """Return where processes of this node find a blob that is here."""

    def fetch(self, name: str, size: int) -> None:
        """Bring a blob here; `BlobHere` or `BlobFailed` follows, unless it is freed before."""

    def free(self, names: Sequence[str]) -> None:
        """Free blobs, or stop bringing them here."""

    def take_result(self, process: ProcessId, name: str, size: int, descriptor: int) -> bool:
        """Take over the memory file of a large result of a process; return whether it must be sent to the client."""

    def send_result(self, name: str) -> None:
        """Send a result to the client; `ResultSent` follows."""

    def forget_results(self, process: ProcessId) -> None:
        """Free the results of a process that nobody has asked for: their calls are run again."""

    def close(self) -> None:
        """Free everything."""


class _File:
    """A descriptor that is closed when nobody reads from it any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on."""
        return os.pread(self._descriptor, size, offset)

    def __del__(self) -> None:
        os.close(self._descriptor)


class WorkerBlobs:
    """The large values of a worker's node, which come and go by the bulk channel or in the messages of its manager.

    Args:
        send: sends a message to the manager.
        emit: takes events, in the loop's thread.
        call_soon: runs a function in the loop's thread.
    """

    def __init__(
        self,
        send: Callable[[NeedChunk | ResultComing | ResultPiece], None],
        emit: Callable[[Event], None],
        call_soon: Callable[[Callable[[], None]], None],
    ) -> None:
        self._send = send
        self._emit = emit
        self._call_soon = call_soon
        self._segments = Segments()
        self._here: dict[str, Blob] = {}
        self._arriving: dict[str, tuple[Blob, int]] = {}
        self._results: dict[str, tuple[int, int]] = {}
        self._bulk: BulkClient | None = None

    def use(self, bulk: BulkClient) -> None:
        """Move bytes by the bulk channel from now on, where it works."""
        self._bulk = bulk

    def place(self, name: str) -> Place:
        """Return where processes of this node find a blob that is here."""
        return self._here[name].place

    def fetch(self, name: str, size: int) -> None:
        """Bring a blob here; `BlobHere` or `BlobFailed` follows, unless it is freed before."""
        try:
            blob = self._segments.reserve(name, size)
        except (MemoryError, OSError) as error:
            self._fail(name, f"{type(error).__name__}: {error}")
            return
        self._arriving[name] = blob, 0
        if self._bulk is None:
            self._send(NeedChunk(name, 0))
        else:
            self._bulk.move(self._transfer(self._bulk, blob))

    def _transfer(self, bulk: BulkClient, blob: Blob) -> Transfer:
        def write(offset: int, data: memoryview) -> None:
            kept.write(blob.segment.descriptor, blob.offset, [(offset, data)])

        def done(size: int) -> None:
            if self._arriving.get(blob.name, (None,))[0] is blob:
                self._complete(blob)

        def failed(reason: Exception) -> None:
            if self._arriving.get(blob.name, (None,))[0] is blob:
                _log.warning("a large value comes by the slow way: %r", reason)
                self._send(NeedChunk(blob.name, 0))

        return Transfer(Kind.VALUE, blob.name, blob.size, write, done, failed)

    def take_chunk(self, chunk: Chunk) -> bool:
        """Take a piece of a blob; return whether it was one of a blob that is wanted here."""
        if chunk.digest not in self._arriving:
            return False
        blob, arrived = self._arriving[chunk.digest]
        if chunk.offset != arrived:
            return True  # an answer that came twice
        if chunk.total != blob.size or not 0 < len(chunk.data) <= blob.size - arrived:
            self._fail(blob.name, "the client has freed it")
            return True
        kept.write(blob.segment.descriptor, blob.offset, [(arrived, chunk.data)])
        arrived += len(chunk.data)
        self._arriving[blob.name] = blob, arrived
        if arrived < blob.size:
            self._send(NeedChunk(blob.name, arrived))
        else:
            self._complete(blob)
        return True

    def free(self, names: Sequence[str]) -> None:
        """Free blobs, or stop bringing them here."""
        for name in names:
            self._here.pop(name, None)
            self._arriving.pop(name, None)

    def take_result(self, process: ProcessId, name: str, size: int, descriptor: int) -> bool:
        """Take over the memory file of a large result; it must be sent."""
        self._results[name] = descriptor, size
        return True

    def send_result(self, name: str) -> None:
        """Send a result to the manager, in pieces; `ResultSent` follows."""
        descriptor, size = self._results[name]
        self._send(ResultComing(name, size))
        if self._bulk is None:
            self._call_soon(lambda: self._send_pieces(name))
            return

        def failed(reason: Exception) -> None:
            _log.warning("a large result goes the slow way: %r", reason)
            self._send_pieces(name)

        # Of its own, because a thread may still read from it when the transfer has failed already.
        file = _File(os.dup(descriptor))
        self._bulk.move(Transfer(Kind.RESULT, name, size, file.read, lambda sent: self._result_sent(name), failed))

    def _send_pieces(self, name: str) -> None:
        descriptor, size = self._results[name]
        for offset in range(0, size, PIECE_BYTES):
            self._send(ResultPiece(name, offset, os.pread(descriptor, PIECE_BYTES, offset)))
        self._result_sent(name)

    def _result_sent(self, name: str) -> None:
        os.close(self._results.pop(name)[0])
        self._emit(ResultSent(name))

    def forget_results(self, process: ProcessId) -> None:
        """Do nothing: all that have come are sent, whatever becomes of their process."""

    def close(self) -> None:
        """Free everything; the bulk channel is closed already."""
        self._here.clear()
        self._arriving.clear()
        for descriptor, _ in self._results.values():
            os.close(descriptor)
        self._results.clear()

    def _complete(self, blob: Blob) -> None:
        self._segments.complete(blob)
        del self._arriving[blob.name]
        self._here[blob.name] = blob
        self._emit(BlobHere(blob.name))

    def _fail(self, name: str, reason: str) -> None:
        self._arriving.pop(name, None)
        self._call_soon(lambda: self._emit(BlobFailed(name, reason)))
