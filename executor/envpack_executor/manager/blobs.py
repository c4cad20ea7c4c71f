"""Which blobs the manager has told its nodes about, and that they drop those which nobody needs any more."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence

from envpack_executor.manager.events import SendCalls
from envpack_executor.messages import DropBlobs, NodeId
from envpack_executor.values.large import blobs_of
from envpack_executor.values.segments import Blob

BlobNames = tuple[tuple[str, int], ...]


class SentBlobs:
    """The blobs that nodes were told about; used from the loop's thread.

    Args:
        send: sends a message to a node.
        call_soon: runs a function in the loop's thread, from any thread.
    """

    def __init__(
        self, send: Callable[[NodeId, DropBlobs], None], call_soon: Callable[[Callable[[], None]], None]
    ) -> None:
        self._send = weakref.WeakMethod(send)
        self._call_soon = weakref.WeakMethod(call_soon)
        self._told: dict[str, set[NodeId]] = {}

    def needed(self, instruction: SendCalls) -> BlobNames:
        """Return the blobs that functions and calls need which are being sent."""
        functions = [function.payload for function in instruction.functions]
        return self.named(instruction.node, functions + [call.payload for call in instruction.calls])

    def named(self, node: NodeId, payloads: Sequence[bytes]) -> BlobNames:
        """Return the blobs that these payloads need, and note that `node` is told of them."""
        blobs = blobs_of(payloads)
        for blob in blobs.values():
            self._note(node, blob)
        return tuple((blob.name, blob.size) for blob in blobs.values())

    def forget(self, node: NodeId) -> None:
        """Note that a node is gone."""
        for nodes in self._told.values():
            nodes.discard(node)

    def _note(self, node: NodeId, blob: Blob) -> None:
        told = self._told.get(blob.name)
        if told is None:
            told = self._told[blob.name] = set()
            weakref.finalize(blob, _report, weakref.ref(self), blob.name).atexit = False
        told.add(node)

    def gone(self, name: str) -> None:
        """Note, from any thread, that a blob is gone."""
        if (call_soon := self._call_soon()) is not None:
            call_soon(functools.partial(self._drop, name))

    def _drop(self, name: str) -> None:
        send = self._send()
        for node in self._told.pop(name, ()):
            if send is not None:
                send(node, DropBlobs((name,)))


def _report(reference: weakref.ref[SentBlobs], name: str) -> None:
    if (sent := reference()) is not None:
        sent.gone(name)
