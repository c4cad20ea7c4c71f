"""A Dask cluster lends its workers to an executor, by its own scheduler and only while there are calls."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster

from envpack_executor import ContextExecutor, task
from envpack_executor.blocks import WorkerCommand, WorkerOptions
from envpack_executor.dask import DaskNodes, EnvpackPlugin, leases
from envpack_executor.errors import BlocksError, LeaseError
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, are_gone, descendants, wait_until, words_of
from tests.plugs import functions as plugs

THREADS = 2


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A cluster of one worker of two threads, under a nanny."""
    options = {"n_workers": 1, "threads_per_worker": THREADS, "processes": True, "memory_limit": "2GB"}
    with (
        LocalCluster(dashboard_address=":0", silence_logs=logging.CRITICAL, **options) as cluster,
        Client(cluster) as one,
    ):
        yield one


@pytest.fixture(autouse=True)
def nothing_left_behind(client: Client, own_folders: Path) -> Iterator[None]:
    """No test leaves a worker, a task of Dask, or a temporary file; the rest is Dask's own matter."""
    yield
    wait_until(lambda: workers_of_ours() == {}, lambda: f"workers have ended: {workers_of_ours()}")
    wait_until(lambda: not any(client.processing().values()), "Dask has nothing to do any more")
    assert list(Path(tempfile.gettempdir()).glob("envpack*")) == []


def workers_of_ours() -> dict[int, str]:
    found = {pid: words_of(pid) for pid in descendants(os.getpid())}
    return {pid: words for pid, words in found.items() if " worker --connect " in words}


def environ_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


def test_leases_last_as_long_as_there_are_calls_and_free_the_slots_of_dask(client: Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    logged = task(context=(functions.log_set_up, str(log)))(plugs.where)
    nodes = DaskNodes(client, idle_timeout_s=0.5, store=tmp_path / "worker-store")
    with ContextExecutor(nodes=nodes) as executor:
        pids = {pid for pid, _ in executor.map(logged, range(500))}
        assert pids <= set(map(int, log.read_text().split()))
        wait_until(lambda: nodes.blocks() == (), "leases without calls have ended")
        assert client.submit(functions.double, 4, pure=False).result(GENEROUS_S) == 8
        assert nodes.ended()
        assert not any(ended.is_failure for ended in nodes.ended())
        assert executor.submit(functions.double, 5).result(GENEROUS_S) == 10  # with a lease of its own


@pytest.mark.slow
def test_the_key_is_in_no_command_line_no_environment_and_no_name_that_dask_writes_down(client: Client) -> None:
    nodes = DaskNodes(client, max_leases=1, min_leases=1)
    with ContextExecutor(nodes=nodes) as executor:
        executor.submit(functions.double, 5).result(GENEROUS_S)
        key = nodes.key_file.read_text()
        secret = key.split('"secret": "')[1].split('"')[0]
        seen = [*workers_of_ours().values(), *map(environ_of, workers_of_ours())]
        assert seen
        assert not any(secret in text for text in seen)
        lease = leases.Lease("one", WorkerCommand(nodes.address, str(nodes.key_file), "b"), key)
        assert secret not in repr(lease)


@pytest.mark.slow
def test_calls_survive_the_loss_of_their_dask_worker_and_its_lease_ends_with_it(client: Client) -> None:
    (daskers,) = client.run(os.getpid).values()
    with ContextExecutor(nodes=DaskNodes(client)) as executor:
        first = executor.submit(functions.double, 1)
        assert first.result(GENEROUS_S) == 2
        lent = set(workers_of_ours())
        futures = [executor.submit(plugs.nap, 0.02, number) for number in range(100)]
        os.kill(daskers, signal.SIGKILL)
        assert [future.result(GENEROUS_S) for future in futures] == list(range(100))
        wait_until(lambda: are_gone(lent), "the workers of the lost leases have left")


@pytest.mark.slow
def test_a_lease_that_waits_is_forgotten_when_nobody_needs_it(client: Client) -> None:
    nodes = DaskNodes(client, workers=["tcp://127.0.0.1:1"], max_leases=1)
    with ContextExecutor(nodes=nodes) as executor:
        future = executor.submit(functions.double, 5)
        wait_until(lambda: len(nodes.blocks()) == 1, "a lease was asked for")
        assert "lease" in executor.why(future)
        assert future.cancel()
    assert nodes.blocks() == ()


@pytest.mark.slow
def test_a_worker_that_cannot_start_fails_its_lease_with_its_last_words(client: Client) -> None:
    command = WorkerCommand("tcp://127.0.0.1:1", "", "b", WorkerOptions(cores=1))
    failed = client.submit(leases.hold, leases.Lease("one", command, "no key"), pure=False)
    with pytest.raises(LeaseError, match=r"worker of one ended with exit status 2: .*not a key file"):
        failed.result(GENEROUS_S)


@pytest.mark.slow
def test_leases_that_fail_again_and_again_end_the_calls_that_wait(client: Client) -> None:
    nodes = DaskNodes(client, memory="little", max_failures=1)
    with ContextExecutor(nodes=nodes) as executor, pytest.raises(BlocksError, match=r"exit status 2: .*'little'"):
        executor.submit(functions.double, 5).result(GENEROUS_S)


@pytest.mark.slow
def test_a_lease_that_was_ended_before_it_began_starts_no_worker(client: Client) -> None:
    client.run(leases.end, ["late"])
    command = WorkerCommand("tcp://127.0.0.1:1", "", "b", WorkerOptions(cores=1))
    late = client.submit(leases.hold, leases.Lease("late", command, "no key"), pure=False)
    assert late.result(GENEROUS_S) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [({"cores": 0}, "cores is 0"), ({"idle_timeout_s": -1}, "idle_s"), ({"max_failures": 0}, "max_failures")],
)
def test_numbers_out_of_range_are_refused(client: Client, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DaskNodes(client, **options)


@pytest.mark.slow
def test_workers_in_the_process_of_the_client_retain_and_lend_as_others_do(tmp_path: Path) -> None:
    plugin = EnvpackPlugin(store=str(tmp_path / "store"), history=None)
    with (
        LocalCluster(2, threads_per_worker=1, processes=False, dashboard_address=":0", silence_logs=50) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(plugin)
        with dask.annotate(executor="envpack"):
            plugged = client.gather(client.map(plugs.where, range(10), pure=False))
        with ContextExecutor(nodes=DaskNodes(client), history=None) as executor:
            lent = list(executor.map(plugs.where, range(10)))
    pids = {pid for pid, _ in [*plugged, *lent]}
    assert os.getpid() not in pids
    wait_until(lambda: are_gone(pids), "the processes of all contexts have ended")


def test_workers_that_come_later_count_for_how_many_leases_there_may_be(client: Client) -> None:
    nodes = DaskNodes(client)
    assert nodes._limits().max_blocks == THREADS
    client.cluster.scale(2)
    try:
        wait_until(lambda: nodes._limits().max_blocks == 2 * THREADS, "another worker has come")
        assert DaskNodes(client, max_leases=1)._limits().max_blocks == 1
    finally:
        client.cluster.scale(1)
        wait_until(lambda: len(client.scheduler_info()["workers"]) == 1, "it has left again")


@pytest.mark.slow
def test_leaving_waits_for_no_worker_of_dask_that_is_silent(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envpack_executor.dask.nodes.ANSWER_WITHIN_S", 0.5)
    (worker,) = client.run(os.getpid).values()
    with ContextExecutor(nodes=DaskNodes(client)) as executor:
        assert executor.submit(functions.double, 4).result(GENEROUS_S) == 8
        os.kill(worker, signal.SIGSTOP)
        try:
            leaving = threading.Thread(target=executor.shutdown)
            leaving.start()
            leaving.join(GENEROUS_S)
            has_left = not leaving.is_alive()
        finally:
            os.kill(worker, signal.SIGCONT)
    assert has_left
