"""Generators and coroutines: they run in steps, and between two steps the process does other people's work.

Each step has its bracket; sums and the largest peak make up the usage of the whole. So ten coroutines that take turns
in one event loop each get their own CPU and their own peak.
"""

from __future__ import annotations

import time
import types
from collections.abc import Generator
from typing import Any, Protocol

from envpack_monitor.calls.bracket import Bracket, Figures

_NOT_SUMMED = ("quality", "started_at", "memory_before_bytes", "peak_memory_bytes")


class _Stepwise(Protocol):
    """What generators, coroutines and the turns of asynchronous generators have in common."""

    def send(self, value: Any, /) -> Any: ...
    def throw(self, error: BaseException, /) -> Any: ...
    def close(self) -> Any: ...


class Steps:
    """The figures of something that runs in steps, put together."""

    def __init__(self) -> None:
        self._bracket = Bracket()
        self._total: Figures = {"started_at": time.time(), "wall_s": 0.0, "quality": "exact"}

    def run(self, method: Any, argument: Any) -> Any:
        """Call `method(argument)` as one step."""
        self._bracket.start()
        try:
            return method(argument) if argument is not _NOTHING else method()
        finally:
            self._add(self._bracket.stop())

    def drive(self, stepwise: _Stepwise) -> Generator[Any, Any, Any]:
        """Run to the end what can be sent values, as `yield from` would, every step in its bracket."""
        method, argument = stepwise.send, None
        while True:
            try:
                item = self.run(method, argument)
            except StopIteration as stop:
                return stop.value
            try:
                argument = yield item
                method = stepwise.send
            except GeneratorExit:
                self.run(stepwise.close, _NOTHING)
                raise
            except BaseException as error:
                method, argument = stepwise.throw, error

    async def wait_for(self, stepwise: _Stepwise) -> Any:
        """Await a coroutine or one turn of an asynchronous generator; the waiting counts as wall time."""
        inside_s, start = float(self._total["wall_s"]), time.perf_counter()
        try:
            return await _awaitable(self, stepwise)
        finally:
            self._total["wall_s"] = inside_s + time.perf_counter() - start

    def figures(self) -> Figures:
        """Return fields of `Usage`, as `Bracket.stop` does."""
        return dict(self._total)

    def _add(self, step: Figures) -> None:
        total = self._total
        if step["quality"] != "exact" and total["quality"] != "upper bound; wall_s: exact":
            total["quality"] = step["quality"]
        for name, value in step.items():
            if name in total and name not in _NOT_SUMMED:
                total[name] = total[name] + value  # type: ignore[operator]  # texts are not summed
            else:
                total.setdefault(name, value)
        if "peak_memory_bytes" in step:
            total["peak_memory_bytes"] = max(total["peak_memory_bytes"], step["peak_memory_bytes"])


@types.coroutine
def _awaitable(steps: Steps, stepwise: _Stepwise) -> Generator[Any, Any, Any]:
    return (yield from steps.drive(stepwise))


_NOTHING = object()
