"""Idle processes lent to whoever submits next: a call that need not wait is sent by the thread that submits it.

    loop, before it sleeps:   idle process ──lend──▶ loans of its context
    submitting thread:        takes a loan, notes its call in the inbox, writes the call to the process, wakes the loop
    loop, when it wakes:      recalls what nobody has taken, then takes the inbox; the result comes to it as any other

So the call runs while the loop takes note of it, instead of after that. Guarantees: while a process is lent, the loop
sends it nothing and ends it for nothing; a loan is taken by one thread alone (both ends of a `deque` are atomic); a
thread that is interrupted with a loan in its hand costs the process its life, and its call is run again elsewhere.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envpack_executor.manager.state import Call, ContextRecord, ProcessRecord
from envpack_executor.pickling import PROTOCOL
from envpack_executor.process import frames

if TYPE_CHECKING:
    from envpack_executor.messages import NodeId, ProcessId

SendNow = Callable[[bytes], int]
# So many processes are lent at once: each is recalled whenever the loop wakes.
MOST_LOANS = 8
# A longer call gains nothing, and the loop should know of it at once.
LENT_BELOW_S = 0.005
# What the buffer of an idle process takes at once for certain.
MOST_BYTES = 1 << 15


# Without a repr: a `deque` that does not hold what shall be removed writes it into its error, and in this one stand a
# process, its context, and all bytes of that.
@dataclass(slots=True, eq=False, repr=False)
class Loan:
    """The right to send one call to an idle process.

    Args:
        process: which; its record is only read.
        send: writes to its socket without blocking; returns how many bytes it took.
    """

    process: ProcessRecord
    send: SendNow


def take(call: Call) -> Loan | None:
    """Take a loan for a call, from any thread; None where there is none or where the call needs more than a loan."""
    function = call.function
    if not function.is_plain or not (0.0 < (function.estimate_s or 0.0) < LENT_BELOW_S):
        return None
    if type(call.payload) is not bytes or len(call.payload) > MOST_BYTES:  # a larger one, or one that needs blobs
        return None
    loans: deque[Loan] = call.context.loans
    try:
        loan = loans.pop()
    except IndexError:
        return None
    if function.number not in loan.process.known:
        loans.append(loan)
        return None
    return loan


def frame_of(call: Call, loan: Loan) -> bytes:
    """Return the frame with which a call goes to a lent process."""
    body = pickle.dumps((loan.process.sent, [(call.function.number, call.payload)]), PROTOCOL)
    return frames.encode(frames.CALLS, body)


class Lender:
    """The loop's side.

    Args:
        sender: returns what writes to a process of a node at once; None where that cannot be.
    """

    def __init__(self, sender: Callable[[NodeId, ProcessId], SendNow | None]) -> None:
        self._sender = sender
        self._idle: dict[ProcessId, ProcessRecord] = {}
        self._out: list[Loan] = []

    def note_idle(self, process: ProcessRecord) -> None:
        """Note that a process has answered all its calls."""
        self._idle[process.process] = process
        if len(self._idle) > MOST_LOANS:
            del self._idle[next(iter(self._idle))]

    def lend(self) -> None:
        """Lend the processes that are idle still, before the loop sleeps."""
        for process in list(self._idle.values()):
            context = process.context
            send = self._sender(process.node.node, process.process) if _may_be_lent(process, context) else None
            if send is None:
                del self._idle[process.process]
                continue
            process.is_lent = True
            loan = Loan(process, send)
            self._out.append(loan)
            context.loans.append(loan)

    def recall(self) -> None:
        """Take back what nobody has taken, before the loop does anything else."""
        for loan in self._out:
            try:
                loan.process.context.loans.remove(loan)
                loan.process.is_lent = False
            except ValueError:
                # Somebody has it: its call is in the inbox or will be; it looks for the process to be lent.
                self._idle.pop(loan.process.process, None)
        self._out.clear()


def _may_be_lent(process: ProcessRecord, context: ContextRecord) -> bool:
    return process.is_idle and not context.queue and not context.is_fresh
