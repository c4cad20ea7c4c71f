"""What stands on Parsl.

- `executor`: `ContextReuseExecutor`, an executor of its data-flow kernel; `apps` says what an app is to us, `registry`
  which workers there are, `monitoring` what Parsl's monitoring is told, `serializing` when its serializers are used.
- `provider_nodes`: `ProviderNodes`, nodes of any provider and launcher without the data-flow kernel; `provider_source`
  is the provider as a source of blocks.
- `allocated`: what a provider allocates for each worker.

The public names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from envpack_executor.extras import need

need("parsl", __name__)

if TYPE_CHECKING:
    from envpack_executor.parsl.executor import ContextReuseExecutor
    from envpack_executor.parsl.provider_nodes import ProviderNodes

__all__ = ["ContextReuseExecutor", "ProviderNodes"]

_HOMES = {
    "ContextReuseExecutor": "envpack_executor.parsl.executor",
    "ProviderNodes": "envpack_executor.parsl.provider_nodes",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
