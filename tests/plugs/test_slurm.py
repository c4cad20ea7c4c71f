"""The Slurm that tests start for themselves: it does what the tests of the plugs take for granted."""

from __future__ import annotations

import pytest

from tests.executor.helpers import is_alive, wait_until
from tests.plugs.slurm import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_job_of_two_nodes_has_both_and_its_steps_run_on_each(slurm: Slurm) -> None:
    job = slurm.submit("srun sh -c 'echo $SLURMD_NODENAME'", "--nodes=2", "--ntasks-per-node=1")
    wait_until(lambda: slurm.states()[job] == "COMPLETED", slurm.said)
    assert sorted(slurm.output(job).split()) == ["n1", "n2"]


def test_a_job_that_is_cancelled_ends_with_all_that_it_has_started(slurm: Slurm) -> None:
    job = slurm.submit("echo $$; exec sleep 1000")
    wait_until(lambda: slurm.states()[job] == "RUNNING" and _pid(slurm, job) is not None, slurm.said)
    pid = _pid(slurm, job)
    assert pid is not None
    assert is_alive(pid)
    slurm.run("scancel", job)
    wait_until(lambda: slurm.states()[job] == "CANCELLED" and not is_alive(pid), slurm.said)


def test_nothing_is_left_of_a_slurm_whose_node_crashed_under_a_job() -> None:
    with Slurm(nodes=1) as slurm:
        job = slurm.submit("echo $$; exec sleep 1000")
        wait_until(lambda: slurm.states()[job] == "RUNNING" and _pid(slurm, job) is not None, slurm.said)
        pid = _pid(slurm, job)
        slurm.kill_node("n1")
        assert pid is not None
        assert is_alive(pid)  # nobody is there to end it: a worker has to notice by itself
    wait_until(lambda: not is_alive(pid), "the job has ended")
    assert not slurm.folder.exists()


def _pid(slurm: Slurm, job: str) -> int | None:
    try:
        return int(slurm.output(job))
    except (FileNotFoundError, ValueError):
        return None  # it has not printed it yet
