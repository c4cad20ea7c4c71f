"""The backend as joblib sees it: how many jobs there are, and where its batches run."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from envpack_executor import settings
from envpack_executor.executor import ContextExecutor
from envpack_executor.joblib.arrays import Arrays
from envpack_executor.joblib.inside import Variables
from envpack_executor.joblib.session import Batch, Session
from envpack_executor.joblib.sharing import SHARED, has_slots_of_ours
from envpack_executor.pickling import dump

# What joblib itself says to every backend; all else that `Parallel` is given is an option of ours.
_OF_JOBLIB = frozenset({"max_nbytes", "mmap_mode", "temp_folder", "prefer", "require", "verbose", "context", "timeout"})
# How many jobs `n_jobs=-1` stands for at least where nodes join as they are needed: more of them cost nothing.
LEAST_ELSEWHERE = 64


class EnvpackBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs the tasks of `joblib.Parallel` in the context processes of a `ContextExecutor`.

    Use it by its name: `joblib.parallel_config(backend="envpack", n_jobs=8, ...)`.

    Args:
        nesting_level: how deep in other `Parallel` calls; joblib says it.
        inner_max_num_threads: how many threads numerical libraries use in each process; by default the cores divided
            by `n_jobs` on this machine, and what each node has for each of its slots elsewhere.
        executor: where tasks run. By default an executor that all `Parallel` calls of the program share; its processes
            stay for 300 s after the last task.
        initializer: called once in each process, before its tasks.
        initargs: its arguments.
        **options: of the `ContextExecutor` that is shared: `environment`, `nodes`, `memory` and so on.

    Raises:
        TypeError: `executor` is none, or is given with options of another.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    supports_sharedmem = False
    uses_threads = False

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        executor: ContextExecutor | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._check(executor, options)
        self._given = executor
        self._options = options
        self._initializer = (initializer, tuple(initargs))
        self._workers: Session | None = None

    def __reduce__(self) -> tuple[type[EnvpackBackend], tuple[int | None]]:
        return type(self), (self.nesting_level,)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many batches run at once.

        Args:
            n_jobs: None for one; -1 for as many as the executor can run, -2 for one less, and so on.

        Raises:
            ValueError: it is 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(1, self._all_jobs() + 1 + n_jobs)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **said: Any) -> int:
        """Begin a `Parallel` object or call; return how many batches run at once."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        initializer, initargs = self._initializer
        initializer, initargs = said.pop("initializer", initializer), tuple(said.pop("initargs", initargs))
        options = {**self._options, **{name: value for name, value in said.items() if name not in _OF_JOBLIB}}
        executor = options.pop("executor", self._given)
        self._check(executor, options)
        executor = SHARED.take(n_jobs, options) if executor is None else executor
        is_local = not _takes_nodes(executor)
        arrays = Arrays(said.get("max_nbytes"), said.get("mmap_mode"), said.get("temp_folder"), is_local)
        setup = self._setup(n_jobs, is_local, initializer, initargs)
        self._workers = Session(executor, n_jobs, arrays, setup)
        self.parallel = parallel
        return n_jobs

    def start_call(self) -> None:
        """Begin a call of `Parallel`."""
        if self._workers is not None:
            self._workers.arrays.begin()

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Batch:
        """Run a batch of tasks and call `callback` with what this returns when it is done."""
        assert self._workers is not None
        return self._workers.submit(func, callback)

    def retrieve_result_callback(self, out: Batch) -> list[Any]:
        """Return the results of a batch, or raise its error."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End all batches; with `ensure_ready`, be ready for others."""
        if self._workers is not None:
            self._workers.abort()
            self._release()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel, **self.parallel._backend_kwargs)

    def terminate(self) -> None:
        """End a `Parallel` object or call. The processes stay, for the next."""
        self._release()
        self.reset_batch_stats()

    def _release(self) -> None:
        session, self._workers = self._workers, None
        if session is not None:
            session.close()
            SHARED.give_back(session.executor)

    def _all_jobs(self) -> int:
        if self._given is not None:
            return _jobs_of(self._given)
        if has_slots_of_ours(self._options):
            return settings.usable_cores()
        executor = SHARED.take(1, self._options)
        try:
            return _jobs_of(executor)
        finally:
            SHARED.give_back(executor)

    def _setup(
        self,
        n_jobs: int,
        is_local: bool,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
    ) -> tuple[Any, ...] | None:
        """Return the arguments of `prepare`; None where there is nothing to prepare."""
        variables = self._variables(n_jobs, is_local)
        pickled = None if initializer is None else dump((initializer, initargs))
        if not is_local:
            return (variables, None, pickled) if variables or pickled is not None else None
        from multiprocessing.process import current_process

        # Tasks may be given proxies of a `multiprocessing.Manager` of this process, which lets in who knows the key.
        return variables, bytes(current_process().authkey), pickled

    def _variables(self, n_jobs: int, is_local: bool) -> Variables:
        """Return the variables that bound the threads of numerical libraries, as joblib promises them."""
        threads = self.inner_max_num_threads
        if threads is None and not is_local:
            return ()  # a node has set them by its own cores and slots
        share = str(max(1, settings.usable_cores() // n_jobs)) if threads is None else str(threads)
        said = os.environ if threads is None else {}
        limits = [(name, said.get(name, share)) for name in self.MAX_NUM_THREADS_VARS]
        return (*limits, *([] if self.TBB_ENABLE_IPC_VAR in os.environ else [(self.TBB_ENABLE_IPC_VAR, "1")]))

    @staticmethod
    def _check(executor: object, options: dict[str, Any]) -> None:
        if executor is None:
            return
        if not isinstance(executor, ContextExecutor):
            raise TypeError(f"executor is a {type(executor).__qualname__}, expected a ContextExecutor")
        if options:
            raise TypeError(f"{', '.join(sorted(options))} given with executor=..., which has its own")


def _jobs_of(executor: ContextExecutor) -> int:
    slots = sum(node.cores for node in executor.nodes())
    return max(slots, LEAST_ELSEWHERE) if _takes_nodes(executor) else slots


def _takes_nodes(executor: ContextExecutor) -> bool:
    return executor._loop.state.can_join
