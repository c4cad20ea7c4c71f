"""`ContextReuseExecutor`: Parsl's apps in retained contexts, on the blocks of any Parsl provider.

    data-flow kernel ──submit──▶ app as a task (`apps`) ──▶ ContextExecutor ──▶ workers, one on each node of a block
           ▲                                                     │ nodes come and go (`registry`)
           └── strategy: scale out and in, job status ◀──────────┘

The blocks are Parsl's business: its strategy asks for them and gives them up, its provider and launcher start the
command that is made here, `envpack worker ... --block ID`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from pickle import PicklingError
from typing import TYPE_CHECKING, Any, Literal

from parsl.data_provider.staging import Staging
from parsl.executors.errors import BadStateException
from parsl.executors.high_throughput.executor import HighThroughputExecutor
from parsl.executors.status_handling import BlockProviderExecutor
from parsl.jobs.states import TERMINAL_STATES, JobState, JobStatus
from parsl.providers import LocalProvider
from parsl.providers.base import ExecutionProvider
from parsl.usage_tracking.api import UsageInformation
from parsl.utils import RepresentationMixin

from envpack_executor.blocks import WorkerCommand, WorkerOptions
from envpack_executor.blocks.source import PROGRAM
from envpack_executor.errors import ExecutorError, ShutdownError
from envpack_executor.executor import MAX_TRIES, SETUP_TIMEOUT_S, ContextExecutor
from envpack_executor.nodes import Heartbeat, RemoteNodes
from envpack_executor.parsl.allocated import gpus_of, memory_of, wall_time_s
from envpack_executor.parsl.apps import Apps, without_defaults, without_objects
from envpack_executor.parsl.calls import AppCall
from envpack_executor.parsl.monitoring import NoRadio, Reporter, without_wrapper
from envpack_executor.parsl.registry import Registry
from envpack_executor.parsl.serializing import is_asked_for, packed
from envpack_executor.profile import OF_THE_PROGRAM
from envpack_executor.tasks import Task

if TYPE_CHECKING:
    from envpack_executor.executor import ExecutorStats
    from envpack_executor.manager.learned import AllocationChoice
    from envpack_executor.manager.overview import NodeStatus
    from envpack_executor.manager.usage import HistoryChoice
    from envpack_monitor.predict import Predictor

_log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_MISSING = (
    "no worker of this block has joined: see the output of the job in the folder submit_scripts of the run, "
    "and whether its nodes reach {address}"
)


class ContextReuseExecutor(BlockProviderExecutor, RepresentationMixin, UsageInformation):  # type: ignore[misc]
    """Run Parsl's apps in warm processes that keep environment, code and set-up result.

    Args:
        label: name of the executor among those of a configuration.
        provider: where blocks come from; `LocalProvider()` by default.
        address: of an interface of this machine that the nodes reach, where workers join. 127.0.0.1 for a
            `LocalProvider`; must be given for others.
        worker_port: the port there; 0 takes a free one.
        bulk_port: the port for layers and large values; 0 takes a free one.
        bulk: how these travel, see `RemoteNodes`.
        max_workers_per_node: how many calls run at once on a node; what the provider's `cores_per_node` says, or else
            as many as the node has cores.
        memory: what calls may have on a node together, in bytes or as `"16GB"`; nine tenths of what the provider's
            `mem_per_node` says, or else of what there is, by default.
        context_memory: what warm processes may keep there between calls, likewise.
        disk: what calls that ask for disk may write there, likewise.
        gpus: how many GPUs of a node calls may use; what the provider's `gpus_per_node` says, or else none, by default.
        environment: where apps run that do not say so themselves: None for the Python of the worker, `"auto"` for what
            is discovered for each app, the path of a pack or of a prefix, or a manifest.
        initializer: called once in each context process before its set-up.
        initargs: its arguments.
        allocations: `"auto"` packs calls by what earlier ones of their app have used; see `ContextExecutor`.
        history: file where the usage of apps is kept; see `ContextExecutor`.
        max_tries: a call whose process or node is lost so often ends with `ProcessLostError`; Parsl's own `retries`
            come on top.
        setup_timeout_s: how long a context process may take to become ready.
        idle_timeout_s: a process that had nothing to do for so long leaves; None for never.
        worker_store: folder of the store of layers on the nodes.
        worker_wall_time_s: a worker is gone after so long, and takes no calls shortly before; by default a little less
            than the provider's `walltime`.
        program: the words that start `envpack` on a node, after the provider's `worker_init`; this interpreter by
            default, `("envpack",)` for the one on the PATH there.
        heartbeat_period: time between two signs of life, in seconds.
        heartbeat_threshold: who was not heard for so long is given up, and what ran there runs elsewhere.
        is_strict: a key of `parsl_resource_specification` that nobody knows is an error; otherwise it is warned of.
        storage_access: as for other executors of Parsl.
        working_dir: likewise.
        block_error_handler: likewise.

    Raises:
        ExecutorError: no `address` for a provider whose nodes are other machines.
        ValueError: the provider's wall time is no time.
    """

    def __init__(
        self,
        label: str = "ContextReuseExecutor",
        provider: ExecutionProvider | None = None,
        address: str | None = None,
        worker_port: int = 0,
        bulk_port: int = 0,
        bulk: Literal["plain", "encrypted"] = "plain",
        max_workers_per_node: int | None = None,
        memory: int | str | None = None,
        context_memory: int | str | None = None,
        disk: int | str | None = None,
        gpus: int | None = None,
        environment: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        allocations: Predictor | AllocationChoice = None,
        history: HistoryChoice = "default",
        max_tries: int = MAX_TRIES,
        setup_timeout_s: float = SETUP_TIMEOUT_S,
        idle_timeout_s: float | None = None,
        worker_store: str | None = None,
        worker_wall_time_s: float | None = None,
        program: Sequence[str] = PROGRAM,
        heartbeat_period: float = 1.0,
        heartbeat_threshold: float = 10.0,
        is_strict: bool = False,
        storage_access: list[Staging] | None = None,
        working_dir: str | None = None,
        block_error_handler: bool | Callable[..., None] = True,
    ) -> None:
        provider = provider or LocalProvider()
        super().__init__(provider=provider, block_error_handler=block_error_handler)
        if address is None and not isinstance(provider, LocalProvider):
            raise ExecutorError(
                f"no address for workers of a {type(provider).__name__} to join at",
                "name an interface of this machine that the nodes reach, such as "
                "address=parsl.addresses.address_by_interface('ib0')",
            )
        self.label = label
        self.address = address or _LOOPBACK
        self.worker_port = worker_port
        self.bulk_port = bulk_port
        self.bulk = bulk
        self.max_workers_per_node = max_workers_per_node or getattr(provider, "cores_per_node", None)
        self.memory = memory_of(provider) if memory is None else memory
        self.context_memory = context_memory
        self.disk = disk
        self.gpus = gpus_of(provider) if gpus is None else gpus
        self.environment = environment
        self.initializer = initializer
        self.initargs = initargs
        self.allocations = allocations
        self.history = history
        self.max_tries = max_tries
        self.setup_timeout_s = setup_timeout_s
        self.idle_timeout_s = idle_timeout_s
        self.worker_store = worker_store
        self.worker_wall_time_s = worker_wall_time_s or wall_time_s(provider)
        self.program = tuple(program)
        self.heartbeat_period = heartbeat_period
        self.heartbeat_threshold = heartbeat_threshold
        self.is_strict = is_strict
        self.storage_access = storage_access
        self.working_dir = working_dir
        self.remote_monitoring_radio = NoRadio()
        self._apps = Apps(environment, is_strict)
        self._registry = Registry()
        self._reporter: Reporter | None = None
        self._nodes: RemoteNodes | None = None
        self._inner: ContextExecutor | None = None

    # --- what Parsl asks for

    def start(self) -> None:
        """Listen for workers; the data-flow kernel calls it. The first blocks come from its strategy.

        Raises:
            ExecutorError: the address cannot be bound.
            KeyFileError: the key file cannot be written.
        """
        super().start()
        if self.submit_monitoring_radio is not None:
            self._apps = Apps(self.environment, self.is_strict, is_monitored=True)
            self._reporter = Reporter(self.submit_monitoring_radio.send, self.run_id)
            self._registry.report_to(self._reporter)
        folder = Path(self.run_dir, self.label).absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        heartbeat = Heartbeat(self.heartbeat_period, self.heartbeat_threshold)
        host = f"[{self.address}]" if ":" in self.address else self.address
        self._nodes = RemoteNodes(
            f"tcp://{host}:{self.worker_port}", folder / "worker.key", heartbeat, self.bulk, self.bulk_port
        )
        options = {
            "nodes": self._registry.watching(self._nodes),
            "initializer": self.initializer,
            "initargs": self.initargs,
            "allocations": self.allocations,
            "history": self.history,
            "max_tries": self.max_tries,
            "setup_timeout_s": self.setup_timeout_s,
            "idle_timeout_s": self.idle_timeout_s,
            "on_usage": None if self._reporter is None else self._reporter.usage_known,
        }
        self._inner = ContextExecutor(**{**OF_THE_PROGRAM, **options})

    def monitor_resources(self) -> bool:
        """Say that nobody has to watch the processes of calls: what they use is measured anyway."""
        return False

    def submit(
        self, func: Callable[..., Any], resource_specification: dict[str, Any] | None, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Schedule a call of an app; the data-flow kernel calls it.

        Args:
            func: the app as Parsl has wrapped it.
            resource_specification: what the call asks for, see the documentation.
            *args: its arguments.
            **kwargs: likewise.

        Raises:
            InvalidResourceSpecification: the specification has an unknown key, and the executor is strict.
            Exception: the executor is in a bad state; this is the reason.
        """
        if self.bad_state_is_set:
            raise self.executor_exception
        func, kwargs, ids = without_wrapper(func, kwargs)
        task = self._apps.task(func, resource_specification)
        if resource_specification:
            kwargs = without_objects(kwargs)
        if (left := without_defaults(task, kwargs)) is not kwargs:
            func, kwargs = task.function, left  # which gives back the defaults, whoever pickles it
        if ids is None or self._reporter is None:
            return self._submitted(func, task, args, kwargs)
        with self._reporter.submitting:
            future = self._submitted(func, task, args, kwargs)
            self._reporter.note_call(future, ids)
        return future

    def _submitted(
        self, func: Callable[..., Any], task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        inner = self._started()
        future: Any
        if is_asked_for():
            opener, data = packed(func, task, args, kwargs)
            future = inner.submit(opener, data)
        else:
            try:
                future = inner.submit(task, *args, **kwargs)
            except (PicklingError, TypeError, AttributeError) as error:
                future = self._submitted_otherwise(error, func, task, args, kwargs)
        # Nobody else has it yet. A second future would cost more, and its callbacks another change between threads.
        future.__class__ = AppCall
        future.parsl_executor_task_id = future.number
        return future  # type: ignore[no-any-return]

    def _submitted_otherwise(
        self, error: Exception, func: Callable[..., Any], task: Task[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Future[Any]:
        """Submit by Parsl's serializers what ours cannot pickle; raise `error` where these cannot, either."""
        try:
            opener, data = packed(func, task, args, kwargs)
        except Exception:
            raise error from None
        return self._started().submit(opener, data)

    def outstanding(self) -> int:
        """Return how many calls have no end yet."""
        return 0 if self._inner is None else self._inner.stats().open_calls

    @property
    def workers_per_node(self) -> int:
        """How many calls run at once on a node: as was said, or as the nodes that have joined say; 1 before."""
        return self.max_workers_per_node or self._registry.slots_per_node() or 1

    def connected_managers(self) -> list[dict[str, Any]]:
        """Return the workers that have joined, each as a dictionary with the keys that HTEX's has."""
        return [
            {
                "manager": node.node,
                "block_id": node.block,
                "worker_count": node.cores,
                "tasks": node.running,
                "idle_duration": node.idle_s,
                "active": not node.is_draining,
                "draining": node.is_draining,
                "hostname": node.host,
                "python_version": node.python,
            }
            for node in self._started().nodes()
        ]

    def connected_blocks(self) -> list[str]:
        """Return the ids of all blocks of which a worker has ever joined."""
        return self._registry.blocks()

    def scale_in(self, blocks: int, max_idletime: float | None = None) -> list[str]:
        """Give blocks up, those first that have been idle for longest; their workers take no more calls at once.

        Args:
            blocks: how many.
            max_idletime: give up those alone that have been without calls for longer, in seconds; None for all.

        Returns:
            The ids of those that were cancelled.
        """
        nodes = self._started().nodes()
        standing = [block for block, status in self._status.items() if status.state not in TERMINAL_STATES]
        chosen = self._registry.least_busy(standing, nodes, max_idletime)[:blocks]
        for node in nodes:
            if node.block in chosen and not node.is_draining:
                self._drain(node)
        jobs = [self.blocks_to_job_id[block] for block in chosen if block in self.blocks_to_job_id]
        cancelled = self._filter_scale_in_ids(jobs, self.provider.cancel(jobs))
        return [self.job_ids_to_block[job] for job in cancelled]

    def status(self) -> dict[str, JobStatus]:
        """Return what is known of each block; one that has ended, and of which no worker ever joined, is MISSING."""
        found: dict[str, JobStatus] = super().status()
        joined = set(self.connected_blocks())
        for block, status in found.items():
            if status.terminal and status.state is not JobState.SCALED_IN and block not in joined:
                status.state = JobState.MISSING
                status.message = status.message or _MISSING.format(address=self._opened().address)
        return found

    def set_bad_state_and_fail_all(self, exception: Exception) -> None:
        """Take no more calls, and end all that are open with `BadStateException`."""
        _log.error("executor %s takes no more calls: %s", self.label, exception)
        self._executor_exception = exception
        self._executor_bad_state.set()
        if self._inner is not None:
            self._inner.kill(BadStateException(self, exception))

    def shutdown(self) -> None:
        """End: workers leave, calls that are open end with `ShutdownError`, nothing of the executor is left."""
        if self._inner is not None:
            if self._reporter is not None:
                for node in self._inner.nodes():
                    self._reporter.node_changed(node, is_there=False)
            self._inner.kill(ShutdownError(f"executor {self.label} was shut down while the call was open"))
        super().shutdown()

    def get_usage_information(self) -> dict[str, Any]:
        """Return what Parsl's usage tracking, if the user has it, tells about this executor."""
        environment = "inherit" if self.environment is None else "auto" if self.environment == "auto" else "pack"
        return {"environment": environment, "allocations": self.allocations is not None}

    def _get_launch_command(self, block_id: str) -> str:
        options = WorkerOptions(
            self.max_workers_per_node,
            self.memory,
            self.context_memory,
            self.disk,
            self.gpus,
            self.worker_store,
            wall_time_s=self.worker_wall_time_s,
            program=("env", f"PARSL_WORKER_BLOCK_ID={block_id}", *self.program),
        )
        nodes = self._opened()
        return str(WorkerCommand(nodes.address, str(nodes.key_file), block_id, options))

    # --- beyond it

    def stats(self) -> ExecutorStats:
        """Return what the executor has done so far: set-ups, processes, contexts, usage by app."""
        return self._started().stats()

    def why(self, future: Future[Any]) -> str:
        """Say in words what a call waits for, since when it runs and where, or how it ended.

        Args:
            future: of an app, or as `submit` has returned it.

        Raises:
            TypeError: it is not of this executor.
        """
        record = getattr(future, "task_record", None)
        if record is None:
            return self._started().why(future)
        inner = record.get("exec_fu")
        return "it waits for what it depends on" if inner is None else self._started().why(inner)

    def _drain(self, node: NodeStatus) -> None:
        try:
            self._started().drain(node.node, "its block is scaled in")
        except ValueError:
            return  # it has left meanwhile
        if self._reporter is not None:
            self._reporter.node_drains(node)

    def _started(self) -> ContextExecutor:
        if self._inner is None:
            raise ExecutorError(f"executor {self.label} has not been started", "load a configuration with it by Parsl")
        return self._inner

    def _opened(self) -> RemoteNodes:
        self._started()
        assert self._nodes is not None
        return self._nodes


# Parsl's strategy `htex_auto_scale` asks by type who can scale in idle blocks alone, as `scale_in` here can.
HighThroughputExecutor.register(ContextReuseExecutor)
