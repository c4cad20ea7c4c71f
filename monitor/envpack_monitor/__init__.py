"""Measure, limit, remember and predict what calls use.

Map of the package:

- `envpack_monitor.decorator`: `monitor`, the decorator and context manager; `envpack_monitor.isolate` runs a call in a
  child process: its two sides are `isolate` and `inner`, `spawn` is the start in a fresh interpreter, `marks` finds
  what hides.
- `envpack_monitor.command`: a whole process tree; `order` says what to run, `supervise` runs it, `looks` looks at it,
  `births` and `lives` know who was alive when, `cgroup` has the kernel's own sums, `account` makes the figures of all
  that. `attach` looks at a tree that runs already, `series` writes down how it went, `mechanisms` tells what works.
- `envpack_monitor.bracket`, `counters`: the exact figures of one call of this process, in microseconds, by the standard
  library alone. `extras` and `gpu` measure what takes longer; `wrappers`, `recording` and `sums` are what a decorated
  function does with them.
- `envpack_monitor.features`: numbers in the arguments of a call that may explain its usage; `envpack_monitor.cctools`:
  the decorator of another monitor; `envpack_monitor.allocator`: how the C library keeps freed memory.
- `envpack_monitor.usage`, `limits`, `allocation`: the values that cross boundaries.
- `envpack_monitor.history`: every usage, per category, in one SQLite file that many processes write.
- `envpack_monitor.predict`: from a history to the allocation of the next call; pure.
- `envpack_monitor.commands`: the subcommands `monitor`, `history` and `predict`; the only room that prints.
- `envpack_monitor.errors`, `envpack_monitor.settings`: every error, every environment variable.

The public names are loaded when they are first used, so that `import envpack_monitor` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envpack_monitor.allocation import Allocation
    from envpack_monitor.allocator import return_freed_memory
    from envpack_monitor.attach import monitor_pid
    from envpack_monitor.bracket import Bracket
    from envpack_monitor.cctools import monitored
    from envpack_monitor.command import CommandResult, run_command
    from envpack_monitor.decorator import monitor
    from envpack_monitor.errors import LimitExceeded, MonitorError, ProcessExited, ProcessKilled
    from envpack_monitor.features import features_of
    from envpack_monitor.history import History
    from envpack_monitor.limits import Limits
    from envpack_monitor.predict import Predictor, default_predictor
    from envpack_monitor.usage import Usage
    from envpack_monitor.writer import HistoryWriter

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
    "monitor": "decorator",
    "monitored": "cctools",
    "features_of": "features",
    "return_freed_memory": "allocator",
    "run_command": "command",
    "monitor_pid": "attach",
    "CommandResult": "command",
    "Bracket": "bracket",
    "Usage": "usage",
    "Limits": "limits",
    "Allocation": "allocation",
    "History": "history",
    "HistoryWriter": "writer",
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
