"""Nodes that come in blocks: real workers, started as jobs by a source that is made of processes of this machine."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

from envpack_executor import ContextExecutor, RemoteNodes, task
from envpack_executor.blocks import nodes as block_nodes
from envpack_executor.blocks.nodes import BlockNodes
from envpack_executor.blocks.scaling import Scaling
from envpack_executor.blocks.source import JobState, JobStatus, WorkerCommand, WorkerOptions
from envpack_executor.commands.worker import filled_in
from envpack_executor.errors import BlocksError, ExecutorError, InternalError
from envpack_executor.nodes import Heartbeat
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, environ, wait_until

QUICK = Heartbeat(every_s=0.2, silence_s=3.0)


class Processes:
    """Blocks that are processes of this machine.

    Args:
        folder: for their stores and what they write.
        command: what runs instead of a worker; a worker by default.
        refuses: `submit` fails.
        holds: jobs wait in a queue until this is set.
    """

    name = "Processes"
    slots_per_block = 0
    poll_every_s = 0.05

    def __init__(
        self, folder: Path, command: str = "", refuses: bool = False, holds: threading.Event | None = None
    ) -> None:
        self.jobs: dict[str, subprocess.Popen[bytes]] = {}
        self.queue: dict[str, str] = {}
        self.cancelled: list[str] = []
        self.submitted = 0
        self.is_closed = False
        self._folder, self._command, self._refuses, self._holds = folder, command, refuses, holds

    def submit(self, block: str, command: WorkerCommand) -> str:
        self.submitted += 1
        if self._refuses:
            raise RuntimeError("no such partition")
        job = str(self.submitted)
        self.queue[job] = self._command or f"exec {command} --store {self._folder}/block-store"
        return job

    def poll(self, jobs: Sequence[str]) -> list[JobStatus]:
        if self._holds is None or self._holds.is_set():
            for job, words in list(self.queue.items()):
                del self.queue[job]
                with (self._folder / f"job-{job}.err").open("wb") as errors:
                    self.jobs[job] = subprocess.Popen(words, shell=True, env=environ(), stderr=errors)
        return [self._state(job) for job in jobs]

    def _state(self, job: str) -> JobStatus:
        if job not in self.jobs:
            return JobStatus(JobState.PENDING)
        status = self.jobs[job].poll()
        if status is None:
            return JobStatus(JobState.RUNNING)
        return JobStatus(JobState.FAILED if status else JobState.ENDED, f"exit code {status}")

    def cancel(self, jobs: Sequence[str]) -> None:
        self.cancelled += jobs
        for job in jobs:
            self.queue.pop(job, None)
            if job in self.jobs:
                self.jobs[job].kill()

    def close(self) -> None:
        self.is_closed = True
        for job in self.jobs.values():
            job.wait()

    def said(self, job: str) -> str:
        return (self._folder / f"job-{job}.err").read_text()


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Processes]:
    source = Processes(tmp_path)
    yield source
    assert source.is_closed


def blocks_of(source: Processes, heartbeat: Heartbeat | None = None, **limits: float) -> BlockNodes:
    scaling = Scaling(**{"max_blocks": 2, "idle_s": 0.5, **limits})  # type: ignore[arg-type]
    return BlockNodes(source, remote=RemoteNodes(heartbeat=heartbeat), scaling=scaling, options=WorkerOptions(cores=1))


def test_blocks_come_when_calls_wait_leave_when_they_are_idle_and_come_again(source: Processes, tmp_path: Path) -> None:
    nodes = blocks_of(source)
    started, release = tmp_path / "started", tmp_path / "release"
    with ContextExecutor(nodes=nodes) as executor:
        future = executor.submit(functions.announce_and_wait_for, str(started), str(release))
        wait_until(started.exists, "the call runs")
        wait_until(lambda: [block.state for block in nodes.blocks()] == ["up"], "it is known that the block is there")
        (block,) = nodes.blocks()
        assert (block.job, block.is_leaving) == ("1", False)
        assert [node.block for node in executor.nodes()] == [block.block]
        release.touch()
        assert future.result(GENEROUS_S) == str(release)
        wait_until(lambda: not nodes.blocks(), "the idle block has left")
        assert source.said("1").endswith("envpack worker left: its block is idle\n")
        assert source.cancelled == []
        assert nodes.ended()[0].reason == "job 1 ended: exit code 0"
        assert executor.submit(functions.double, 5).result(GENEROUS_S) == 10
    assert source.submitted == 2


@pytest.mark.slow
def test_more_blocks_come_for_calls_that_take_long_and_none_leaves_under_them(
    source: Processes, tmp_path: Path
) -> None:
    nodes = blocks_of(source, idle_s=0.01)
    release = tmp_path / "release"
    with ContextExecutor(nodes=nodes) as executor:
        started = [tmp_path / f"started-{number}" for number in range(2)]
        futures = [executor.submit(functions.announce_and_wait_for, str(path), str(release)) for path in started]
        wait_until(lambda: all(path.exists() for path in started), "each block runs a call")
        third = executor.submit(functions.double, 3)
        wait_until(lambda: [block.state for block in nodes.blocks()] == ["up"] * 2, "it is known that both are there")
        release.touch()
        assert third.result(GENEROUS_S) == 6
        assert [future.result(GENEROUS_S) for future in futures] == [str(release)] * 2
    assert source.submitted == 2


@pytest.mark.slow
def test_one_more_block_comes_for_calls_that_do_not_begin_on_an_idle_one(
    source: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envpack_executor.blocks.scaling.OF_NO_USE_AFTER_S", 0.5)
    nodes = blocks_of(source, max_blocks=3, idle_s=60.0)
    with ContextExecutor(nodes=nodes) as executor:
        assert executor.submit(functions.double, 5).result(GENEROUS_S) == 10
        wait_until(lambda: [block.since_s > 0.5 for block in nodes.blocks()] == [True], "it is known to be there")
        much = task(resources={"memory": 1 << 60})(functions.double)
        future = executor.submit(much, 5)
        try:
            wait_until(lambda: [block.state for block in nodes.blocks()] == ["up"] * 2, "another block has come")
            time.sleep(1.5)
            assert source.submitted == 2, "where it does not begin, either, no third one is asked for"
        finally:
            future.cancel()


@pytest.mark.slow
def test_jobs_that_wait_or_run_when_the_executor_ends_are_not_left(tmp_path: Path) -> None:
    queue = threading.Event()
    source = Processes(tmp_path, holds=queue)
    with ContextExecutor(max_workers=1, nodes=blocks_of(source, init_blocks=2)) as executor:
        wait_until(lambda: len(source.queue) == 2, "two jobs are in the queue")
        assert executor.submit(functions.double, 4).result(GENEROUS_S) == 8
    assert sorted(source.cancelled) == ["1", "2"]
    assert source.is_closed


@pytest.mark.slow
def test_what_only_waits_in_a_queue_is_given_up_when_nothing_is_left_to_do(tmp_path: Path) -> None:
    source = Processes(tmp_path, holds=threading.Event())
    nodes = blocks_of(source)
    with ContextExecutor(nodes=nodes) as executor:
        future = executor.submit(functions.double, 4)
        wait_until(lambda: source.submitted == 1, "a block is asked for")
        assert "no node has joined yet: block " in executor.why(future)
        assert "(job 1) has been asked for since" in executor.why(future)
        future.cancel()
        executor.submit(functions.double, 4).cancel()
        wait_until(lambda: source.cancelled == ["1"], "it is given up")
        assert nodes.ended()[0].reason == "nothing was left to do before it came"


@pytest.mark.slow
def test_a_block_that_is_killed_is_replaced_and_its_call_runs_again(source: Processes, tmp_path: Path) -> None:
    nodes = blocks_of(source, QUICK, max_blocks=1)
    release, started = tmp_path / "release", tmp_path / "started"
    with ContextExecutor(nodes=nodes) as executor:
        future = executor.submit(functions.announce_and_wait_for, str(started), str(release))
        wait_until(started.exists, "the call runs")
        started.unlink()
        source.jobs["1"].send_signal(signal.SIGKILL)
        wait_until(started.exists, "it runs again")
        release.touch()
        assert future.result(GENEROUS_S) == str(release)
    assert source.submitted >= 2


@pytest.mark.parametrize(("command", "story"), [("exit 3", "exit code 3"), ("exec envpack-of-nobody", "exit code 127")])
def test_blocks_that_fail_again_and_again_end_the_calls_that_wait(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, command: str, story: str
) -> None:
    source = Processes(tmp_path, command)
    nodes = BlockNodes(source, scaling=Scaling(max_blocks=4), max_failures=2, advice="see what the job does")
    with ContextExecutor(nodes=nodes) as executor:
        futures = [executor.submit(functions.double, number) for number in range(8)]
        for future in futures:
            with pytest.raises(BlocksError, match=rf"\d block\(s\) of Processes .*{story}.*see what"):
                future.result(GENEROUS_S)
        with pytest.raises(BlocksError):
            executor.submit(functions.double, 1)
    assert source.submitted >= 2
    assert [record.levelno for record in caplog.records if story in record.getMessage()][:1] == [logging.WARNING]


@pytest.mark.slow
def test_a_source_that_refuses_is_asked_again_and_then_given_up(tmp_path: Path) -> None:
    source = Processes(tmp_path, refuses=True)
    with ContextExecutor(nodes=BlockNodes(source, max_failures=2)) as executor:
        future = executor.submit(functions.double, 1)
        prepared = executor.prepare(functions.double, 1)
        with pytest.raises(BlocksError, match="Processes refused it: RuntimeError: no such partition"):
            future.result(GENEROUS_S)
        with pytest.raises(BlocksError):
            prepared.result(GENEROUS_S)
    assert source.submitted == 2


@pytest.mark.slow
def test_calls_that_run_on_this_machine_are_no_reason_to_give_up(tmp_path: Path) -> None:
    source = Processes(tmp_path, refuses=True)
    with ContextExecutor(max_workers=1, nodes=BlockNodes(source, max_failures=1)) as executor:
        release = tmp_path / "release"
        futures = [executor.submit(functions.wait_for, str(release)) for _ in range(3)]
        wait_until(lambda: source.submitted >= 1, "a block was asked for")
        release.touch()
        assert [future.result(GENEROUS_S) for future in futures] == [str(release)] * 3


@pytest.mark.slow
def test_a_block_that_runs_without_ever_joining_is_ended_and_counts_as_failed(tmp_path: Path) -> None:
    source = Processes(tmp_path, "exec sleep 1000")
    nodes = BlockNodes(source, register_within_s=0.5, max_failures=1)
    with ContextExecutor(nodes=nodes) as executor:
        future = executor.submit(functions.double, 1)
        with pytest.raises(BlocksError, match="runs, but no worker of it has joined"):
            future.result(GENEROUS_S)
    assert source.cancelled == ["1"]


def test_the_key_is_in_no_word_of_the_command(source: Processes) -> None:
    nodes = blocks_of(source)
    with ContextExecutor(nodes=nodes) as executor:
        executor.submit(functions.double, 4).result(GENEROUS_S)
        words = Path(f"/proc/{source.jobs['1'].pid}/cmdline").read_text()
        key_file = nodes.key_file
        assert f"--key\0{key_file}\0" in words
        assert nodes.address in words
        assert key_file.stat().st_mode & 0o777 == 0o600
        assert key_file.parent.stat().st_mode & 0o777 == 0o700
        assert not any(line in words for line in key_file.read_text().split() if len(line) > 20)


@pytest.mark.slow
def test_a_source_that_breaks_down_ends_the_calls_instead_of_hanging(tmp_path: Path) -> None:
    class Broken(Processes):
        def poll(self, jobs: Sequence[str]) -> list[JobStatus]:
            return []  # of no job: a bug

    source = Broken(tmp_path)
    with (
        ContextExecutor(nodes=BlockNodes(source)) as executor,
        pytest.raises(InternalError, match="blocks are not looked after any more"),
    ):
        executor.submit(functions.double, 1).result(GENEROUS_S)
    assert source.cancelled == ["1"]


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_for_a_while_loses_nothing(
    source: Processes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(block_nodes, "MIN_POLL_S", 0.0)
    polls = iter(range(100))
    ask = source.poll

    def busy(jobs: Sequence[str]) -> list[JobStatus]:
        if next(polls) < 2:
            raise TimeoutError("squeue: socket timed out")
        return ask(jobs)

    source.poll = busy  # type: ignore[method-assign]
    with ContextExecutor(nodes=blocks_of(source)) as executor:
        assert executor.submit(functions.double, 4).result(GENEROUS_S) == 8
    assert "Processes does not say how its jobs are: TimeoutError: squeue" in caplog.text
    assert source.submitted == 1


def test_nodes_of_blocks_belong_to_one_executor_and_limits_are_checked(tmp_path: Path) -> None:
    nodes = BlockNodes(Processes(tmp_path))
    with pytest.raises(ExecutorError, match="no executor listens"):
        _ = nodes.address
    with ContextExecutor(nodes=nodes), pytest.raises(ExecutorError, match="belong to another executor"):
        ContextExecutor(nodes=nodes)
    for options in ({"max_failures": 0}, {"register_within_s": 0.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            BlockNodes(Processes(tmp_path), **options)  # type: ignore[arg-type]


def test_every_option_becomes_a_word_of_the_worker() -> None:
    options = WorkerOptions(2, "16GB", 10_000, "1TB", 1, "/scratch/store", 540.0, 30.0, 60.0, ("envpack",))
    command = WorkerCommand("tcp://192.0.2.7:5555", "/shared/a user/worker.key", "b-1", options)
    assert str(command) == (
        "envpack worker --connect tcp://192.0.2.7:5555 --key '/shared/a user/worker.key' --block b-1 --cores 2 "
        "--memory 16GB --context-memory 10000 --disk 1TB --gpus 1 --store /scratch/store --wall-time 540s "
        "--grace 30s --join-within 60s"
    )
    assert command.words("/run/key")[5] == "/run/key"
    assert os.path.isabs(WorkerCommand("tcp://192.0.2.7:1", "k", "b").words()[0])


def test_a_store_may_be_named_by_what_is_known_on_the_machine_of_the_worker_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOB_FOLDER", "/scratch/17")
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    assert filled_in("{JOB_FOLDER}/{host}", "--store") == f"/scratch/17/{os.uname().nodename}"
    assert filled_in("~/store", "--store") == f"{Path.home()}/store"
    with pytest.raises(click.BadParameter, match="names a variable that is not set here"):
        filled_in("{NO_SUCH_VARIABLE}/s", "--store")
