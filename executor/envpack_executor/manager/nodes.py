"""Where the manager sends what concerns a node: the client's own machine, or a worker elsewhere. One Protocol."""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import Protocol

from envpack_executor.messages import Deliver, FromWorker, NodeId, ProcessFrame, ProcessId, StartProcess, ToWorker
from envpack_executor.values.local import LocalBlobs
from envpack_executor.worker.events import Event, FrameArrived, Leave, Reply
from envpack_executor.worker.host import Host
from envpack_executor.worker.reactor import WorkerReactor
from envpack_executor.worker.state import WorkerState


class NodePort(Protocol):
    """A way to one node."""

    def send(self, message: ToWorker) -> None:
        """Give a message to the node; what it has to say comes back through the loop."""

    def sender(self, process: ProcessId) -> Callable[[bytes], int] | None:
        """Return what writes to the socket of an idle process at once, from any thread; None where that cannot be."""

    def close(self) -> None:
        """Let the node end everything that it runs for this manager."""


class LocalNode:
    """The client's own machine: the reactor and the host of a worker, without a socket in between.

    Args:
        node: its id.
        selector: of the manager's loop.
        call_soon: runs a function in the loop's thread.
        receive: takes the node's messages.
        slots: how many calls run at once.
        store: folder of the store, or None for the default.
        watch_every_s: how often the node tells what its processes have in memory; 0 for never.
    """

    def __init__(
        self,
        node: NodeId,
        selector: selectors.BaseSelector,
        call_soon: Callable[[Callable[[], None]], None],
        receive: Callable[[NodeId, FromWorker], None],
        slots: int,
        store: str | None = None,
        watch_every_s: float = 0.0,
    ) -> None:
        self._node = node
        self._receive = receive
        self._reactor = WorkerReactor(WorkerState())
        self.host = Host(selector, call_soon, self._handle, slots, store, LocalBlobs())
        self.host.watch_every_s = watch_every_s

    def send(self, message: ToWorker) -> None:
        """Give a message to the node's reactor."""
        if isinstance(message, Deliver | StartProcess) and message.blobs:
            self._reactor.state.blobs.update(name for name, _ in message.blobs)  # they are the client's own
        self._handle(message)

    def sender(self, process: ProcessId) -> Callable[[bytes], int] | None:
        """Return what writes to the socket of a process at once."""
        return self.host.sender(process)

    def close(self) -> None:
        """Kill every process of this node and wait for them."""
        self.host.close()

    def _handle(self, event: Event) -> None:
        if type(event) is FrameArrived:
            # What the reactor would answer, without the way round: every result comes through here.
            self._receive(self._node, ProcessFrame(event.process, event.kind, event.body))
            return
        for instruction in self._reactor.handle(event):
            match instruction:
                case Reply():
                    self._receive(self._node, instruction.message)
                case Leave():
                    return  # the loop that told it to leave closes it
                case _:
                    self.host.execute(instruction)
