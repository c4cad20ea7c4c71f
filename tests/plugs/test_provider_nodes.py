"""Nodes of Parsl's providers, without its data-flow kernel: here jobs of `LocalProvider`, real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from parsl.jobs.states import JobState as ParslState
from parsl.jobs.states import JobStatus as ParslStatus
from parsl.launchers import SimpleLauncher, SingleNodeLauncher
from parsl.providers import LocalProvider, SlurmProvider

from envpack_executor import ContextExecutor
from envpack_executor.blocks import JobState
from envpack_executor.errors import BlocksError
from envpack_executor.parsl import ProviderNodes
from envpack_executor.parsl.allocated import gpus_of
from envpack_executor.parsl.provider_source import ProviderSource
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, environ, wait_until


@pytest.fixture(autouse=True)
def own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the runs, and a path by which jobs find this project."""
    monkeypatch.setenv("ENVPACK_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PYTHONPATH", environ()["PYTHONPATH"])
    return tmp_path / "runs"


def local(**options: Any) -> LocalProvider:
    return LocalProvider(**{"init_blocks": 0, **options})


def test_a_provider_supplies_blocks_and_nothing_of_the_run_is_left(own_runs: Path, tmp_path: Path) -> None:
    nodes = ProviderNodes(local(max_blocks=2), cores=1, store=tmp_path / "block-store", idle_timeout_s=0.5)
    with ContextExecutor(nodes=nodes) as executor:
        assert list(executor.map(functions.double, range(50))) == [2 * number for number in range(50)]
        assert {node.block for node in executor.nodes()} <= {block.block for block in nodes.blocks()}
        (run,) = own_runs.iterdir()
        assert run.stat().st_mode & 0o777 == 0o700
        assert nodes.key_file == run / "worker.key"
        assert nodes.key_file.stat().st_mode & 0o777 == 0o600
        key = nodes.key_file.read_text().split()
        scripts = [path.read_text() for path in run.glob("*.sh")]
        assert scripts
        assert not any(word in script for word in key if len(word) > 20 for script in scripts)
        wait_until(lambda: not executor.nodes(), "idle blocks have left")
        assert executor.submit(functions.double, 4).result(GENEROUS_S) == 8
    assert not own_runs.exists()


@pytest.mark.slow
def test_scripts_and_output_stay_in_a_folder_that_was_named(tmp_path: Path) -> None:
    nodes = ProviderNodes(local(), cores=1, folder=tmp_path / "mine", store=tmp_path / "block-store")
    with ContextExecutor(nodes=nodes) as executor:
        assert executor.submit(functions.double, 4).result(GENEROUS_S) == 8
    (run,) = (tmp_path / "mine").iterdir()
    assert not (run / "worker.key").exists()
    (errors,) = run.glob("*.err")
    assert errors.read_text() == "envpack worker left: the executor has ended\n"


@pytest.mark.slow
def test_a_launcher_starts_several_workers_in_a_block(tmp_path: Path) -> None:
    class Twice(SimpleLauncher):
        def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int, job_dir: str) -> str:
            return f"{command} &\n{command}\nwait\n"

    nodes = ProviderNodes(
        local(nodes_per_block=2, init_blocks=1, launcher=Twice()), cores=1, store=tmp_path / "block-store"
    )
    with ContextExecutor(nodes=nodes) as executor:
        wait_until(lambda: [len(block.nodes) for block in nodes.blocks()] == [2], "both workers have joined")
        assert set(nodes.blocks()[0].nodes) == {node.node for node in executor.nodes()}


def test_a_block_whose_start_fails_is_reported_with_its_last_words(tmp_path: Path) -> None:
    provider = local(worker_init="echo no module named science >&2; exit 7", launcher=SingleNodeLauncher())
    with ContextExecutor(nodes=ProviderNodes(provider, max_failures=1)) as executor:
        future = executor.submit(functions.double, 4)
        with pytest.raises(BlocksError) as error:
            future.result(GENEROUS_S)
    assert "LocalProvider" in str(error.value)
    assert "exit code 7, its last words: 'no module named science'" in str(error.value)
    assert "which other machines do not reach: name an interface by bind=" in str(error.value)


@pytest.mark.slow
def test_workers_are_drained_before_the_wall_time_of_their_block_is_over(tmp_path: Path) -> None:
    provider = local()
    provider.walltime = "00:00:04"
    nodes = ProviderNodes(provider, cores=1, folder=tmp_path / "mine", store=tmp_path / "block-store")
    with ContextExecutor(nodes=nodes) as executor:
        first = executor.submit(functions.pid).result(GENEROUS_S)
        wait_until(lambda: not executor.nodes(), "the worker has left")
        assert executor.submit(functions.pid).result(GENEROUS_S) != first
    said = [path.read_text() for path in next((tmp_path / "mine").iterdir()).glob("*.err")]
    assert "envpack worker left: wall time of 3.8 s is over\n" in said


@pytest.mark.parametrize(
    ("walltime", "words"),
    [("02:00:00", "--wall-time 7140s"), ("00:10:00", "--wall-time 570s"), ("00:01:40", "--wall-time 57s")],
)
def test_the_wall_time_of_a_provider_leaves_time_for_the_start(walltime: str, words: str) -> None:
    provider = local()
    provider.walltime = walltime
    assert words in " ".join(ProviderNodes(provider)._options.words())


def test_a_wall_time_that_is_none_is_refused() -> None:
    provider = local()
    provider.walltime = "2h"
    with pytest.raises(ValueError, match="walltime of LocalProvider is '2h', expected HH:MM:SS"):
        ProviderNodes(provider)


def test_what_a_provider_asks_for_is_what_its_workers_offer() -> None:
    provider = local(nodes_per_block=3)
    assert ProviderNodes(provider)._options.words() == ()
    provider.cores_per_node, provider.mem_per_node, provider.gpus_per_node = 4, 16, 2
    assert ProviderSource(provider, "/tmp").slots_per_block == 12
    assert " ".join(ProviderNodes(provider)._options.words()) == "--cores 4 --memory 14400000000 --gpus 2"
    said = ProviderNodes(provider, cores=1, memory="1GB", gpus=0)._options.words()
    assert " ".join(said) == "--cores 1 --memory 1GB"


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        (None, 0),
        ("", 0),
        ("gpu", 1),
        ("gpu:2", 2),
        ("gpu:0", 0),
        ("gpu:a100", 1),
        ("gpu:a100:2", 2),
        ("gpu:2(S:0-1)", 2),
        ("gpu:a100:3(S:0,1)", 3),
        ("craynetwork:1,gpu:4", 4),
        ("gpu:a100:2, gpu:1g.5gb:1", 3),
        ("craynetwork:1", 0),
        ("gpumem:4", 0),
    ],
)
def test_gpus_are_found_among_the_generic_resources_of_slurm(gres: str | None, gpus: int) -> None:
    assert gpus_of(SlurmProvider(gres=gres)) == gpus
    assert gpus_of(SlurmProvider(gres=gres, gpus_per_node=7)) == 7


@pytest.mark.parametrize(
    ("theirs", "ours", "detail"),
    [
        (ParslStatus(ParslState.HELD, "held by the user"), JobState.PENDING, "held by the user"),
        (ParslStatus(ParslState.TIMEOUT), JobState.ENDED, "its wall time is over"),
        (ParslStatus(ParslState.CANCELLED), JobState.ENDED, "it was cancelled"),
        (ParslStatus(ParslState.FAILED, exit_code=2), JobState.FAILED, "exit code 2"),
        (ParslStatus(ParslState.MISSING), JobState.FAILED, ""),
        (ParslStatus(ParslState.UNKNOWN), JobState.UNKNOWN, ""),
    ],
)
def test_what_a_provider_says_is_put_into_our_words(theirs: ParslStatus, ours: JobState, detail: str) -> None:
    provider = local()
    provider.submit = lambda command, tasks, name: 17
    provider.status = lambda jobs: [theirs]
    source = ProviderSource(provider, "/tmp")
    (status,) = source.poll([source.submit("b", None)])  # type: ignore[arg-type]
    assert (status.state, status.detail) == (ours, detail)


def test_a_provider_that_makes_no_job_or_ends_none_says_so() -> None:
    provider = local()
    provider.submit = lambda command, tasks, name: None
    source = ProviderSource(provider, "/tmp")
    with pytest.raises(Exception, match="no job was made"):
        source.submit("b", None)  # type: ignore[arg-type]
    provider.submit = lambda command, tasks, name: 17
    provider.cancel = lambda jobs: [False]
    job = source.submit("b", None)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="1 of 1 jobs could not be cancelled"):
        source.cancel([job])
