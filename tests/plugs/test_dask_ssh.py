"""A Dask cluster that SSH starts on other hosts: real servers, a network of its own, a store on each host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envpack import pack
from tests.executor import hosts
from tests.executor.helpers import environ, wait_until, words_of
from tests.plugs import functions, sshd

CALLS = 200
MBIT = 1000
NAMES = ("client", "one", "two")

CLIENT = """
import json, os, socket, sys

import dask
from distributed import Client, SSHCluster

from envpack_executor import ContextExecutor, task
from envpack_executor.dask import DaskNodes, EnvpackPlugin

addresses, key, port, pack, calls = json.loads(sys.argv[1])


def load(size):
    return {"table": list(range(size)), "set_up_in": os.getpid()}


@task(context=(load, 1000), environment=pack)
def look(number, table, set_up_in):
    import importlib.util

    import packaging

    has_dask = importlib.util.find_spec("distributed") is not None
    return table[number], set_up_in, sys.prefix, has_dask


def answers(found):
    results, set_ups, prefixes, others = zip(*found)
    found = {"set_ups": len(set(set_ups)), "prefixes": sorted(set(prefixes)), "dask": any(others)}
    return {"results": list(results), **found}


if __name__ == "__main__":
    options = {"known_hosts": None, "client_keys": [key], "port": port}
    workers = {"nthreads": 1}
    with SSHCluster(
        addresses, connect_options=options, worker_options=workers, scheduler_options={"port": 0, "dashboard": False}
    ) as cluster, Client(cluster) as client:
        client.wait_for_workers(2)
        client.register_plugin(EnvpackPlugin())
        with dask.annotate(executor="envpack"):
            by_plugin = answers(client.gather(client.map(look, range(calls), pure=False)))
        client.unregister_worker_plugin("envpack-envpack")
        nodes = DaskNodes(client, max_leases=2, min_leases=2)
        with ContextExecutor(nodes=nodes) as executor:
            executor.prepare(look, 2).result(60)
            by_nodes = answers(executor.map(look, range(calls)))
            by_nodes["address"], by_nodes["all"] = nodes.address, executor.stats().set_ups
        unpacked = client.run(lambda: len(os.listdir(os.path.join(os.environ["ENVPACK_STORE"], "environments"))))
    print(json.dumps([by_plugin, by_nodes, sorted(unpacked.values())]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sshd.missing() != "", reason=sshd.missing())
def test_contexts_and_packs_come_to_the_hosts_of_an_ssh_cluster(tmp_path: Path) -> None:
    file = tmp_path / "versions.tar.zst"
    pack(functions.uses_packaging, output=file)
    stores = {name: str(tmp_path / f"store-{name}") for name in NAMES}
    environments = {
        name: {"ENVPACK_STORE": store, "ENVPACK_HISTORY": store + ".sqlite"} for name, store in stores.items()
    }
    with hosts.laid(NAMES, MBIT) as net, sshd.served(net, environments, tmp_path) as key:
        servers = {name: set(sshd.pids_on(net, name)) for name in NAMES}  # with what answers a knock, for a moment

        def rest(name: str) -> dict[int, str]:
            return {pid: words_of(pid) for pid in sshd.pids_on(net, name) if pid not in servers[name]}

        by_plugin, by_nodes, unpacked = client(net, tmp_path, key, file)
        for name in NAMES:
            try:
                wait_until(
                    lambda name=name: rest(name) == {}, lambda name=name: f"nothing runs on {name!r}: {rest(name)}"
                )
            finally:
                for pid in rest(name):
                    os.kill(pid, signal.SIGKILL)
    assert by_plugin["results"] == by_nodes["results"] == list(range(CALLS))
    assert (by_plugin["set_ups"], by_plugin["dask"], by_nodes["dask"]) == (2, False, False)
    assert by_nodes["set_ups"] <= by_nodes["all"] == 2
    assert by_nodes["address"].startswith("tcp://10.78.0.1:")
    # One environment in the store of each host, used by what came by Dask's own transport and by ours alike.
    assert len(by_plugin["prefixes"]) == 2
    assert set(by_nodes["prefixes"]) <= set(by_plugin["prefixes"])
    assert unpacked == [1, 1]


def client(net: hosts.Hosts, folder: Path, key: Path, file: Path) -> Any:
    """Run the client on its host and return what it prints."""
    script = folder / "client.py"
    script.write_text(CLIENT)
    words = json.dumps([[net.address(name) for name in NAMES], str(key), sshd.PORT, str(file), CALLS])
    done = subprocess.run(
        [*net.command("client"), sys.executable, str(script), words],
        env=environ(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
