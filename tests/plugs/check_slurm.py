"""The longer half of what is tried on a Slurm (`make slurm`): blocks of two nodes, nodes that crash, wall times.

Collected only where it is named: it waits for what Slurm itself takes half a minute or more to notice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from envpack_executor import ContextExecutor
from tests.executor.helpers import GENEROUS_S, wait_until
from tests.plugs import slurm_nodes
from tests.plugs.slurm import Slurm, why_not

pytestmark = pytest.mark.timeout(600)

NOTICED_S = 120.0


@pytest.fixture
def own_slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    """A Slurm for one test, whose daemons may be killed and started again."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with Slurm() as slurm:
        for name, value in slurm.environ.items():
            monkeypatch.setenv(name, value)
        yield slurm


def test_a_job_of_two_nodes_is_two_workers_of_one_block(slurm: Slurm, tmp_path: Path) -> None:
    nodes = slurm_nodes.nodes(tmp_path, nodes_per_block=2, init_blocks=1)
    with ContextExecutor(nodes=nodes) as executor:
        both = list(executor.map(slurm_nodes.meet, [str(tmp_path)] * 2, range(2), [2] * 2))
        assert sorted(node for _, node in both) == ["n1", "n2"]
        assert len({job for job, _ in both}) == len({node.block for node in executor.nodes()}) == 1


def test_calls_of_a_job_that_is_cancelled_run_again_in_the_next_one(slurm: Slurm, tmp_path: Path) -> None:
    with ContextExecutor(nodes=slurm_nodes.nodes(tmp_path, max_blocks=2)) as executor:
        both = list(executor.map(slurm_nodes.meet, [str(tmp_path)] * 2, range(2), [2] * 2))
        cancelled, _ = both[0]
        futures = [executor.submit(slurm_nodes.mark, str(tmp_path), number, 0.5) for number in range(8)]
        wait_until(lambda: sum(node.running for node in executor.nodes()) >= 2, "both jobs are busy")
        slurm.run("scancel", cancelled)
        assert [future.result(GENEROUS_S) for future in futures] == list(range(8))
        ended = (tmp_path / "done").read_text().split()
        assert sorted(map(int, ended)) == list(range(8))
    assert slurm.states()[cancelled] == "CANCELLED"


def test_calls_end_once_when_a_node_fails_with_all_that_runs_there(own_slurm: Slurm, tmp_path: Path) -> None:
    with ContextExecutor(nodes=slurm_nodes.nodes(tmp_path, max_blocks=2)) as executor:
        both = list(executor.map(slurm_nodes.meet, [str(tmp_path)] * 2, range(2), [2] * 2))
        job, name = both[0]
        futures = [executor.submit(slurm_nodes.mark, str(tmp_path), number, 0.5) for number in range(20)]
        wait_until(lambda: sum(node.running for node in executor.nodes()) >= 2, "both jobs are busy")
        own_slurm.crash_node(name)
        assert [future.result(GENEROUS_S) for future in futures] == list(range(20))
        ended = (tmp_path / "done").read_text().split()
        assert sorted(map(int, ended)) == list(range(20))
        own_slurm.start_node(name)
        wait_until(lambda: own_slurm.states()[job] != "RUNNING", "Slurm has noticed", NOTICED_S)


def test_calls_go_on_under_a_slurmd_that_was_killed_and_its_worker_is_gone_in_the_end(
    own_slurm: Slurm, tmp_path: Path
) -> None:
    futures: list[Future[int]] = []
    with ContextExecutor(nodes=slurm_nodes.nodes(tmp_path, max_blocks=2)) as executor:
        both = list(executor.map(slurm_nodes.meet, [str(tmp_path)] * 2, range(2), [2] * 2))
        job, name = both[0]
        own_slurm.kill_node(name)

        def has_been_noticed() -> bool:
            while sum(not future.done() for future in futures) < 4:
                futures.append(executor.submit(slurm_nodes.mark, str(tmp_path), len(futures), 0.2))
            return own_slurm.states()[job] != "RUNNING"

        wait_until(has_been_noticed, "Slurm takes the node for dead", NOTICED_S)
        own_slurm.start_node(name)
        futures += [executor.submit(slurm_nodes.mark, str(tmp_path), len(futures) + more, 0.2) for more in range(20)]
        assert [future.result(GENEROUS_S) for future in futures] == list(range(len(futures)))
    own_slurm.wait_until_idle()


def test_no_call_is_lost_where_the_wall_time_of_its_job_is_over(slurm: Slurm, tmp_path: Path) -> None:
    nodes = slurm_nodes.nodes(tmp_path, walltime="00:01:00")
    with ContextExecutor(nodes=nodes) as executor:
        futures = [executor.submit(slurm_nodes.mark, str(tmp_path), number, 1.0) for number in range(70)]
        assert [future.result(300) for future in futures] == list(range(70))
    slurm.wait_until_idle()
    begun = Counter((tmp_path / "begun").read_text().split())
    assert begun == Counter(map(str, range(70)))
    first, *others = [slurm.states()[each.job] for each in nodes.ended()]
    assert first == "COMPLETED"  # not TIMEOUT: its worker had left by then
    assert others
