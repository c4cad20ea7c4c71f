"""Between the history and the predictors: what was remembered is learned again when a run starts."""

from __future__ import annotations

from envpack_monitor.history import History
from envpack_monitor.predict import Predictor
from envpack_monitor.usage import Usage

CALLS_LEARNED = 5_000


def learn(predictor: Predictor, history: History, last: int = CALLS_LEARNED) -> int:
    """Let a predictor observe the newest calls of all categories, in the order in which they ended.

    Args:
        predictor: who learns.
        history: from what.
        last: at most so many calls.

    Returns:
        How many calls were observed.
    """
    calls = [call for call in history.newest(last) if tells_need(call)]
    for call in calls:
        predictor.observe(call.category, call.features, call)
    return len(calls)


def tells_need(call: Usage) -> bool:
    """Tell whether a call shows what such calls need: one that was ended early, or failed, may have needed more."""
    return call.limit_exceeded is None and call.exception is None and call.signal is None and not call.exit_status
