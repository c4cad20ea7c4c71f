"""A worker's life: told to leave, cut off, suspended, come again. Every call ends exactly once in all of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envpack_executor import ContextExecutor, RemoteNodes
from envpack_executor.errors import ProcessLostError
from envpack_executor.nodes import Heartbeat
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, are_gone, descendants, environ, start_script, wait_until
from tests.executor.relay import Relay

QUICK = Heartbeat(every_s=0.1, silence_s=1.0)
StartWorker = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    """Start `envpack worker`; those that still run at the end are killed."""
    started: list[subprocess.Popen[str]] = []

    def start(address: str, key_file: Path, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "envpack", "worker", "--connect", address, "--key", str(key_file)]
        options = ["--cores", "1", "--store", str(tmp_path / "worker-store"), *words]
        with (tmp_path / f"worker-{len(started)}.err").open("w") as errors:
            worker = subprocess.Popen([*command, *options], env=environ(), stderr=errors, text=True)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.kill()
        worker.wait()


@pytest.fixture
def nodes() -> RemoteNodes:
    return RemoteNodes(heartbeat=QUICK)


def said(tmp_path: Path, number: int = 0) -> str:
    return (tmp_path / f"worker-{number}.err").read_text()


# --- leaving in order


def test_a_worker_that_is_told_to_leave_ends_what_runs_and_begins_nothing(
    nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path
) -> None:
    started, release, second = tmp_path / "started", tmp_path / "release", tmp_path / "second"
    with ContextExecutor(nodes=nodes) as executor:
        worker = start_worker(nodes.address, nodes.key_file)
        running = executor.submit(functions.announce_and_wait_for, str(started), str(release))
        waiting = executor.submit(functions.announce_and_wait_for, str(second), str(release))
        wait_until(started.exists, "the call runs")
        worker.send_signal(signal.SIGTERM)
        wait_until(lambda: _drains(executor), "the manager knows")
        release.touch()
        assert running.result(GENEROUS_S) == str(release)
        assert worker.wait(GENEROUS_S) == 0
        assert said(tmp_path) == "envpack worker left: ended by SIGTERM\n"
        assert not second.exists()
        start_worker(nodes.address, nodes.key_file)
        assert waiting.result(GENEROUS_S) == str(release)


def _drains(executor: ContextExecutor) -> bool:
    return any(node.is_draining for node in executor._loop.state.nodes.values())


@pytest.mark.parametrize("how", ["a second signal", "the end of the grace time"])
def test_a_call_that_does_not_end_in_time_runs_elsewhere(
    nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path, how: str
) -> None:
    started, release = tmp_path / "started", tmp_path / "release"
    with ContextExecutor(nodes=nodes) as executor:
        words = ["--grace", "0.5s"] if how == "the end of the grace time" else []
        worker = start_worker(nodes.address, nodes.key_file, *words)
        future = executor.submit(functions.announce_and_wait_for, str(started), str(release))
        wait_until(started.exists, "the call runs")
        pids = descendants(worker.pid)
        worker.send_signal(signal.SIGINT)
        wait_until(lambda: _drains(executor), "the manager knows")
        if how == "a second signal":
            worker.send_signal(signal.SIGINT)
        assert worker.wait(GENEROUS_S) == 0
        wait_until(lambda: are_gone(pids), "the processes of the worker have ended")
        release.touch()
        start_worker(nodes.address, nodes.key_file)
        assert future.result(GENEROUS_S) == str(release)


def test_a_worker_without_calls_leaves_at_once_and_when_its_wall_time_nears_its_end(
    nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path
) -> None:
    with ContextExecutor(nodes=nodes) as executor:
        idle = start_worker(nodes.address, nodes.key_file)
        wait_until(lambda: executor.stats().nodes == 1, "it has joined")
        idle.send_signal(signal.SIGTERM)
        assert idle.wait(GENEROUS_S) == 0
        brief = start_worker(nodes.address, nodes.key_file, "--wall-time", "2s")
        assert brief.wait(GENEROUS_S) == 0
    assert said(tmp_path, 1) == "envpack worker left: wall time of 2 s is over\n"


def test_a_worker_that_was_asked_to_leaves_at_once_when_its_standard_input_ends(
    nodes: RemoteNodes, tmp_path: Path
) -> None:
    with ContextExecutor(nodes=nodes) as executor:
        words = ["--connect", nodes.address, "--key", str(nodes.key_file), "--cores", "1", "--until-eof"]
        command = [sys.executable, "-m", "envpack", "worker", *words]
        with (tmp_path / "worker-0.err").open("w") as errors:
            worker = subprocess.Popen(command, env=environ(), stdin=subprocess.PIPE, stderr=errors)
        with worker:
            future = executor.submit(functions.sleep_in, str(tmp_path / "started"), 100.0)
            wait_until((tmp_path / "started").exists, "the call has begun")
            worker.stdin.close()  # type: ignore[union-attr]
            assert worker.wait(GENEROUS_S) == 0
        assert "whoever started this worker is gone" in said(tmp_path)
        assert executor.cancel(future)


# --- coming again


def test_a_worker_that_was_cut_off_ends_its_processes_and_comes_again(
    nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path
) -> None:
    started, release = tmp_path / "started", tmp_path / "release"
    with ContextExecutor(nodes=nodes) as executor, Relay(nodes.address) as relay:
        worker = start_worker(relay.address, nodes.key_file)
        future = executor.submit(functions.announce_and_wait_for, str(started), str(release))
        wait_until(started.exists, "the call runs")
        pids = descendants(worker.pid)
        relay.cut()
        wait_until(lambda: are_gone(pids), "the worker has ended what it ran")
        wait_until(lambda: executor.stats().nodes == 0, "the manager has given it up")
        relay.mend()
        release.touch()
        assert future.result(GENEROUS_S) == str(release)
        assert executor.stats().nodes == 1
        assert worker.poll() is None


@pytest.mark.slow
def test_a_worker_whose_connection_breaks_comes_again(
    nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path
) -> None:
    started, release = tmp_path / "started", tmp_path / "release"
    with ContextExecutor(nodes=nodes) as executor, Relay(nodes.address) as relay:
        start_worker(relay.address, nodes.key_file)
        for round_number in range(2):
            future = executor.submit(functions.announce_and_wait_for, str(started), str(release))
            wait_until(started.exists, "the call runs")
            started.unlink()
            relay.reset()
            wait_until(started.exists, "the call runs again")
            release.touch()
            assert future.result(GENEROUS_S) == str(release), round_number
            started.unlink()
            release.unlink()
        assert executor.stats().nodes == 1


CLIENT = """
    import sys, time
    from envpack_executor import ContextExecutor, RemoteNodes
    from envpack_executor.nodes import Heartbeat
    from tests.executor import functions
    nodes = RemoteNodes(key_file=sys.argv[1], heartbeat=Heartbeat(every_s=0.1, silence_s=1.0))
    with ContextExecutor(nodes=nodes, max_tries=1) as executor:
        ends = []
        futures = [executor.submit(functions.announce_and_wait_for, *sys.argv[2:])]
        futures += [executor.submit(functions.double, number) for number in range(100)]
        for future in futures:
            future.add_done_callback(ends.append)
        print(nodes.address, flush=True)
        assert futures[0].result() == sys.argv[3]
        assert [future.result() for future in futures[1:]] == [2 * number for number in range(100)]
        assert len(ends) == len(futures), len(ends)
        print(executor.stats().nodes, flush=True)
"""


def test_a_client_that_was_suspended_for_longer_than_the_silence_goes_on_and_blames_no_call(
    start_worker: StartWorker, tmp_path: Path
) -> None:
    key_file, started, release = tmp_path / "worker.key", tmp_path / "started", tmp_path / "release"
    with start_script(tmp_path, CLIENT, str(key_file), str(started), str(release)) as client:
        assert client.stdout is not None
        worker = start_worker(client.stdout.readline().strip(), key_file)
        wait_until(started.exists, "the call runs")
        pids = descendants(worker.pid)
        client.send_signal(signal.SIGSTOP)
        wait_until(lambda: are_gone(pids), "the worker has ended what it ran")
        started.unlink()
        client.send_signal(signal.SIGCONT)
        wait_until(started.exists, "the call runs again")
        release.touch()
        assert client.stdout.readline() == "1\n", (tmp_path / "client.err").read_text()
        assert client.wait(GENEROUS_S) == 0
        assert worker.wait(GENEROUS_S) == 0


@pytest.mark.slow
def test_a_worker_that_nobody_takes_again_gives_up_and_tells_the_whole_story(
    nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path
) -> None:
    with ContextExecutor(nodes=nodes) as executor, Relay(nodes.address) as relay:
        worker = start_worker(relay.address, nodes.key_file, "--join-within", "4s")
        wait_until(lambda: executor.stats().nodes == 1, "it has joined")
        relay.cut()
        assert worker.wait(GENEROUS_S) == 1
    line = said(tmp_path)
    assert line.startswith("envpack: error: manager silent for 1.")
    assert "; no answer from tcp://127.0.0.1" in line


@pytest.mark.slow
def test_a_call_that_was_tried_for_the_last_time_says_that_its_node_was_cut_off(
    nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    with ContextExecutor(nodes=nodes, max_tries=1) as executor, Relay(nodes.address) as relay:
        start_worker(relay.address, nodes.key_file)
        future = executor.submit(functions.sleep_in, str(started), 60)
        wait_until(started.exists, "the call runs")
        relay.cut()
        assert isinstance(future.exception(GENEROUS_S), ProcessLostError)
