"""A Dask cluster whose workers are jobs of Slurm: tasks run in retained contexts there, and outlive a job."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from dask_jobqueue import SLURMCluster
from distributed import Client

from envpack_executor import ContextExecutor, task
from envpack_executor.dask import DaskNodes, EnvpackPlugin
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, descendants, wait_until
from tests.plugs import functions as plugs
from tests.plugs.slurm import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

JOBS = 2


@pytest.fixture
def nothing_left_behind(own_folders: Path) -> Iterator[None]:
    """No test leaves a process or a temporary file; threads and descriptors are Dask's own matter."""
    before = set(descendants(os.getpid()))
    yield
    wait_until(lambda: set(descendants(os.getpid())) <= before, "what the test began has ended")
    assert list(Path(tempfile.gettempdir()).glob("envpack*")) == []


@pytest.fixture
def client(slurm: Slurm, own_folders: Path) -> Iterator[Client]:
    """A cluster of two jobs, on a node each, with a worker under a nanny in each of them."""
    cluster = SLURMCluster(
        cores=1,
        memory="1GB",
        interface="lo",
        walltime="00:10:00",
        python=sys.executable,
        log_directory=str(own_folders / "logs"),
        local_directory=str(own_folders / "local"),
        job_extra_directives=["--exclusive"],
        scheduler_options={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        silence_logs=logging.CRITICAL,
    )
    with cluster, Client(cluster) as client:
        cluster.scale(jobs=JOBS)
        client.wait_for_workers(JOBS, timeout=GENEROUS_S)
        yield client


def node_of(dask_worker: Any) -> str:
    return os.environ["SLURMD_NODENAME"]


def job_of(dask_worker: Any) -> str:
    return os.environ["SLURM_JOB_ID"]


def test_tasks_share_the_contexts_of_each_job_and_run_elsewhere_when_one_is_cancelled(
    client: Client, slurm: Slurm, tmp_path: Path
) -> None:
    assert sorted(client.run(node_of).values()) == ["n1", "n2"]
    client.register_plugin(EnvpackPlugin(store=str(tmp_path / "store"), history=str(tmp_path / "history.sqlite")))
    log = tmp_path / "log"
    logged = task(context=(functions.log_set_up, str(log)))(plugs.where)
    with dask.annotate(executor="envpack"):
        answers = client.gather(client.map(logged, range(20)))
        pids = {pid for pid, _ in answers}
        assert sorted(log.read_text().split()) == sorted(map(str, pids))

        started, release = tmp_path / "started", tmp_path / "release"
        held = client.submit(functions.announce_and_wait_for, str(started), str(release), pure=False)
        wait_until(started.exists, "the task runs")
        (busy,) = client.processing().keys() & {worker for worker, keys in client.processing().items() if keys}
        job = client.run(job_of, workers=[busy])[busy]
        slurm.run("scancel", job)
        wait_until(lambda: busy not in client.scheduler_info()["workers"], "its worker is gone")
        release.touch()
        assert held.result(GENEROUS_S) == str(release)


def test_jobs_lend_their_workers_to_an_executor_whose_calls_outlive_a_job(
    client: Client, slurm: Slurm, tmp_path: Path
) -> None:
    started, release = tmp_path / "started", tmp_path / "release"

    def node() -> str:
        return os.environ["SLURMD_NODENAME"]

    def hold() -> str:
        started.write_text(os.environ["SLURM_JOB_ID"])
        return functions.wait_for(str(release))

    nodes = DaskNodes(client, max_leases=JOBS, min_leases=JOBS, store=tmp_path / "worker-store")
    with ContextExecutor(nodes=nodes) as executor:
        wait_until(lambda: len(executor.nodes()) == JOBS, "both jobs have lent their worker")
        held = executor.submit(hold)
        wait_until(lambda: started.exists() and started.read_text(), "the call runs")
        slurm.run("scancel", started.read_text())
        wait_until(lambda: len(executor.nodes()) < JOBS, "one worker is lost")
        release.touch()
        assert held.result(GENEROUS_S) == str(release)
        assert executor.submit(node).result(GENEROUS_S) in ("n1", "n2")
        assert executor.stats().open_calls == 0
    wait_until(lambda: not any(client.processing().values()), "Dask has nothing to do any more")
