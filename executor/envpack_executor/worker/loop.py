"""The worker's whole life, as `envpack worker` runs it: memberships with one manager, one after another.

    join ──▶ member ──told to leave, drained, wall time is over──▶ end
    ▲  ▲ │       └──manager silent, or has forgotten us──▶ end all processes ──┐
    │  └─┘ no answer yet: the greeting may be lost                             │
    └───────────────────somebody still listens there───────────────────────────┘

Guarantees: it ends by itself, with everything that it started, when the manager tells it to, when the manager is
silent for longer than the heartbeat allows and does not take it again, on SIGTERM and SIGINT, and when its wall time is
over; if it is asked to, when its standard input ends, too. On a signal and before the end of its wall time calls that
run may end first, within a time; a second signal ends it at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket as sockets
import threading
import time
from collections import deque
from typing import Any

from envpack_executor.errors import ManagerSilentError, RefusedByManagerError
from envpack_executor.worker.events import DrainRequested, Leave
from envpack_executor.worker.membership import Membership, Offer, Term

GRACE_S = 20.0
# Of a short life, no more than this share is spent on ending it.
MOST_GRACE = 0.25
_KNOCK_S = 2.0
# A greeting that nobody has answered for so long may have been lost with its connection; the next waits twice as long.
_FIRST_PATIENCE_S = 4.0


class Worker:
    """One worker.

    Args:
        offer: what it has to offer, and to whom.
        wall_time_s: it is gone after so long; None to stay.
        grace_s: calls that run may end within this time before it leaves.
    """

    def __init__(self, offer: Offer, wall_time_s: float | None = None, grace_s: float = GRACE_S) -> None:
        self._offer = offer
        self._term = None if wall_time_s is None else _term(wall_time_s, grace_s)
        self._grace_s = grace_s
        self._orders: deque[DrainRequested] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def run(self) -> str:
        """Serve until it is time to leave.

        Returns:
            Why it left.

        Raises:
            RefusedByManagerError: the manager does not want this worker, or does not know its key.
            ManagerSilentError: the manager did not answer, or fell silent.
        """
        try:
            return self._verdict(*self._live())
        finally:
            os.close(self._wake)

    def stop(self, reason: str) -> None:
        """Leave when the calls that run have ended; at once, when told so again. For any thread and signal handler."""
        self._orders.append(DrainRequested(reason, time.monotonic() + self._grace_s))
        os.eventfd_write(self._wake, 1)

    def _live(self) -> tuple[str, Leave]:
        """Be a member again and again; return what happened before the last time, and why that ended."""
        formerly, before = "", ""
        while True:
            membership, leave = self._join(formerly)
            if not leave.may_return:
                return before, leave
            formerly, before = membership.identity, f"{leave.reason}; "
            if not _is_listening(self._offer.address):
                return before, Leave(f"nobody listens at {self._offer.address} any more", is_silence=True)

    def _join(self, formerly: str) -> tuple[Membership, Leave]:
        """Greet until there is an answer or no time is left, and be a member; return that, and why it ended."""
        join_by_s = time.monotonic() + self._offer.join_within_s
        patience_s = _FIRST_PATIENCE_S
        while True:
            answer_by_s = min(join_by_s, time.monotonic() + patience_s)
            membership = Membership(self._offer, self._term, self._orders, self._wake, answer_by_s, formerly)
            with contextlib.closing(membership):
                leave = membership.serve()
            if not leave.is_unanswered or answer_by_s >= join_by_s:
                return membership, leave
            formerly = membership.identity
            patience_s *= 2

    def _verdict(self, before: str, leave: Leave) -> str:
        if leave.is_refusal:
            raise RefusedByManagerError(f"refused by the manager at {self._offer.address}: {leave.reason}")
        if leave.is_silence:
            raise ManagerSilentError(before + leave.reason)
        return leave.reason


def _term(wall_time_s: float, grace_s: float) -> Term:
    over_at_s = time.monotonic() + wall_time_s
    return Term(
        f"wall time of {wall_time_s:g} s is over", over_at_s - min(grace_s, MOST_GRACE * wall_time_s), over_at_s
    )


def _is_listening(address: str) -> bool:
    """Tell whether a connection is refused at once; where nobody answers at all, somebody may again later."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        sockets.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        pass  # the network is cut, or the manager's machine is away for now
    return True


def stop_at_end_of_input(worker: Worker) -> None:
    """Let the end of standard input end `worker` at once: whoever holds the other end of a pipe is gone then."""

    def wait() -> None:
        with contextlib.suppress(OSError):  # no such input, or the worker has ended meanwhile
            while os.read(0, 4096):
                pass
            for _ in range(2):  # the second time ends what still runs
                worker.stop("whoever started this worker is gone")

    threading.Thread(target=wait, name="envpack-input", daemon=True).start()


def stop_on_signals(worker: Worker) -> None:
    """Let SIGTERM and SIGINT end `worker` in order; from the main thread."""

    def leave(number: int, frame: Any) -> None:
        worker.stop(f"ended by {signal.Signals(number).name}")

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
