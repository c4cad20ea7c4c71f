"""What an executor tells about its nodes, and how one of them is let go."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from envpack_executor import ContextExecutor, NodeStatus, RemoteNodes
from tests.executor import functions
from tests.executor.conftest import StartWorker
from tests.executor.helpers import GENEROUS_S, wait_until


def _workers(executor: ContextExecutor) -> list[NodeStatus]:
    return [node for node in executor.nodes() if node.node != "local"]


def test_a_node_is_told_with_its_host_pid_block_and_what_it_offers(start_worker: StartWorker) -> None:
    nodes = RemoteNodes()
    with ContextExecutor(max_workers=3, nodes=nodes) as executor:
        worker = start_worker(nodes.address, nodes.key_file, "--cores", "2", "--memory", "1GB", "--block", "block-7")
        wait_until(lambda: len(_workers(executor)) == 1, "it has joined")
        (there,) = _workers(executor)
        assert (there.host, there.pid, there.block) == (socket.gethostname(), worker.pid, "block-7")
        assert (there.cores, there.memory_bytes, there.gpus) == (2, 1_000_000_000, 0)
        assert there.running == 0
        assert not there.is_draining
        (here,) = (node for node in executor.nodes() if node.node == "local")
        assert (here.cores, here.block, here.pid) == (3, "", 0)


def test_a_node_is_idle_since_its_last_call_and_not_while_one_runs(start_worker: StartWorker, tmp_path: Path) -> None:
    nodes = RemoteNodes()
    with ContextExecutor(nodes=nodes) as executor:
        start_worker(nodes.address, nodes.key_file, "--cores", "1")
        gate = tmp_path / "gate"
        held = [executor.submit(functions.wait_for, str(gate)) for _ in range(3)]
        wait_until(lambda: any(node.running for node in executor.nodes()), "a call runs")
        (busy,) = executor.nodes()
        assert busy.idle_s == 0.0
        assert busy.running + executor.stats().waiting == 3
        gate.touch()
        for future in held:
            future.result(GENEROUS_S)
        (idle,) = executor.nodes()
        wait_until(lambda: executor.nodes()[0].idle_s > idle.idle_s, "its idle time grows")
        assert executor.nodes()[0].idle_s <= executor.nodes()[0].joined_s
        assert executor.stats().waiting == 0


def test_a_node_that_is_let_go_ends_its_calls_first(start_worker: StartWorker, tmp_path: Path) -> None:
    nodes = RemoteNodes()
    with ContextExecutor(nodes=nodes) as executor:
        worker = start_worker(nodes.address, nodes.key_file, "--cores", "1")
        gate = tmp_path / "gate"
        held = executor.submit(functions.wait_for, str(gate))
        wait_until(lambda: any(node.running for node in executor.nodes()), "the call runs")
        (node,) = executor.nodes()
        executor.drain(node.node, "its block is idle")
        assert executor.nodes()[0].is_draining
        late = executor.submit(functions.double, 4)
        assert "about to leave" in executor.why(late)
        gate.touch()
        held.result(GENEROUS_S)
        assert worker.wait(GENEROUS_S) == 0
        assert "its block is idle" in (tmp_path / "worker-0.err").read_text()
        start_worker(nodes.address, nodes.key_file, "--cores", "1")
        assert late.result(GENEROUS_S) == 8


def test_only_workers_that_are_there_can_be_let_go() -> None:
    with ContextExecutor(max_workers=1) as executor:
        for node in ("local", "nobody"):
            with pytest.raises(ValueError, match=f"no worker '{node}' is there"):
                executor.drain(node)
