"""Workers on other machines, here as processes of their own: joining, keys, strangers, losses, leaving, layers."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from envpack_executor import ContextExecutor, RemoteNodes, messages
from envpack_executor.curve import Guard
from envpack_executor.errors import ExecutorError, KeyFileError, ProcessLostError
from envpack_executor.manager import server
from envpack_executor.nodes import Heartbeat
from envpack_executor.zeromq import Context, has_input, split
from tests.executor import functions
from tests.executor.conftest import StartWorker
from tests.executor.helpers import GENEROUS_S, are_gone, descendants, run_script, start_script, wait_until

QUICK = Heartbeat(every_s=0.2, silence_s=2.0)


@pytest.fixture
def nodes() -> RemoteNodes:
    return RemoteNodes(heartbeat=QUICK)


def said(tmp_path: Path, number: int = 0) -> str:
    return (tmp_path / f"worker-{number}.err").read_text()


def ended(worker: subprocess.Popen[str]) -> int:
    return worker.wait(GENEROUS_S)


# --- joining and leaving


def test_a_worker_joins_serves_and_leaves_with_the_executor(
    nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path
) -> None:
    with ContextExecutor(nodes=nodes) as executor:
        futures = [executor.submit(functions.double, number) for number in range(200)]
        worker = start_worker(nodes.address, nodes.key_file)
        assert [future.result(GENEROUS_S) for future in futures] == [2 * number for number in range(200)]
        assert executor.stats().pids == tuple(descendants(worker.pid))
        pids = descendants(worker.pid)
        key_file = nodes.key_file
    assert ended(worker) == 0
    assert are_gone(pids)
    assert not key_file.exists()
    assert said(tmp_path) == "envpack worker left: the executor has ended\n"


def test_local_and_remote_workers_serve_side_by_side(
    nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    with ContextExecutor(max_workers=1, nodes=nodes) as executor:
        start_worker(nodes.address, nodes.key_file)
        wait_until(lambda: executor.stats().nodes == 2, "the worker has joined")
        started = [tmp_path / "started-0", tmp_path / "started-1"]
        futures = [executor.submit(functions.announce_and_wait_for, str(path), str(release)) for path in started]
        wait_until(lambda: all(path.exists() for path in started), "both calls run at once")
        release.touch()
        assert [future.result(GENEROUS_S) for future in futures] == [str(release)] * 2


def test_large_arguments_and_results_pass_a_worker(nodes: RemoteNodes, start_worker: StartWorker) -> None:
    with ContextExecutor(nodes=nodes) as executor:
        start_worker(nodes.address, nodes.key_file)
        assert len(executor.submit(functions.double, bytes(20_000_000)).result(GENEROUS_S)) == 40_000_000


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.skipif(not _has_ipv6(), reason="there is no ::1 here")
@pytest.mark.parametrize("bulk", ["plain", "encrypted"])
def test_a_worker_joins_and_serves_over_ipv6(start_worker: StartWorker, bulk: Any) -> None:
    nodes = RemoteNodes("tcp://[::1]:0", bulk=bulk)
    with ContextExecutor(nodes=nodes) as executor:
        assert nodes.address.startswith("tcp://[::1]:")
        start_worker(nodes.address, nodes.key_file)
        assert executor.submit(len, bytes(20_000_000)).result(GENEROUS_S) == 20_000_000


def test_a_worker_leaves_when_its_wall_time_is_over(
    nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path
) -> None:
    with ContextExecutor(nodes=nodes):
        worker = start_worker(nodes.address, nodes.key_file, "--wall-time", "1s")
        assert ended(worker) == 0
    assert said(tmp_path) == "envpack worker left: wall time of 1 s is over\n"


def test_nodes_belong_to_one_executor_and_say_nothing_before_it_listens() -> None:
    nodes = RemoteNodes()
    with pytest.raises(ExecutorError, match="no executor listens"):
        _ = nodes.address
    with ContextExecutor(nodes=nodes):
        assert nodes.address.startswith("tcp://127.0.0.1:")
        with pytest.raises(ExecutorError, match="belong to another executor"):
            ContextExecutor(nodes=nodes)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"bind": "tcp://256.0.0.1:1"}, ExecutorError),
        ({"bind": "nonsense"}, ExecutorError),
        ({"key_file": "/proc/no/such/key"}, KeyFileError),
    ],
)
def test_an_executor_that_cannot_listen_says_so_and_leaves_nothing(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        ContextExecutor(nodes=RemoteNodes(**options))


# --- losses


def test_calls_of_a_worker_that_is_killed_run_again_on_another(
    nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path
) -> None:
    started, release = tmp_path / "started", tmp_path / "release"
    with ContextExecutor(nodes=nodes) as executor:
        worker = start_worker(nodes.address, nodes.key_file)
        futures = [executor.submit(functions.announce_and_wait_for, str(started), str(release)) for _ in range(3)]
        wait_until(started.exists, "the first call runs")
        pids = descendants(worker.pid)
        worker.kill()
        wait_until(lambda: are_gone(pids), "its context processes have ended with it", deadline_s=5)
        start_worker(nodes.address, nodes.key_file)
        release.touch()
        assert [future.result(GENEROUS_S) for future in futures] == [str(release)] * 3


def test_a_call_that_lost_its_only_try_with_its_worker_says_so(
    nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    with ContextExecutor(nodes=nodes, max_tries=1) as executor:
        worker = start_worker(nodes.address, nodes.key_file)
        future = executor.submit(functions.sleep_in, str(started), 60)
        wait_until(started.exists, "the call runs")
        worker.kill()
        error = future.exception(GENEROUS_S)
        assert isinstance(error, ProcessLostError)
        assert f"(pid {worker.pid}) lost: silent for" in error.losses[0]


def test_a_worker_that_was_suspended_too_long_is_given_up_and_comes_again(
    nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path
) -> None:
    with ContextExecutor(nodes=nodes) as executor:
        worker = start_worker(nodes.address, nodes.key_file)
        executor.submit(functions.pid).result(GENEROUS_S)
        worker.send_signal(signal.SIGSTOP)
        wait_until(lambda: executor.stats().nodes == 0, "the manager has given it up")
        worker.send_signal(signal.SIGCONT)
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4
        assert worker.poll() is None


CLIENT = """
    import sys
    from envpack_executor import ContextExecutor, RemoteNodes
    from envpack_executor.nodes import Heartbeat
    from tests.executor import functions
    nodes = RemoteNodes(key_file=sys.argv[1], heartbeat=Heartbeat(every_s=0.2, silence_s=2.0))
    with ContextExecutor(nodes=nodes) as executor:
        print(nodes.address, flush=True)
        executor.submit(functions.sleep_in, sys.argv[2], 60).result()
"""


def test_a_worker_whose_client_is_killed_leaves_with_its_processes_within_the_silence_time(
    start_worker: StartWorker, tmp_path: Path
) -> None:
    key_file, started = tmp_path / "worker.key", tmp_path / "started"
    with start_script(tmp_path, CLIENT, str(key_file), str(started)) as client:
        assert client.stdout is not None
        worker = start_worker(client.stdout.readline().strip(), key_file)
        wait_until(started.exists, "the call runs")
        pids = descendants(worker.pid)
        client.kill()
        assert ended(worker) == 1
        wait_until(lambda: are_gone(pids), "the processes of the worker have ended")
    assert "envpack: error: manager silent for 2." in said(tmp_path)


# --- keys


def test_the_key_file_is_readable_by_its_owner_alone(nodes: RemoteNodes) -> None:
    with ContextExecutor(nodes=nodes):
        assert nodes.key_file.stat().st_mode & 0o777 == 0o600
        assert nodes.key_file.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("replaced", ["server_public", "everything"])
def test_a_worker_with_a_key_of_another_run_ends_with_a_clear_line(
    nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path, replaced: str
) -> None:
    other = RemoteNodes(key_file=tmp_path / "other.key")
    with ContextExecutor(max_workers=1, nodes=nodes) as executor, ContextExecutor(nodes=other):
        wrong = json.loads(other.key_file.read_text())
        if replaced == "server_public":  # so that the manager can read the greeting, and refuses the worker's key
            wrong["server_public"] = json.loads(nodes.key_file.read_text())["server_public"]
        key_file = tmp_path / "wrong.key"
        key_file.touch(0o600)
        key_file.write_text(json.dumps(wrong))
        worker = start_worker(nodes.address, key_file, "--join-within", "3s")
        assert ended(worker) == 1
        assert executor.stats().nodes == 1
    line = said(tmp_path)
    assert line.startswith("envpack: error: ")
    assert line.count("\n") == 1
    assert "key" in line


def _open_to_all(key_file: Path) -> None:
    key_file.write_text("{}")
    key_file.chmod(0o644)


def _garbage(key_file: Path) -> None:
    key_file.touch(0o600)
    key_file.write_bytes(b"\xff\xfe garbage")


def _other_json(key_file: Path) -> None:
    key_file.touch(0o600)
    key_file.write_text('{"schema": 1, "server_public": 5}')


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_open_to_all, "may be read by others: mode 644, expected 600"),
        (lambda key_file: None, "cannot be read: No such file"),
        (_garbage, "not a key file"),
        (_other_json, "no key file"),
    ],
)
def test_a_key_file_that_is_none_is_wrong_usage(
    start_worker: StartWorker, tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    key_file = tmp_path / "worker.key"
    make(key_file)
    worker = start_worker("tcp://127.0.0.1:9", key_file, "--join-within", "3s")
    assert ended(worker) == 2
    line = said(tmp_path)
    assert line.startswith("envpack: error: ")
    assert message in line
    assert line.count("\n") == 1


def test_a_worker_whose_greeting_was_lost_greets_again(start_worker: StartWorker, tmp_path: Path) -> None:
    context = Context()
    try:
        guard = Guard(context)
        socket = context.socket(zmq.ROUTER)
        guard.protect(socket)
        guard.worker_key.write(tmp_path / "worker.key")
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        worker = start_worker(f"tcp://127.0.0.1:{port}", tmp_path / "worker.key")
        greetings: list[messages.Hello] = []

        def is_greeted() -> bool:
            guard.answer()
            while has_input(socket):
                identity, *parts = socket.recv_multipart()
                message = messages.decode_from_worker(b"".join(parts))
                if not isinstance(message, messages.Hello):
                    continue  # its farewell
                greetings.append(message)
                if len(greetings) == 2:  # the first is lost
                    farewell = messages.encode(messages.Farewell("it has come twice"))
                    socket.send_multipart([identity, *split(farewell)])
            return len(greetings) == 2

        wait_until(is_greeted, "the second greeting")
        assert ended(worker) == 0
    finally:
        context.destroy(linger=0)
    assert greetings[1].formerly == greetings[0].membership
    assert "it has come twice" in said(tmp_path)


def test_a_worker_that_nobody_answers_gives_up(nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path) -> None:
    with ContextExecutor(nodes=nodes), socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        worker = start_worker(address, nodes.key_file, "--join-within", "1s")
        assert ended(worker) == 1
    assert "no answer from tcp://127.0.0.1" in said(tmp_path)


def test_a_worker_says_that_what_answers_is_no_executor(
    nodes: RemoteNodes, start_worker: StartWorker, tmp_path: Path
) -> None:
    with ContextExecutor(nodes=nodes), zmq.Context() as context, context.socket(zmq.ROUTER) as open_to_all:
        port = open_to_all.bind_to_random_port("tcp://127.0.0.1")
        worker = start_worker(f"tcp://127.0.0.1:{port}", nodes.key_file)
        assert ended(worker) == 1
    assert f"no executor listens at tcp://127.0.0.1:{port}: what answers there speaks another protocol" in said(
        tmp_path
    )


# --- strangers


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Everything that the manager decodes."""
    seen: list[bytes] = []
    decode = messages.decode_from_worker

    def note(data: bytes) -> messages.FromWorker:
        seen.append(data)
        return decode(data)

    monkeypatch.setattr(server.messages, "decode_from_worker", note)
    return seen


def hello(pid: int = 1, protocol: int = messages.PROTOCOL_VERSION, python: str = "") -> bytes:
    version = python or ".".join(map(str, sys.version_info[:3]))
    return messages.encode(messages.Hello(protocol, "stranger", pid, version, 64))


def stranger(context: zmq.Context[Any], address: str) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.connect(address)
    return socket


def say_raw(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError:
        pass  # the manager has hung up on it: just as well


def test_strangers_are_never_decoded_and_disturb_nobody(
    nodes: RemoteNodes, start_worker: StartWorker, decoded: list[bytes]
) -> None:
    garbage = [random.Random(number).randbytes(10 * number) for number in range(20)]
    greeting_of_10_gb = b"\xff" + (10 << 30).to_bytes(8, "big") + b"\x7f\x03\x00CURVE"
    with contextlib.ExitStack() as stack:
        executor = stack.enter_context(ContextExecutor(nodes=nodes))
        context = stack.enter_context(zmq.Context())
        plain = stack.enter_context(stranger(context, nodes.address))
        wrong = stack.enter_context(known_peer(context, nodes, keys=zmq.curve_keypair()))
        for each in (plain, wrong):
            each.send(hello(pid=666))
        host, _, port = nodes.address.removeprefix("tcp://").rpartition(":")
        for data in (*garbage, greeting_of_10_gb):
            say_raw(stack.enter_context(socket.create_connection((host, int(port)))), data)
        start_worker(nodes.address, nodes.key_file)
        futures = [executor.submit(functions.double, number) for number in range(100)]
        assert [future.result(GENEROUS_S) for future in futures] == [2 * number for number in range(100)]
        assert executor.stats().nodes == 1
    kinds = {type(messages.decode_from_worker(data)) for data in list(decoded)}
    assert messages.Hello in kinds, "the worker's own words were seen"
    assert not [data for data in decoded if b"stranger" in data]


def known_peer(
    context: zmq.Context[Any], nodes: RemoteNodes, keys: tuple[bytes, bytes] | None = None
) -> zmq.Socket[bytes]:
    """Connect as a worker does, with the workers' key or with `keys`."""
    key = json.loads(nodes.key_file.read_text())
    peer = context.socket(zmq.DEALER)
    peer.linger = 0
    peer.rcvtimeo = int(GENEROUS_S * 1000)
    peer.curve_serverkey = key["server_public"].encode()
    peer.curve_publickey, peer.curve_secretkey = keys or (key["public"].encode(), key["secret"].encode())
    peer.connect(nodes.address)
    return peer


@pytest.mark.parametrize(
    ("greeting", "options", "reason"),
    [
        ({"protocol": 99}, {}, f"worker speaks protocol 99, the manager {messages.PROTOCOL_VERSION}"),
        ({"python": "3.2.1"}, {"allocations": "auto"}, "worker runs Python 3.2.1, the manager"),
    ],
)
def test_a_worker_that_cannot_be_used_is_told_why(nodes: RemoteNodes, greeting: Any, options: Any, reason: str) -> None:
    with contextlib.ExitStack() as stack:
        executor = stack.enter_context(ContextExecutor(nodes=nodes, **options))
        peer = stack.enter_context(known_peer(stack.enter_context(zmq.Context()), nodes))
        peer.send(hello(**greeting))
        answer = messages.decode_to_worker(peer.recv())
        assert isinstance(answer, messages.Farewell)
        assert answer.is_refusal
        assert reason in answer.reason
        assert executor.stats().nodes == 0


def test_a_peer_that_holds_the_key_and_talks_nonsense_harms_nobody(nodes: RemoteNodes) -> None:
    with contextlib.ExitStack() as stack:
        executor = stack.enter_context(ContextExecutor(max_workers=1, nodes=nodes))
        peer = stack.enter_context(known_peer(stack.enter_context(zmq.Context()), nodes))
        for data in (b"", b"nonsense", messages.encode(messages.ProcessGone(messages.ProcessId(1), 0, 0))):
            peer.send(data)
        peer.send_multipart([b"several", b"frames"])
        peer.send(hello())
        answers = [messages.decode_to_worker(peer.recv()) for _ in range(2)]
        assert [type(answer) for answer in answers] == [messages.Farewell, messages.Welcome]
        peer.send(messages.encode(messages.NeedChunk("../../etc/passwd", 0)))
        chunk = messages.decode_to_worker(peer.recv())
        while not isinstance(chunk, messages.Chunk):
            chunk = messages.decode_to_worker(peer.recv())
        assert (chunk.total, chunk.data) == (-1, b"")
        peer.send(messages.encode(messages.Goodbye("done")))
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4


# --- layers


def test_layers_travel_to_a_worker_that_has_none_of_them(start_worker: StartWorker, tmp_path: Path) -> None:
    script = """
        import pathlib, subprocess, sys
        from envpack import pack
        from envpack_executor import ContextExecutor, RemoteNodes

        def where(version):
            import packaging
            from packaging.version import Version
            return packaging.__file__, str(Version(version).base_version)

        if __name__ == "__main__":
            manifest = pack(where)
            nodes = RemoteNodes(key_file=sys.argv[1])
            with ContextExecutor(nodes=nodes, environment=manifest) as executor:
                print(nodes.address, flush=True)
                print(*executor.submit(where, "1.2rc3").result(), sep="\\n", flush=True)
    """
    key_file = tmp_path / "worker.key"
    with start_script(tmp_path, script, str(key_file)) as client:
        assert client.stdout is not None
        address = client.stdout.readline().strip()
        assert address, (tmp_path / "client.err").read_text()
        worker = start_worker(address, key_file)
        printed, _ = client.communicate(timeout=100)
        assert ended(worker) == 0
    file, base_version = printed.split()
    assert base_version == "1.2"
    assert file.startswith(str(tmp_path / "worker-store-0")), "it ran in the worker's own environment"


def test_run_script_is_told_apart_from_a_failing_one(tmp_path: Path) -> None:
    assert run_script(tmp_path, "print(1)") == "1\n"
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_script(tmp_path, "1 / 0")


def test_an_executor_without_workers_closes_when_its_calls_are_cancelled() -> None:
    executor = ContextExecutor(nodes=RemoteNodes())
    early, late = (executor.submit(functions.double, number) for number in range(2))
    assert early.cancel()
    closing = threading.Thread(target=executor.shutdown)
    closing.start()
    assert late.cancel()
    closing.join(GENEROUS_S)
    assert not closing.is_alive()
