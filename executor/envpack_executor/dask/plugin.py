"""`EnvpackPlugin`: an executor with contexts in each Dask worker, for `dask.annotate(executor="envpack")`.

The executor is the worker's own: it starts with the worker or when the plugin comes, has as many slots as the worker
has threads, and ends with it. Works under a nanny: context processes are started as programs, which the daemonic
processes of nannies may do, and the kernel ends them when their worker is killed.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import threading
from typing import Any

from distributed import Worker, WorkerPlugin

from envpack.pack import Manifest
from envpack_executor.dask.bridge import Bridge, Coming
from envpack_executor.dask.layers import fetch
from envpack_executor.executor import ContextExecutor

_OURS = frozenset({"environment", "nodes", "on_usage"})
_OPTIONS = frozenset(inspect.signature(ContextExecutor).parameters) - _OURS
_RUNNING = frozenset({"running", "paused"})


class EnvpackPlugin(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """Give every Dask worker an executor whose calls run in retained contexts.

    ```python
    client.register_plugin(EnvpackPlugin())
    with dask.annotate(executor="envpack"):
        futures = client.map(infer, images)  # infer may be a `@task` with a context
    ```

    Args:
        environment: where calls run whose `@task` says nothing else, see `ContextExecutor`. Paths are those of the
            workers' machines; what `share` returns reaches those that do not see the client's files.
        executor: the name by which tasks choose it. Plugins of other names stand beside each other, one of the same
            name takes the place of the former, whose calls run to their end.
        topic: of Dask's events under which the usage of tasks is logged: `client.get_events("envpack")`.
        **options: of the `ContextExecutor` of each worker. By default `max_workers` and `cores` are the number of
            threads of the worker, `memory` is its memory limit, and `context_memory` half of that.

    Raises:
        TypeError: there is no such option.
    """

    def __init__(
        self, environment: Any = None, *, executor: str = "envpack", topic: str = "envpack", **options: Any
    ) -> None:
        unknown = sorted(set(options) - _OPTIONS)
        if unknown:
            raise TypeError(f"unknown option {unknown[0]!r}, expected one of: {', '.join(sorted(_OPTIONS))}")
        is_path = isinstance(environment, str | os.PathLike) and environment != "auto"
        self.environment = os.path.abspath(os.fspath(environment)) if is_path else environment
        self.executor = executor
        self.topic = topic
        self.options = options
        self.name = f"envpack-{executor}"

    async def setup(self, worker: Worker) -> None:
        """Give the worker its executor; Dask calls this."""
        # Tasks may come while layers do.
        coming = worker.executors[self.executor] = Coming()
        try:
            if isinstance(self.environment, Manifest):
                await fetch(worker, self.environment, self.options.get("store"))
            bridge = self._bridge(worker)
        except BaseException as error:
            if worker.executors.get(self.executor) is coming:
                del worker.executors[self.executor]
            coming.fail(error)
            raise
        worker.executors[self.executor] = bridge
        coming.go_on(bridge)

    async def teardown(self, worker: Worker) -> None:
        """End the worker's executor; Dask calls this. In a worker that goes on, its calls run to their end.

        They are not waited for: a plugin of the same name may be about to take the place, and a task that finds nobody
        there would fail.
        """
        bridge = worker.executors.pop(self.executor, None)
        if not isinstance(bridge, Bridge):
            return
        if worker.status.name in _RUNNING:
            threading.Thread(target=bridge.close, name="envpack-dask-close", daemon=True).start()
        else:
            await asyncio.to_thread(bridge.shutdown)

    def _bridge(self, worker: Worker) -> Bridge:
        slots = self.options.get("max_workers") or worker.state.nthreads
        defaults: dict[str, Any] = {"cores": slots}
        if limit_bytes := worker.memory_manager.memory_limit:
            defaults |= {"memory": limit_bytes, "context_memory": limit_bytes // 2}
        options = {**defaults, **self.options, "environment": self.environment}
        return Bridge(slots, functools.partial(worker.log_event, self.topic), options)
