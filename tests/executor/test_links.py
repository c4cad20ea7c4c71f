"""Workers on hosts of their own behind cables of 100 Mbit/s: what passes through which, and what becomes of a cut.

The long form (`make links`) has a pack of 300 MB and prints its figures.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.executor import ballast, hosts
from tests.executor.helpers import GENEROUS_S, MB, are_gone, descendants, wait_until
from tests.executor.hosts import Hosts
from tests.executor.linked import running
from tests.executor.linked_client import QUICK

pytestmark = pytest.mark.slow

MEGABYTES = int(os.environ.get("LINKS_MEGABYTES", "8"))
IS_LONG = MEGABYTES >= 100
MBIT = 100
WORKERS = ("one", "two")


@pytest.fixture
def net() -> Iterator[Hosts]:
    if reason := hosts.missing():
        pytest.skip(reason)
    with hosts.laid(["client", *WORKERS], MBIT) as laid:
        yield laid


@pytest.mark.parametrize("peers", [4, 0] if IS_LONG else [4])
def test_a_pack_reaches_two_hosts_by_one_transfer_from_the_client_and_one_between_them(
    net: Hosts, tmp_path: Path, peers: int
) -> None:
    ballast.install(tmp_path / "site", MEGABYTES * MB)
    with running(net, tmp_path, "pack", WORKERS, peers) as run:
        assert run.heard() == "joined"
        before = {name: (net.sent(name), net.received(name)) for name in ("client", *WORKERS)}
        run.tell()
        taken_s = float(run.heard())
        sent = {name: net.sent(name) - counts[0] for name, counts in before.items()}
        received = {name: net.received(name) - counts[1] for name, counts in before.items()}
        results = {run.heard(), run.heard()}
        assert run.client.wait(GENEROUS_S) == 0
        assert [worker.wait(GENEROUS_S) for worker in run.workers.values()] == [0, 0]
    print(f"\nlinks: {MEGABYTES} MB, {MBIT} Mbit/s, peers={peers}: both hosts had it after {taken_s:.1f} s;", end=" ")
    print(", ".join(f"{name} sent {sent[name] / MB:.1f}, received {received[name] / MB:.1f} MB" for name in sent))
    assert results == {f"{MEGABYTES * MB} {worker.pid}" for worker in run.workers.values()}
    once = MEGABYTES * MB
    slack = 0.1 * once + MB  # headers, acknowledgements, signs of life
    assert all(once < received[name] < once + slack for name in WORKERS)
    if peers:
        assert once < sent["client"] < once + slack, "one transfer from the client"
        assert once < sent["one"] + sent["two"] < once + 2 * slack, "one between the hosts"
    else:
        assert 2 * once < sent["client"] < 2 * once + 2 * slack


def test_a_silent_cut_ends_no_call_and_the_worker_behind_it_leaves_by_itself(net: Hosts, tmp_path: Path) -> None:
    with running(net, tmp_path, "calls", WORKERS) as run:
        assert run.heard() == "running"
        wait_until(lambda: bool(descendants(run.workers["two"].pid)), "calls run on the host that will be cut")
        processes = descendants(run.workers["two"].pid)
        net.cut("two")
        cut_s = time.monotonic()
        run.tell()
        calls, right, nodes = run.heard().split()
        ended_s = time.monotonic() - cut_s
        assert right == calls
        assert nodes == "1"
        assert run.client.wait(GENEROUS_S) == 0
        assert run.workers["one"].wait(GENEROUS_S) == 0
        assert run.workers["two"].wait(GENEROUS_S) == 1
        left_s = time.monotonic() - cut_s
        assert are_gone(processes)
        assert "manager silent for" in run.said("two")
    print(f"\nlinks: cut, {QUICK.silence_s:g} s of silence borne: the last of {calls} calls ended after", end=" ")
    print(f"{ended_s:.1f} s, the worker that was cut off left after {left_s:.1f} s")


@pytest.mark.skipif(not IS_LONG, reason="needs a transfer that takes long enough to be cut: make links")
def test_a_pack_reaches_one_host_when_the_one_that_passes_it_on_is_cut_off(net: Hosts, tmp_path: Path) -> None:
    ballast.install(tmp_path / "site", MEGABYTES * MB)
    (tmp_path / "release").touch()
    with running(net, tmp_path, "pack", WORKERS) as run:
        assert run.heard() == "joined"
        before = {name: net.sent(name) for name in WORKERS}
        run.tell()
        wait_until(lambda: any(net.sent(name) - before[name] > MB for name in WORKERS), "one passes it on to the other")
        giver = max(WORKERS, key=lambda name: net.sent(name) - before[name])
        (taker,) = set(WORKERS) - {giver}
        net.cut(giver)
        assert {run.heard(), run.heard()} == {f"{MEGABYTES * MB} {run.workers[taker].pid}"}
        assert run.client.wait(GENEROUS_S) == 0
        assert run.workers[giver].wait(GENEROUS_S) == 1
