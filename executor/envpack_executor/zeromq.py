"""ZeroMQ sockets in a loop that waits on descriptors, and messages in frames of bounded length.

Whoever receives must make room for a whole frame, and ZeroMQ does so before it knows who sends. So frames are short,
both ends refuse longer ones, and a long message is several.
"""

from __future__ import annotations

import selectors

import zmq

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]

MAX_FRAME_BYTES = 1 << 18
_PIECE_BYTES = MAX_FRAME_BYTES - 1024  # encryption adds some bytes


def limit_frames(socket: Socket) -> None:
    """Let `socket` hang up on a peer that announces a longer frame; before it is bound or connected."""
    socket.maxmsgsize = MAX_FRAME_BYTES


def split(data: bytes) -> list[bytes | memoryview]:
    """Return a message as frames; `b"".join` of them is the message again."""
    if len(data) <= _PIECE_BYTES:
        return [data]
    whole = memoryview(data)
    return [whole[start : start + _PIECE_BYTES] for start in range(0, len(data), _PIECE_BYTES)]


def has_input(socket: Socket) -> bool:
    """Tell whether a message can be received without waiting."""
    events = socket.get(zmq.EVENTS)
    assert isinstance(events, int)
    return bool(events & zmq.POLLIN)


def wake_on(selector: selectors.BaseSelector, socket: Socket) -> None:
    """Let `selector` return when `socket` changes.

    The descriptor of a ZeroMQ socket tells changes, not states, and also those that sending has used up. So whoever
    waits asks `has_input` until it says no, each time before it waits.
    """
    descriptor = socket.get(zmq.FD)
    assert isinstance(descriptor, int)
    selector.register(descriptor, selectors.EVENT_READ, _ignore)


def _ignore(mask: int) -> None:
    pass
