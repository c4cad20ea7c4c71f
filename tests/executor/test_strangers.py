"""Strangers at the door of an executor: they cost it little, and disturb nobody."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from envpack_executor import ContextExecutor, RemoteNodes, messages
from envpack_executor.errors import ExecutorError
from envpack_executor.manager import door
from envpack_executor.zeromq import MAX_FRAME_BYTES, split
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, MB, run_script, wait_until
from tests.executor.storm import GREETING, LENGTH_OF_10_GB, Besieged, Knocker

DESCRIPTORS = 512


def connected(address: str) -> socket.socket:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=GENEROUS_S)


def is_hung_up(connection: socket.socket) -> bool:
    """Read what the other end says until it hangs up."""
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(4096):
            pass
    return True


def test_thousands_of_silent_strangers_disturb_nobody_and_cost_little(tmp_path: Path) -> None:
    with Besieged(tmp_path, DESCRIPTORS) as besieged:
        before = besieged.look()
        knocker = Knocker(besieged.address, seed=1, kept=1000)
        seen = []
        for _ in range(10):
            for _ in range(300):
                knocker.knock()
            seen.append(besieged.look(calls=20))
        assert max(each.descriptors for each in seen) > before.descriptors + 8, "strangers were there"
        assert max(each.descriptors for each in seen) < DESCRIPTORS
        assert max(each.resident_bytes for each in seen) < before.resident_bytes + 20 * MB
        knocker.leave()
        besieged.add_worker()
        wait_until(lambda: besieged.look(calls=1).nodes == 2, "the door is open again")


HOARDER = """
    import os, resource
    from concurrent.futures import wait
    from envpack_executor import ContextExecutor
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    with ContextExecutor(1, history=None) as executor:
        hoard = []
        try:
            while True:
                hoard.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        future = executor.submit(abs, -1)
        assert not wait([future], 0.3).done, future.exception()
        for descriptor in hoard:
            os.close(descriptor)
        print(future.result(30))
"""


def test_a_client_without_a_descriptor_left_waits_for_some_and_goes_on(tmp_path: Path) -> None:
    assert run_script(tmp_path, HOARDER) == "1\n"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteNodes]:
    """Nodes of an executor that waits for a key for a moment only."""
    monkeypatch.setattr(door, "HANDSHAKE_S", 0.3)
    nodes = RemoteNodes()
    with ContextExecutor(max_workers=1, nodes=nodes) as executor:
        yield nodes
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4


def test_who_shows_no_key_is_hung_up_on(hasty: RemoteNodes) -> None:
    with connected(hasty.address) as silent, connected(hasty.address) as polite:
        polite.sendall(GREETING)
        assert is_hung_up(silent)
        assert is_hung_up(polite)


def test_who_announces_a_frame_of_10_gb_is_hung_up_on_before_it_comes() -> None:
    nodes = RemoteNodes()
    with ContextExecutor(max_workers=1, nodes=nodes) as executor, connected(nodes.address) as stranger:
        stranger.sendall(GREETING + LENGTH_OF_10_GB)
        assert is_hung_up(stranger)
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4


def test_who_has_the_key_is_hung_up_on_for_a_frame_that_is_too_long() -> None:
    nodes = RemoteNodes()
    with ContextExecutor(max_workers=1, nodes=nodes) as executor, zmq.Context() as context:
        key = json.loads(nodes.key_file.read_text())
        with context.socket(zmq.DEALER) as peer:
            peer.linger = 0
            peer.curve_serverkey = key["server_public"].encode()
            peer.curve_publickey, peer.curve_secretkey = key["public"].encode(), key["secret"].encode()
            with peer.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
                peer.connect(nodes.address)
                peer.send(bytes(2 * MAX_FRAME_BYTES))
                assert monitor.poll(int(GENEROUS_S * 1000))
                peer.disable_monitor()
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4
        assert executor.stats().nodes == 1


@pytest.mark.parametrize("size", [0, 1, MAX_FRAME_BYTES - 1025, MAX_FRAME_BYTES, 3 * MAX_FRAME_BYTES + 7])
def test_a_message_of_any_length_is_the_sum_of_frames_of_bounded_length(size: int) -> None:
    message = messages.encode(messages.Chunk("digest", 0, bytes(size), size))
    pieces = split(message)
    assert b"".join(pieces) == message
    assert all(len(piece) < MAX_FRAME_BYTES for piece in pieces)


@pytest.mark.parametrize("bind", ["tcp://nowhere.invalid:1", "tcp://127.0.0.1", "ipc:///tmp/x", "tcp://:5"])
def test_an_address_that_is_none_is_told_apart(bind: str) -> None:
    with pytest.raises(ExecutorError, match=r"cannot listen at .*expected tcp://HOST:PORT"):
        ContextExecutor(nodes=RemoteNodes(bind))


@pytest.mark.parametrize("bind", ["tcp://*:0", "tcp://[::1]:0", "tcp://localhost:0"])
def test_addresses_of_all_kinds_can_be_listened_at(bind: str) -> None:
    if "::" in bind and not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    nodes = RemoteNodes(bind)
    with ContextExecutor(nodes=nodes):
        assert nodes.address.startswith("tcp://")
