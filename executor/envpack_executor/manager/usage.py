"""Where the usage of calls goes: a sum per category for `stats()`, and the history of the monitor.

A call that was measured alone becomes one row of the history. Calls too short for that arrive as exact sums; they are
summed further and written once a second, because a history with a row per microsecond call would cost more than they.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from envpack_executor.manager.state import Call, FunctionRecord, ProcessRecord
from envpack_executor.pickling import load_outcome

if TYPE_CHECKING:
    from envpack_monitor.history.writer import HistoryWriter

HistoryChoice = str | os.PathLike[str] | None | Literal["default"]
WRITE_SUMS_EVERY_S = 1.0
OPEN_AFTER_S = 0.1
_LARGEST = frozenset({"peak_memory_bytes", "memory_before_bytes"})
_FIRST = frozenset({"started_at", "quality", "category"})


@dataclass(slots=True)
class CategoryUsage:
    """What the calls of one category have used so far.

    Args:
        calls: how many.
        wall_s: their wall time in seconds, summed.
        cpu_s: their processor time in seconds, user and system, summed.
        peak_memory_bytes: the largest peak of any.
    """

    calls: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0


def chosen_history(choice: HistoryChoice) -> str | os.PathLike[str] | None:
    """Return the file of the history that was chosen; None where none shall be kept."""
    from envpack_monitor.settings import history_path

    return history_path() if choice == "default" else choice


def excess_of(function: FunctionRecord, figures: Mapping[str, Any]) -> tuple[str, float, float] | None:
    """Return (resource, allowed, measured) of the first limit that a call exceeded; None when it kept them all."""
    if function.limits is None:
        return None
    from envpack_monitor.limits import measured_fields

    return next(function.limits.exceeded_by(**measured_fields(figures)), None)


def load_limited(function: FunctionRecord, outcome: Any) -> tuple[Any, BaseException | None]:
    """Return the outcome of a call that has limits; one that exceeded them ends with `LimitExceeded`."""
    from envpack_monitor.errors import LimitExceeded

    inner, figures, pid = outcome
    value, error = load_outcome(inner)
    excess = excess_of(function, figures)
    if excess is None:
        return value, error
    exceeded = LimitExceeded(*excess, function.category, pid)
    exceeded.__cause__ = error
    return None, exceeded


def killed_figures(call: Call) -> dict[str, Any]:
    """Return what is known of a call that its node has killed."""
    troubles = call.met()
    found = {"started_at": time.time() - troubles.ran_s, "wall_s": troubles.ran_s, "quality": "lower bound"}
    return found | ({"peak_memory_bytes": troubles.memory_bytes} if troubles.memory_bytes else {})


def call_at(process: ProcessRecord | None, number: int) -> Call | None:
    """Return the call with this number at a process, if it has no end yet; -1 is the number of none."""
    if process is None or number < 0:
        return None
    index = number - process.first
    return process.outstanding[index] if 0 <= index < len(process.outstanding) else None


class UsageSink:
    """Takes the usage of calls from the loop's thread.

    The history is opened, and what it needs is imported, in a thread of its own and a moment later: that takes longer
    than the first calls do, and their caller waits for the interpreter's lock. What comes meanwhile is kept.

    Args:
        history: file of the history, `default` for the monitor's own choice, None to keep none.
    """

    def __init__(self, history: HistoryChoice) -> None:
        self.categories: dict[str, CategoryUsage] = {}
        self._choice = history
        self._writer: HistoryWriter | None = None
        self._opener: threading.Thread | None = None
        self._closes = threading.Event()
        self._early: deque[dict[str, Any]] = deque()
        self._is_writing = history is not None
        self._sums: dict[str, dict[str, Any]] = {}
        self._written_at_s = time.monotonic()

    def add(self, usages: Iterable[tuple[FunctionRecord, int, Mapping[str, Any], Mapping[str, float] | None]]) -> None:
        """Take usages as (function, number of calls, figures of all of them, features of the call if it is one)."""
        for function, calls, figures, features in usages:
            self._count(function.category, calls, figures)
            if not self._is_writing:
                continue
            row = {**figures, "category": function.category, "calls": calls}
            if features:
                row["features"] = dict(features)
            if (excess := excess_of(function, figures)) is not None:
                row["limit_exceeded"] = excess[0]
            if calls == 1:
                self._put(row)
            else:
                self._sum(function.category, row)
        if self._sums and time.monotonic() - self._written_at_s > WRITE_SUMS_EVERY_S:
            self._write_sums()

    def close(self) -> None:
        """Write what has been summed, and end the writer of the history."""
        self._write_sums()
        self._closes.set()
        if self._opener is not None:
            self._opener.join()
        if self._writer is not None:
            self._hand_over(self._writer)
            self._writer.close()

    def _count(self, category: str, calls: int, figures: Mapping[str, Any]) -> None:
        total = self.categories.get(category)
        if total is None:
            total = self.categories[category] = CategoryUsage()
        total.calls += calls
        total.wall_s += figures["wall_s"]
        total.cpu_s += figures.get("cpu_user_s", 0.0) + figures.get("cpu_system_s", 0.0)
        total.peak_memory_bytes = max(total.peak_memory_bytes, figures.get("peak_memory_bytes", 0))

    def _sum(self, category: str, row: dict[str, Any]) -> None:
        known = self._sums.get(category)
        if known is None:
            self._sums[category] = row
            return
        for name, value in row.items():
            if name in _LARGEST:
                known[name] = max(known.get(name, 0), value)
            elif name not in _FIRST:
                known[name] = known.get(name, 0) + value

    def _write_sums(self) -> None:
        for row in self._sums.values():
            self._put(row)
        self._sums = {}
        self._written_at_s = time.monotonic()

    def _put(self, row: dict[str, Any]) -> None:
        self._early.append(row)
        if self._writer is not None:
            self._hand_over(self._writer)
        elif self._opener is None:
            self._start_to_open()

    def _start_to_open(self) -> None:
        self._opener = opener = threading.Thread(target=self._open, name="envpack-history-opener", daemon=True)
        try:
            opener.start()
        except RuntimeError:  # while the interpreter ends it starts no threads, but calls still run
            self._opener = None
            self._closes.set()
            self._open()

    def _hand_over(self, writer: HistoryWriter) -> None:
        """Give the writer what has come; the loop's thread and the opening one may do so at the same time."""
        while self._early:
            try:
                writer.put(self._early.popleft())
            except IndexError:
                return

    def _open(self) -> None:
        self._closes.wait(OPEN_AFTER_S)
        from envpack_monitor.history.history import History
        from envpack_monitor.history.writer import HistoryWriter

        path = chosen_history(self._choice)
        if path is None:
            self._is_writing = False
            self._early.clear()
            return
        # The loop's thread sees the writer first and hands over what has come; what came just before, this one does.
        self._writer = writer = HistoryWriter(History(path))
        self._hand_over(writer)
