"""Where the executor gets its predictor from: what the user passed, or the default one with what the history knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from envpack_executor.manager.usage import HistoryChoice, chosen_history

if TYPE_CHECKING:
    from envpack_executor.manager.sizing import Sizer
    from envpack_monitor.allocation import Allocation
    from envpack_monitor.predict import Predictor

AllocationChoice = Literal["auto"] | None
"""Besides these a user may pass a `Predictor`."""


def make_sizer(choice: Predictor | AllocationChoice, history: HistoryChoice, node: Allocation | None) -> Sizer | None:
    """Return what says how much calls are promised, or None where nothing is.

    Args:
        choice: `auto`, a predictor, or None.
        history: where the default predictor learns from.
        node: what the largest node has, if that is known.

    Raises:
        TypeError: the choice is none of these.
        HistoryError: the history cannot be read.
    """
    if choice is None:
        return None
    from envpack_executor.manager.sizing import Sizer

    if choice == "auto":
        return Sizer(_default(history, node))
    if not callable(getattr(choice, "predict", None)) or not callable(getattr(choice, "retry", None)):
        raise TypeError(f"allocations is {choice!r}, expected None, 'auto' or a predictor")
    return Sizer(choice)


def _default(history: HistoryChoice, node: Allocation | None) -> Predictor:
    from envpack_monitor.history.history import History
    from envpack_monitor.learning import open_predictor
    from envpack_monitor.predict import default_predictor

    path = chosen_history(history)
    if path is None:
        return default_predictor(node)
    return open_predictor(History(path), node)
