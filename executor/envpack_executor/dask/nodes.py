"""`DaskNodes`: the workers of a Dask cluster host contexts of a `ContextExecutor`, as long as it has calls for them."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from distributed import Client, Future
from distributed.comm import get_address_host
from distributed.utils import get_ip

from envpack_executor.blocks import BlockNodes, JobState, JobStatus, Scaling, WorkerCommand, WorkerOptions
from envpack_executor.dask import leases
from envpack_executor.nodes import Heartbeat, RemoteNodes

_log = logging.getLogger(__name__)

POLL_EVERY_S = 0.5
ROOM_EVERY_S = 1.0
ANSWER_WITHIN_S = 10.0
_LOOPBACK = "127.0.0.1"


class DaskNodes(BlockNodes):
    """Let the workers of a Dask cluster run calls, where and when its scheduler gives them room.

    What runs there is a *lease*: a task of Dask, of one thread by default, that lasts while there are calls for it.
    When there are none any more, it ends and Dask has its slot back. Dask's workers must have envpack, and must reach
    this machine at `bind`. The key of the run travels over Dask's own connections: give Dask `Security` (TLS) where
    others can listen.

    Args:
        client: of the cluster, or the address of its scheduler.
        cores: calls at once in each lease.
        max_leases: no more at once; by default as many as the cluster has threads for, also those that come later.
            Where it grows only when tasks wait, say how many.
        min_leases: so many stay, with or without calls.
        idle_timeout_s: a lease without calls ends after so long, in seconds.
        lease_s: a lease ends after so long, and Dask decides anew who gets its slot; None for no bound. Calls that run
            may end before.
        resources: what a lease takes of Dask's worker, such as `{"GPU": 1}`; needed where `cores` is more than one
            thread: otherwise Dask counts a lease as one.
        workers: addresses of the Dask workers that may be asked; all by default.
        priority: of leases among the tasks of the cluster.
        bind: where workers join, `tcp://HOST:PORT`; by default the interface by which this machine reaches Dask's
            scheduler.
        memory: what calls may have together in each lease, in bytes or as `"4GB"`; by default the share of its threads
            in the memory limit of its Dask worker.
        context_memory: what warm processes may keep there together, likewise.
        disk: what calls that ask for disk may write there together, likewise.
        gpus: how many GPUs calls may use there.
        store: folder of the store of layers there.
        register_within_s: see `ProviderNodes`.
        max_failures: after so many leases in a row that failed, with no node left, the calls that wait end with
            `BlocksError`.
        heartbeat: how silence is noticed.
        bulk: how layers and large values travel, see `RemoteNodes`.
        bulk_port: likewise.

    Raises:
        ValueError: the client is an asynchronous one, or a number is out of its range.
        OSError: there is no scheduler at the address.
    """

    def __init__(
        self,
        client: Client | str,
        *,
        cores: int = 1,
        max_leases: int | None = None,
        min_leases: int = 0,
        idle_timeout_s: float = 10.0,
        lease_s: float | None = None,
        resources: Mapping[str, float] | None = None,
        workers: Sequence[str] | None = None,
        priority: int = 0,
        bind: str | None = None,
        memory: int | str | None = None,
        context_memory: int | str | None = None,
        disk: int | str | None = None,
        gpus: int = 0,
        store: str | Path | None = None,
        register_within_s: float = 300.0,
        max_failures: int = 3,
        heartbeat: Heartbeat | None = None,
        bulk: Literal["plain", "encrypted"] = "plain",
        bulk_port: int = 0,
    ) -> None:
        if cores < 1:
            raise ValueError(f"cores is {cores!r}, expected 1 or more")
        is_own = isinstance(client, str)
        if isinstance(client, str):
            client = Client(client, set_as_default=False)
        elif client.asynchronous:
            raise ValueError("client is asynchronous, expected one that waits: Client(..., asynchronous=False)")
        try:
            bind = bind or f"tcp://{_own_address(client)}:0"
            asked = {"resources": dict(resources or {}) or None, "workers": workers, "priority": priority}
            scaling = Scaling(
                min_blocks=min_leases,
                max_blocks=max_leases or max(min_leases, 1),
                idle_s=idle_timeout_s,
            )
            options = WorkerOptions(
                cores, memory, context_memory, disk, gpus, None if store is None else str(store), wall_time_s=lease_s
            )
            self._is_bounded = max_leases is not None
            self._room = _Room(client, cores, resources)
            super().__init__(
                LeaseSource(client, cores, asked, is_own),
                remote=RemoteNodes(bind, heartbeat=heartbeat, bulk=bulk, bulk_port=bulk_port),
                scaling=scaling,
                options=options,
                register_within_s=register_within_s,
                max_failures=max_failures,
                advice=f"see that envpack is installed on Dask's workers, and that they reach {bind}",
            )
        except BaseException:
            if is_own:
                client.close()
            raise

    def _limits(self) -> Scaling:
        """Return the limits now: the workers of a cluster come one after another."""
        if self._is_bounded:
            return self._scaling
        return replace(self._scaling, max_blocks=max(self._scaling.min_blocks, self._room.leases()))


class LeaseSource:
    """Asks a Dask cluster for leases.

    Args:
        client: of the cluster.
        cores: calls at once in each.
        asked: what Dask is told about the task, as keywords of `Client.submit`.
        is_own: whether the client is closed at the end.
    """

    poll_every_s = POLL_EVERY_S

    def __init__(self, client: Client, cores: int, asked: Mapping[str, Any], is_own: bool) -> None:
        self.name = f"Dask at {client.scheduler.address}"
        self.slots_per_block = cores
        self._client = client
        self._asked = dict(asked)
        self._is_own = is_own
        self._futures: dict[str, Future] = {}

    def submit(self, block: str, command: WorkerCommand) -> str:
        """Ask for a lease; return the key of its task."""
        key = f"envpack-lease-{block}"
        lease = leases.Lease(key, command, Path(command.key_file).read_text())
        self._futures[key] = self._client.submit(leases.hold, lease, key=key, pure=False, **self._asked)
        return key

    def poll(self, jobs: Sequence[str]) -> Sequence[JobStatus]:
        """Return what is known of each lease; one that waits is not told from one whose worker has not joined yet."""
        return [self._status(job) for job in jobs]

    def cancel(self, jobs: Sequence[str]) -> None:
        """End leases: what waits is forgotten, the worker of one that runs is told to leave."""
        futures = [self._futures.pop(job) for job in jobs if job in self._futures]
        self._client.cancel(futures, force=True)
        # Dask does not interrupt what runs. A worker of it that is silent is no reason to wait: its lease ends with it.
        told = functools.partial(self._client._run, leases.end, list(jobs), on_error="ignore")
        try:
            self._client.sync(told, callback_timeout=ANSWER_WITHIN_S)
        except TimeoutError:
            _log.warning("%s: a worker does not answer; its lease ends when it does, or with it", self.name)

    def close(self) -> None:
        """Forget all leases, and close the client if it is ours."""
        self._futures.clear()
        if self._is_own:
            self._client.close()

    def _status(self, job: str) -> JobStatus:
        future = self._futures.get(job)
        if future is None:
            return JobStatus(JobState.ENDED)
        match future.status:
            case "pending":
                return JobStatus(JobState.PENDING)
            case "finished":
                status = JobStatus(JobState.ENDED)
            case "error":
                status = JobStatus(JobState.FAILED, str(future.exception(timeout=ANSWER_WITHIN_S)))
            case "lost" if self._client.status == "running":
                return JobStatus(JobState.UNKNOWN)
            case other:
                status = JobStatus(JobState.ENDED, f"Dask says: {other}")
        del self._futures[job]
        return status


def _own_address(client: Client) -> str:
    """Return the address of this machine at which workers of the cluster find it, as far as that can be known."""
    address = client.scheduler.address
    if address.startswith("inproc://"):
        return _LOOPBACK
    host: str = get_ip(get_address_host(address))
    return f"[{host}]" if ":" in host else host


class _Room:
    """How many leases a cluster has room for; asked anew now and then.

    Args:
        client: of the cluster.
        cores: threads of each lease.
        resources: what each takes of Dask's worker besides.
    """

    def __init__(self, client: Client, cores: int, resources: Mapping[str, float] | None) -> None:
        self._client = client
        self._cores = cores
        self._resources = resources
        self._leases = 1
        self._ask_at_s = 0.0

    def leases(self) -> int:
        """Return how many; at least one, which may make the cluster grow."""
        if time.monotonic() >= self._ask_at_s:
            try:
                known = self._client.scheduler_info(n_workers=-1)["workers"].values()
            except Exception as error:  # what was known last is as good, until it answers again
                _log.warning("Dask's scheduler does not say which workers it has: %s: %s", type(error).__name__, error)
            else:
                self._leases = max(1, sum(map(self._leases_at, known)))
            self._ask_at_s = time.monotonic() + ROOM_EVERY_S
        return self._leases

    def _leases_at(self, worker: Mapping[str, Any]) -> int:
        return _room_at(worker["nthreads"], worker.get("resources") or {}, self._cores, self._resources)


def _room_at(threads: int, has: Mapping[str, float], cores: int, resources: Mapping[str, float] | None) -> int:
    if resources:
        return min(threads, *(int(has.get(name, 0) // amount) for name, amount in resources.items()))
    return threads // cores
