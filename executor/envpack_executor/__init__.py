"""Run calls in retained contexts: warm processes with the environment, the code and the set-up result of a function.

Map of the package:

- `executor`, `tasks`: the faces, `ContextExecutor` and `@task`; `mapping` is `map`, `futures` what `submit` returns.
- `resolving`, `context`, `environments`, `pickling`: which warm process a call belongs to, what its environment is, its
  bytes.
- `manager`, `worker`: mirror images, each with `state`, `reactor` (pure) and a loop; `messages` is what they say.
- `linewriter`: the file of the event log.
- `values`, `bulk`: large values, which are held once and named in calls, and the channel on which they travel.
- `process`: what runs inside a context process, standard library alone.
- `nodes`, `curve`: workers on other machines, and the keys without which nobody joins; `blocks`: as many as calls want.
- `commands`: `envpack run` and `envpack worker`.
- `extras`: what a plug needs that is not installed with the rest.
- `errors`, `settings`: every error, every environment variable.

The public names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envpack_executor.errors import ExecutorError
    from envpack_executor.executor import ContextExecutor, ExecutorStats
    from envpack_executor.manager.overview import NodeStatus
    from envpack_executor.manager.residence import ContextUse
    from envpack_executor.manager.sized import Promise, Wait
    from envpack_executor.nodes import Heartbeat, NodeSource, RemoteNodes
    from envpack_executor.tasks import Task, task
    from envpack_executor.values.references import Kept

__all__ = [
    "ContextExecutor",
    "task",
    "Task",
    "Kept",
    "NodeSource",
    "RemoteNodes",
    "Heartbeat",
    "ExecutorStats",
    "ContextUse",
    "NodeStatus",
    "Promise",
    "Wait",
    "ExecutorError",
]

_HOMES = {
    "ContextExecutor": "envpack_executor.executor",
    "ExecutorStats": "envpack_executor.executor",
    "ContextUse": "envpack_executor.manager.residence",
    "NodeStatus": "envpack_executor.manager.overview",
    "Promise": "envpack_executor.manager.sized",
    "Wait": "envpack_executor.manager.sized",
    "NodeSource": "envpack_executor.nodes",
    "RemoteNodes": "envpack_executor.nodes",
    "Heartbeat": "envpack_executor.nodes",
    "Task": "envpack_executor.tasks",
    "task": "envpack_executor.tasks",
    "Kept": "envpack_executor.values.references",
    "ExecutorError": "envpack_executor.errors",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
