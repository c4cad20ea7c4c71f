"""The executors that take turns in the benchmarks, ours among them, behind one face: submit one call, wait for many."""

from __future__ import annotations

import functools
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

WORKERS = 2
OURS = "envpack"


@dataclass(frozen=True)
class Running:
    """An executor that runs.

    Attributes:
        submit: hands in one call and returns what stands for it.
        results: waits for all of them and returns what they returned.
        put: takes a value that many calls need, and returns what stands for it in arguments; the value itself where the
            executor has nothing of the kind.
    """

    submit: Callable[..., Any]
    results: Callable[[Sequence[Any]], list[Any]]
    put: Callable[[Any], Any] = lambda value: value


def _results(futures: Sequence[Any]) -> list[Any]:
    return [future.result() for future in futures]


@contextmanager
def envpack(**options: Any) -> Iterator[Running]:
    from envpack_executor import ContextExecutor

    with ContextExecutor(WORKERS, **options) as executor:
        yield Running(executor.submit, _results, executor.put)


@contextmanager
def process_pool(method: str | None = None) -> Iterator[Running]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context(method)) as executor:
        yield Running(executor.submit, _results)


@contextmanager
def loky() -> Iterator[Running]:
    from loky import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as executor:
        yield Running(executor.submit, _results)


@contextmanager
def executorlib() -> Iterator[Running]:
    from executorlib import SingleNodeExecutor

    with SingleNodeExecutor(max_workers=WORKERS, block_allocation=True) as executor:
        yield Running(executor.submit, _results)


@contextmanager
def parsl_htex() -> Iterator[Running]:
    from parsl.concurrent import ParslPoolExecutor
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        htex = HighThroughputExecutor(
            label="htex",
            address="127.0.0.1",
            max_workers_per_node=WORKERS,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        config = Config(executors=[htex], run_dir=folder, strategy="none", initialize_logging=False)
        with ParslPoolExecutor(config) as executor:
            yield Running(executor.submit, _results)


@contextmanager
def dask() -> Iterator[Running]:
    from distributed import Client, LocalCluster

    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=folder
        ) as cluster,
        Client(cluster) as client,
    ):

        def submit(function: Callable[..., Any], *args: Any) -> Any:
            return client.submit(function, *args, pure=False)

        yield Running(submit, client.gather, functools.partial(client.scatter, hash=False))


@contextmanager
def ray() -> Iterator[Running]:
    import ray as library

    library.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    remotes: dict[Callable[..., Any], Any] = {}

    def submit(function: Callable[..., Any], *args: Any) -> Any:
        remote = remotes.get(function)
        if remote is None:
            remote = remotes[function] = library.remote(function)
        return remote.remote(*args)

    try:
        yield Running(submit, library.get, library.put)
    finally:
        library.shutdown()


@dataclass(frozen=True)
class Peer:
    """One executor that takes part.

    Attributes:
        start: starts it for the length of a block.
        module: what must be installed for it.
        share: the part of the calls that it is given: what is a hundred times slower is measured with fewer.
        carries_lambdas: whether functions without a name of their own can be submitted.
    """

    start: Callable[[], Any]
    module: str
    share: float = 1.0
    carries_lambdas: bool = True


PEERS = {
    OURS: Peer(envpack, "envpack_executor"),
    "ProcessPoolExecutor": Peer(process_pool, "concurrent.futures", carries_lambdas=False),
    "loky": Peer(loky, "loky"),
    "executorlib": Peer(executorlib, "executorlib", 0.1),
    "Parsl HTEX": Peer(parsl_htex, "parsl", 0.03),
    "Dask": Peer(dask, "distributed", 0.03),
    "Ray": Peer(ray, "ray", 0.03),
}
