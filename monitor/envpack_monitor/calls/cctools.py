"""`monitored`: the decorator of the resource monitor of cctools, by its signature and its units.

What it does is `monitor(isolate="fork", return_usage=True)`; programs that were written for the other one find their
names here: limits and figures by the names in `_LIMITS` and `_FIGURES`, memory and disk in units of 2**20 bytes, times
in seconds. What is exceeded raises this package's `LimitExceeded`.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from envpack_monitor.calls.decorator import category_of
from envpack_monitor.calls.recording import Recording
from envpack_monitor.errors import FormatError
from envpack_monitor.isolated.isolate import run_isolated
from envpack_monitor.limits import Limits
from envpack_monitor.trees import tree
from envpack_monitor.usage import Usage

MEGABYTE = 1 << 20

_LIMITS: dict[str, tuple[str, Callable[[float], float]]] = {
    "wall_time": ("wall_s", float),
    "cpu_time": ("cpu_s", float),
    "memory": ("memory_bytes", lambda megabytes: int(megabytes * MEGABYTE)),
    "disk": ("disk_bytes", lambda megabytes: int(megabytes * MEGABYTE)),
    "max_concurrent_processes": ("processes", int),
}
_FIGURES: dict[str, Callable[[Usage], float | None]] = {
    "wall_time": lambda usage: usage.wall_s,
    "cpu_time": lambda usage: usage.cpu_s,
    "cores_avg": lambda usage: usage.cores,
    "memory": lambda usage: _megabytes(usage.peak_memory_bytes),
    "disk": lambda usage: _megabytes(usage.disk_bytes),
    "bytes_read": lambda usage: usage.bytes_read,
    "bytes_written": lambda usage: usage.bytes_written,
    "max_concurrent_processes": lambda usage: usage.processes_max,
    "total_processes": lambda usage: usage.processes_total,
}
_numbers = itertools.count(1)

Callback = Callable[[str, str, int, dict[str, float]], object]


def monitored(
    limits: Mapping[str, float] | None = None,
    callback: Callback | None = None,
    interval: float = 1,
    return_resources: bool = True,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator after which each call runs in a forked child, measured and limited.

    Args:
        limits: by name: `wall_time` and `cpu_time` in seconds, `memory` and `disk` (of the working directory) in units
            of 2**20 bytes, `max_concurrent_processes`.
        callback: called as `callback(id, name, step, resources)` every `interval` seconds while the call runs, from a
            thread of this process, with what its processes use at that moment; and at the end with step -1 and the
            figures of the whole call. `id` is a number of the call as text, `name` that of the function.
        interval: seconds between two measurements for the callback; the figures at the end do not depend on it.
        return_resources: a call returns `(result, resources)`; otherwise its result alone.

    Raises:
        FormatError: a limit that is not known, or not positive.
        LimitExceeded: by a call that used more than it was allowed; everything that it started is ended.
    """
    checked = _limits(limits)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        folder = os.curdir if checked is not None and checked.disk_bytes is not None else None
        recording = Recording(category=category_of(function), limits=checked, isolate="fork", folder=folder)
        name = getattr(function, "__name__", recording.category)

        @functools.wraps(function, updated=())
        def call(*args: Any, **kwargs: Any) -> Any:
            steps = None if callback is None else _Steps(callback, name, interval)
            called = function if steps is None else steps.announcing(function)
            features = recording.features_of(function, args, kwargs)
            try:
                outcome = run_isolated(
                    called, args, kwargs, limits=checked, category=recording.category, folder=recording.folder
                )
            finally:
                if steps is not None:
                    steps.end()
            usage = Usage(**recording.finish(outcome.figures, features, outcome.error))
            resources = {name: value for name, tell in _FIGURES.items() if (value := tell(usage)) is not None}
            if steps is not None:
                steps.tell(-1, resources)
            if outcome.error is not None:
                raise outcome.error
            return (outcome.result, resources) if return_resources else outcome.result

        return call

    return decorate


class _Steps:
    """Tells a callback what a call in a child uses, every so many seconds, from a thread."""

    def __init__(self, callback: Callback, name: str, interval_s: float) -> None:
        self._callback, self._name, self._interval_s = callback, name, interval_s
        self._id = str(next(_numbers))
        self._read_end, self._write_end = os.pipe()
        self._start = time.perf_counter()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="envpack-monitored", daemon=True)
        self._thread.start()

    def announcing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that first says in which process it is."""

        def announced(*args: Any, **kwargs: Any) -> Any:
            os.write(self._write_end, os.getpid().to_bytes(8, "little"))
            os.close(self._write_end)
            os.close(self._read_end)
            return function(*args, **kwargs)

        return announced

    def tell(self, step: int, resources: dict[str, float]) -> None:
        """Call the callback."""
        self._callback(self._id, self._name, step, resources)

    def end(self) -> None:
        """Tell no further step."""
        self._is_over.set()
        os.close(self._write_end)
        self._thread.join()
        os.close(self._read_end)

    def _look(self) -> None:
        # Nothing comes if the child could not begin.
        pid = int.from_bytes(os.read(self._read_end, 8), "little")
        for step in itertools.count(1):
            now = tree.sample([pid, *tree.descendants(pid)]) if pid else None
            # A look may come when the process is ending and has no memory any more: that is no step.
            if now is None or not now.memory_bytes or self._is_over.is_set():
                return
            self.tell(step, self._figures(now))
            self._is_over.wait(self._interval_s)

    def _figures(self, now: tree.TreeSample) -> dict[str, float]:
        wall_s = time.perf_counter() - self._start
        return {
            "wall_time": wall_s,
            "cpu_time": now.cpu_s,
            "cores_avg": now.cpu_s / wall_s,
            "memory": math.ceil(now.memory_bytes / MEGABYTE),
            "max_concurrent_processes": now.processes,
        }


def _limits(limits: Mapping[str, float] | None) -> Limits | None:
    if not limits:
        return None
    if unknown := sorted(set(limits) - set(_LIMITS)):
        raise FormatError(f"limits: one of {', '.join(_LIMITS)} expected, {', '.join(unknown)} met")
    values: dict[str, Any] = {
        field: convert(limits[name]) for name, (field, convert) in _LIMITS.items() if name in limits
    }
    return Limits(**values)


def _megabytes(size: int | None) -> int | None:
    return None if size is None else math.ceil(size / MEGABYTE)
