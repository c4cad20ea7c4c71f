"""Contexts, packs and measures on a Dask cluster that is there: on its own workers, and by its own scheduler.

Map of the package:

- `plugin`: `EnvpackPlugin` gives each Dask worker an executor that tasks choose by `dask.annotate(executor="envpack")`.
- `layers`: `share`, by which packs reach workers that do not see the client's files.
- `nodes`: `DaskNodes` lets the cluster's workers run calls of a `ContextExecutor` elsewhere; `leases`: how.
- `bridge`: what stands between a Dask worker and that executor; `calls` finds the call inside a task of Dask.

Needs the extra `envpack-hpc[dask]`.
"""

from __future__ import annotations

from envpack_executor.extras import need

need("distributed", __name__)

from envpack_executor.dask.layers import share  # noqa: E402  # not before it is known that it can be
from envpack_executor.dask.nodes import DaskNodes  # noqa: E402
from envpack_executor.dask.plugin import EnvpackPlugin  # noqa: E402

__all__ = ["DaskNodes", "EnvpackPlugin", "share"]
