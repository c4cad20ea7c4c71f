"""Measure, limit, remember and predict what calls use.

Map of the package, room by room:

- `envpack_monitor.usage`, `limits`, `allocation`: the values that cross boundaries. `errors` has every error,
  `settings` every environment variable, `units` the ways in which people write sizes and times.
- `envpack_monitor.calls`: `decorator` is `monitor`, `wrappers`, `recording` and `sums` are what a decorated function
  does. `bracket` and `counters` take the exact figures of one call of this process, in microseconds, by the standard
  library alone; `extras` and `gpu` measure what takes longer. `features` finds numbers in arguments that may explain
  the usage, `cctools` is the decorator of another monitor, `allocator` knows how the C library keeps freed memory.
- `envpack_monitor.isolated`: a call in a child process; `isolate` and `inner` are its two sides, `spawn` is the start
  in a fresh interpreter, `forked` the bracket of a forked one.
- `envpack_monitor.trees`: `command` runs a whole process tree, `attach` looks at one that runs already. `supervise`
  runs what `order` says, `looks` looks at it, `births` and `lives` know who was alive when, `cgroup` has the kernel's
  own sums, `account` makes the figures of all that; `marks` finds what hides, `series` writes down how it went, and
  `mechanisms` tells what works on this machine.
- `envpack_monitor.history`: every usage, per category, in one SQLite file that many processes write; `plots` draws
  it.
- `envpack_monitor.predict`: from a history to the allocation of the next call; pure. `learning` keeps what was
  learned.
- `envpack_monitor.commands`: the subcommands `monitor`, `history` and `predict`; the only room that prints.

The public names are loaded when they are first used, so that `import envpack_monitor` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envpack_monitor.allocation import Allocation
    from envpack_monitor.calls.allocator import return_freed_memory
    from envpack_monitor.calls.bracket import Bracket
    from envpack_monitor.calls.cctools import monitored
    from envpack_monitor.calls.decorator import monitor
    from envpack_monitor.calls.features import features_of
    from envpack_monitor.errors import LimitExceeded, MonitorError, ProcessExited, ProcessKilled
    from envpack_monitor.history.history import History
    from envpack_monitor.history.writer import HistoryWriter
    from envpack_monitor.limits import Limits
    from envpack_monitor.predict import Predictor, default_predictor
    from envpack_monitor.trees.attach import monitor_pid
    from envpack_monitor.trees.command import CommandResult, run_command
    from envpack_monitor.usage import Usage

__all__ = [
    "monitor",
    "monitored",
    "features_of",
    "return_freed_memory",
    "run_command",
    "monitor_pid",
    "CommandResult",
    "Bracket",
    "Usage",
    "Limits",
    "Allocation",
    "History",
    "HistoryWriter",
    "Predictor",
    "default_predictor",
    "MonitorError",
    "LimitExceeded",
    "ProcessExited",
    "ProcessKilled",
]

_HOMES = {
    "monitor": "calls.decorator",
    "monitored": "calls.cctools",
    "features_of": "calls.features",
    "return_freed_memory": "calls.allocator",
    "run_command": "trees.command",
    "monitor_pid": "trees.attach",
    "CommandResult": "trees.command",
    "Bracket": "calls.bracket",
    "Usage": "usage",
    "Limits": "limits",
    "Allocation": "allocation",
    "History": "history.history",
    "HistoryWriter": "history.writer",
    "Predictor": "predict",
    "default_predictor": "predict",
    "MonitorError": "errors",
    "LimitExceeded": "errors",
    "ProcessExited": "errors",
    "ProcessKilled": "errors",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
