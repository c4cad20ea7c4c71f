"""What becomes of a call that ended: features, limits, a row of the history or a part of a sum, the callback."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from envpack_monitor.calls.bracket import Figures
from envpack_monitor.calls.extras import Extras
from envpack_monitor.calls.features import finder_of
from envpack_monitor.calls.sums import CallSums
from envpack_monitor.errors import FormatError, LimitExceeded
from envpack_monitor.history.writer import HistoryWriter
from envpack_monitor.limits import Limits, measured_fields
from envpack_monitor.settings import ROWS_PER_S
from envpack_monitor.usage import Usage

Isolation = Literal[False, "fork", "spawn"]
Features = Callable[..., Mapping[str, float]] | Mapping[str, float] | Literal[False] | None

NO_FEATURES: Mapping[str, float] = {}


@dataclass(slots=True, kw_only=True)
class Recording:
    """The options of a monitor, and what they say about a call.

    Args:
        category: which calls are alike.
        limits: how much a call may use.
        features: what the user says explains the usage; `False` for nothing, not even what is found in the arguments.
        callback: called with the usage of each call.
        return_usage: a call returns `(result, usage)`.
        isolate: how a call gets a process of its own.
        folder: whose growth is measured.
        shared_out: measure memory with shared pages shared out.
        history: whether and where calls are remembered.
    """

    category: str
    limits: Limits | None = None
    features: Features = None
    callback: Callable[[Usage], object] | None = None
    return_usage: bool = False
    isolate: Isolation = False
    folder: str | os.PathLike[str] | None = None
    shared_out: bool = False
    history: HistoryWriter | bool = True
    _sums: dict[tuple[str | None, str | None], CallSums] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.limits is not None and self.limits.disk_bytes is not None and self.folder is None:
            raise FormatError("limits: disk needs a folder to measure", "folder=...")

    def tells_each_call(self) -> bool:
        """Tell whether somebody wants to know of each call more than the history does."""
        wanted = (self.callback, self.limits, self.folder)
        return self.return_usage or self.shared_out or any(each is not None for each in wanted)

    def features_of(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, float]:
        """Return what is found in the arguments of a call, and what the user says of them, which wins."""
        told = self.features
        if told is False:
            return NO_FEATURES
        found = finder_of(function).find(args, kwargs) if args or kwargs else NO_FEATURES
        if told is None:
            return found
        return {**found, **self.told_features(told(*args, **kwargs) if callable(told) else told)}

    @staticmethod
    def told_features(told: Mapping[str, float]) -> dict[str, float]:
        """Return features as numbers."""
        return {name: float(value) for name, value in told.items()}

    def extras(self) -> Extras:
        """Begin to measure what is measured besides the bracket."""
        return Extras(self.folder, self.shared_out)

    def finish(self, figures: Figures, features: Mapping[str, float], error: BaseException | None) -> dict[str, Any]:
        """Complete the figures of a call and give them to the history and to the callback."""
        whole: dict[str, Any] = figures
        whole["category"] = self.category
        if features:
            whole["features"] = features
        if error is not None:
            whole["exception"] = type(error).__name__
        if self.limits is not None and not self.isolate:
            self._note_excess(whole)
        self._record(whole)
        if self.callback is not None:
            self.callback(Usage(**whole))
        return whole

    def result(self, result: Any, figures: dict[str, Any]) -> Any:
        """Return what the call shall return; raise if it exceeded a limit."""
        self.check(figures)
        return (result, Usage(**figures)) if self.return_usage else result

    def check(self, figures: Mapping[str, Any]) -> None:
        """Raise what a call in this process exceeded; an isolated one was checked while it ran."""
        if self.limits is None or figures.get("limit_exceeded") is None:
            return
        for resource, allowed, measured in self.limits.exceeded_by(**measured_fields(figures)):
            raise LimitExceeded(resource, allowed, measured, self.category, os.getpid())

    def writer(self) -> HistoryWriter | None:
        """Return who writes the history, if one is kept."""
        if isinstance(self.history, HistoryWriter):
            return self.history
        from envpack_monitor.history.recorder import default_writer

        return default_writer() if self.history else None

    def sums_of(self, exception: str | None = None, limit_exceeded: str | None = None) -> CallSums:
        """Return the sums of calls that ended alike."""
        found = self._sums.get((exception, limit_exceeded))
        if found is None:
            common = {"category": self.category, "exception": exception, "limit_exceeded": limit_exceeded}
            common = {name: value for name, value in common.items() if value is not None}
            found = self._sums.setdefault((exception, limit_exceeded), CallSums(common))
        return found

    def watch(self, sums: CallSums) -> None:
        """See that the sums are taken, before long, by the writer of the history."""
        if (writer := self.writer()) is not None:
            writer.watch(sums)
        elif not self.history:
            sums.is_watched = True

    def admit_row(self, sums: CallSums) -> HistoryWriter | None:
        """Note that a call becomes a row, and return who writes it."""
        writer = self.writer()
        sums.count_row(ROWS_PER_S if writer is None else writer.rows_per_s)
        return writer

    def _record(self, figures: dict[str, Any]) -> None:
        """Make the call a row of the history, or where calls come fast, a part of a sum of such that ended alike."""
        sums = self.sums_of(figures.get("exception"), figures.get("limit_exceeded"))
        if sums.skip <= 0:
            if (writer := self.admit_row(sums)) is not None:
                writer.put(figures)
            return
        sums.skip -= 1
        sums.add(figures)
        if not sums.is_watched:
            self.watch(sums)

    def _note_excess(self, figures: dict[str, Any]) -> None:
        assert self.limits is not None
        for resource, _, _ in self.limits.exceeded_by(**measured_fields(figures)):
            figures["limit_exceeded"] = resource
            return
