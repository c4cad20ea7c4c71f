"""ZeroMQ sockets in a loop that waits on descriptors."""

from __future__ import annotations

import selectors

import zmq

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]


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
