"""An executor whose nodes are jobs of Slurm, as many as its calls want."""

from __future__ import annotations

from pathlib import Path

import pytest

from envpack_executor import ContextExecutor
from tests.executor.helpers import GENEROUS_S, wait_until
from tests.plugs import slurm_nodes
from tests.plugs.slurm import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_jobs_come_with_calls_and_end_when_there_are_none(slurm: Slurm, tmp_path: Path) -> None:
    nodes = slurm_nodes.nodes(tmp_path, max_blocks=2)
    with ContextExecutor(nodes=nodes) as executor:
        assert slurm.jobs() == []
        both = list(executor.map(slurm_nodes.meet, [str(tmp_path)] * 2, range(2), [2] * 2))
        assert sorted(node for _, node in both) == ["n1", "n2"]
        assert {node.block for node in executor.nodes()} == {block.block for block in nodes.blocks()}
        wait_until(lambda: not slurm.jobs(), lambda: f"idle jobs have ended: {slurm.states()}")
        assert {slurm.states()[job] for job, _ in both} == {"COMPLETED"}
        job, _ = executor.submit(slurm_nodes.where).result(GENEROUS_S)
        assert job not in [earlier for earlier, _ in both]
