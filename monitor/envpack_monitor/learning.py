"""Between the history and the predictors: what was remembered is learned once, and kept learned between runs.

What is saved is a function of the calls in the history alone: a run begins with what was saved last, learns the calls
that were written since, its own and those of others, and saves that. So no call counts twice, and none is missed.
"""

from __future__ import annotations

import io
import logging
import pickle
import zlib
from dataclasses import replace
from typing import Any

from envpack_monitor.allocation import Allocation
from envpack_monitor.errors import HistoryError
from envpack_monitor.history.history import History
from envpack_monitor.predict import BestLadder, FailedRun, Predictor, killed_at_end
from envpack_monitor.usage import Usage

CALLS_LEARNED = 5_000
STATE_VERSION = 1
"""Of the form of what is saved; to be raised with each change of the classes that a `BestLadder` consists of."""

_MODULES = {"envpack_monitor.allocation"} | {
    f"envpack_monitor.predict.{name}" for name in ("experts", "failed", "location", "newcomers", "residuals")
}
_BUILT_IN = {("array", "_array_reconstructor"), ("array", "array"), ("collections", "deque"), ("copyreg", "__newobj__")}

_log = logging.getLogger(__name__)


def learn(predictor: Predictor, history: History, last: int = CALLS_LEARNED) -> int:
    """Let a predictor observe the newest calls of all categories, in the order in which they ended.

    Args:
        predictor: who learns.
        history: from what.
        last: at most so many calls.

    Returns:
        How many calls were observed.
    """
    calls, _ = history.since(0, last)
    return _observe(predictor, calls)


def open_predictor(
    history: History, node: Allocation | None = None, failed: FailedRun = killed_at_end, last: int = CALLS_LEARNED
) -> BestLadder:
    """Return a predictor of the default policy that knows the history, and save what it has learned.

    Args:
        history: from what; a state that cannot be saved is only logged.
        node: what the largest node has.
        failed: the share of its run that a failed attempt is expected to cost.
        last: of the calls that are new since the last time at most so many of the newest.

    Raises:
        HistoryError: the history cannot be read.
    """
    name = f"default-{zlib.crc32(repr(failed.points).encode()):08x}"
    predictor, seen_id = _load(history, name) or (BestLadder(node, failed=failed), 0)
    predictor.move_to(node)
    calls, newest_id = history.since(seen_id, last)
    if _observe(predictor, calls):
        try:
            history.save_state(name, pickle.dumps(predictor, pickle.HIGHEST_PROTOCOL), newest_id, STATE_VERSION)
        except HistoryError as error:
            _log.warning("%s; what was learned is learned again the next time", error)
    return predictor


def tells_need(call: Usage) -> bool:
    """Tell whether a call shows what such calls need: one that was ended early, or failed, may have needed more."""
    return call.limit_exceeded is None and call.exception is None and call.signal is None and not call.exit_status


def _observe(predictor: Predictor, calls: list[Usage]) -> int:
    telling = [_as_one_call(call) for call in calls if tells_need(call)]
    for call in telling:
        predictor.observe(call.category, call.features, call)
    return len(telling)


def _as_one_call(call: Usage) -> Usage:
    """Return the exact aggregate of many calls as one: their means, and their largest peak."""
    if call.calls == 1:
        return call
    cpu_s = {name: value / call.calls for name in ("cpu_user_s", "cpu_system_s") if (value := getattr(call, name))}
    return replace(call, wall_s=call.wall_s / call.calls, calls=1, **cpu_s)


def _load(history: History, name: str) -> tuple[BestLadder, int] | None:
    saved = history.load_state(name)
    if saved is None or saved.version != STATE_VERSION:
        return None
    try:
        predictor = _Loader(io.BytesIO(saved.data)).load()
    except Exception as error:
        # Whatever a damaged pickle raises: the calls are still there to be learned from.
        _log.warning("what was learned from history %s cannot be loaded (%r); it is learned again", history.path, error)
        return None
    return (predictor, saved.seen_id) if isinstance(predictor, BestLadder) else None


class _Loader(pickle.Unpickler):
    """Loads nothing but the classes of the predictor: a history may come from somebody else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _BUILT_IN:
            return super().find_class(module, name)
        if module in _MODULES and "." not in name and isinstance(found := super().find_class(module, name), type):
            return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a predictor")
