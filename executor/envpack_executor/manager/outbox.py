"""What the manager sends to nodes: the reactor's instructions as messages, functions and calls as frames.

A function goes to a process once, and calls name it by its number; a large value goes to a node once (`blobs`).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace

from envpack_executor.manager.blobs import SentBlobs
from envpack_executor.manager.events import SendCalls, StartContext
from envpack_executor.manager.nodes import NodePort
from envpack_executor.manager.state import FunctionRecord, Imports
from envpack_executor.messages import Deliver, NodeId, StartProcess, ToWorker
from envpack_executor.pickling import PROTOCOL
from envpack_executor.process import frames
from envpack_executor.values.blobs import BLOBS


class Outbox:
    """Sends to the nodes of one executor, in the manager's thread.

    Args:
        call_soon: runs a function in that thread, from any other.
        is_streamed: what calls print is wanted here.

    Attributes:
        ports: the ways to the nodes there are.
        functions: those that were sent, by number, so that the usage of their calls finds them.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], None], is_streamed: bool) -> None:
        self._is_streamed = is_streamed
        self.ports: dict[NodeId, NodePort] = {}
        self.functions: dict[int, FunctionRecord] = {}
        self.blobs = SentBlobs(self.send, call_soon)

    def send(self, node: NodeId, message: ToWorker) -> None:
        """Send a message; one for a node that is gone is dropped."""
        port = self.ports.get(node)
        if port is not None:
            port.send(message)

    def start(self, instruction: StartContext) -> None:
        """Let a node start a context process."""
        blobs = self.blobs.named(instruction.node, [instruction.boot])
        boot = _hoisted(instruction.imports) + instruction.boot
        devices, is_streamed = instruction.devices, self._is_streamed
        start = StartProcess(instruction.process, instruction.environment, boot, blobs, devices, is_streamed)
        self.send(instruction.node, start)

    def calls(self, instruction: SendCalls) -> None:
        """Send calls to a process, and before them the functions that it does not have."""
        pieces = []
        for function in instruction.functions:
            # Of a large one without its bytes: this is remembered for the usage of its calls alone.
            is_small = type(function.payload) is bytes
            self.functions[function.number] = function if is_small else replace(function, payload=b"")
            pieces.append(frames.encode(frames.FUNCTION, _function_body(function)))
        calls = [(call.function.number, call.payload) for call in instruction.calls]
        pieces.append(frames.encode(frames.CALLS, pickle.dumps((instruction.first, calls), PROTOCOL)))
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        looks = [look_s for call in instruction.calls if (look_s := call.function.look_s)]
        blobs = self.blobs.needed(instruction) if BLOBS.live else ()
        look_s = min(looks, default=0.0)
        until = instruction.first + len(calls) if look_s else 0
        self.send(instruction.node, Deliver(instruction.process, data, look_s, until, blobs))


def _hoisted(imports: Imports) -> bytes:
    return frames.encode(frames.IMPORTS, pickle.dumps(imports, PROTOCOL)) if imports else b""


def _function_body(function: FunctionRecord) -> bytes:
    options = function.options
    limits = {} if function.limits is None else function.limits.to_dict()
    settings = {
        "limits": limits,
        "mode": options.mode,
        "timeout_s": options.timeout_s,
        "is_alone": options.is_measured_alone,
    }
    return pickle.dumps((function.number, function.payload, settings), PROTOCOL)
