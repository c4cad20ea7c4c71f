"""What becomes of the futures: the only place where they are claimed, and given their ends.

All of it runs in the manager's thread, but for a call that its caller withdraws before it has begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from envpack_executor.futures import CallFuture
from envpack_executor.manager.state import Call
from envpack_executor.manager.usage import load_limited
from envpack_executor.pickling import load_outcome, twin

if TYPE_CHECKING:
    from envpack_executor.manager.journal import Journal


def future_of(call: Call) -> CallFuture[Any]:
    """Return the future of a call, which is the call itself."""
    assert isinstance(call, CallFuture)  # as `submit` makes them all
    return call


def is_cancelled(call: Call) -> bool:
    """Tell whether a call was cancelled, and change nothing."""
    return future_of(call).cancelled()


def claim(call: Call) -> bool:
    """Tell whether a call is still wanted; if it is, it cannot be cancelled from here on."""
    return future_of(call).set_running_or_notify_cancel()


def claim_and_tell(journal: Journal, call: Call) -> bool:
    """Claim a call, and write down if it is not wanted any more."""
    is_claimed = claim(call)
    if not is_claimed:
        journal.calls("call cancelled", [call], reason="cancelled before it began")
    return is_claimed


def cancel(call: Call) -> None:
    """End a call as cancelled that has not begun."""
    future = future_of(call)
    future.cancel()
    future.set_running_or_notify_cancel()


def settle(call: CallFuture[Any], outcome: Any) -> None:
    """Give a call its end; who keeps its future need not keep its arguments."""
    call.payload = b""
    if outcome is None:
        call.set_result(None)
        return
    value, error = load_outcome(outcome) if call.function.limits is None else load_limited(call.function, outcome)
    if error is None:
        call.set_result(value)
    else:
        fail(call, error)


def fail_all(calls: Sequence[Call], error: BaseException) -> None:
    """Let calls end with an error; those with a story of their own get an error of their own that tells it."""
    for call in calls:
        is_shared = len(calls) > 1 and call.troubles is not None
        fail(future_of(call), twin(error) if is_shared else error)


def fail(call: CallFuture[Any], error: BaseException) -> None:
    """Let a call end with an error, which tells the story of its earlier tries."""
    call.payload = b""
    if call.troubles is not None and call.troubles.failures:
        tries = call.troubles.failures + call.losses
        error.add_note("\n".join([f"earlier tries: {len(tries)}", *(f"  {how}" for how in tries)]))
    if call.troubles is not None and call.troubles.last_words:
        error.add_note(f"stderr of the process that was lost ended with:\n{call.troubles.last_words}")
    call.set_exception(error)


def end_ticket(ticket: Future[None], error: BaseException | None) -> None:
    """End the future of a preparation, unless somebody has cancelled it."""
    if ticket.done():
        return
    if error is None:
        ticket.set_result(None)
    else:
        ticket.set_exception(error)


def fate(call: CallFuture[Any]) -> str:
    """Say how a call ended."""
    if call.cancelled():
        return "cancelled"
    error = call.exception()
    return "done" if error is None else f"failed: {type(error).__name__}: {error}"
