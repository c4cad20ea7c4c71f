"""Many processes with one store, and processes that die in the middle."""

import itertools
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envpack.pack import Manifest, pack

# One process loads everything and forks the clients, so that they all are at the same place at the same time.
FORK_MANY = """
import logging, os, sys
from envpack.pack import Store
import envpack.discover
logging.basicConfig(filename=sys.argv[1], filemode="a", level=logging.INFO, format="%(message)s")
go_read, go_write = os.pipe()
children = []
for _ in range(int(sys.argv[4])):
    child = os.fork()
    if not child:
        os.close(go_write)
        os.read(go_read, 1)
        store = Store(sys.argv[2])
        # One call, so that the lines of many processes do not mix.
        os.write(1, f"{store.materialise(store.import_pack(sys.argv[3]))}\\n".encode())
        os._exit(0)
    children.append(child)
os.close(go_write)
print([os.waitpid(child, 0)[1] for child in children])
"""

# How many clients are killed: the short form, or what `make soak-store` asks for.
KILLS = int(os.environ.get("SOAK_KILLS", "30"))

# Forks one client after the other and kills each at another moment of its work; some of them collect what others made.
FORK_AND_KILL = """
import os, random, select, signal, sys
from envpack.pack import Store
import envpack.discover, envpack.pack.store.collection
source = random.Random(int(sys.argv[3]))
killed = 0
longest_s = float(sys.argv[5])
for _ in range(int(sys.argv[4])):
    collects = source.random() < 0.4
    child = os.fork()
    if not child:
        store = Store(sys.argv[1])
        if collects:
            store.collect(max_size_bytes=0)
        store.materialise(store.import_pack(sys.argv[2]))
        os._exit(0)
    handle = os.pidfd_open(child)
    if not select.select([handle], [], [], source.uniform(0, longest_s))[0]:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    os.close(handle)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    killed += status == signal.SIGKILL
    # As long as a client takes now, on a machine that others use.
    longest_s *= 1.1 if status else 0.8
print(killed, longest_s)
"""


@pytest.fixture
def packed(prefix, stores, needs, tmp_path: Path) -> tuple[Path, Manifest]:
    source = random.Random(3)
    for number in range(4):
        files = {f"p{number}/m{index}.py": f"x = {source.random()}\n" * 20 for index in range(60)}
        prefix.install(f"p{number}", "1.0", {**files, f"p{number}/big.bin": source.randbytes(400_000)})
    file = tmp_path / "pack.tar.zst"
    answer = needs(*((f"p{number}", "1.0") for number in range(4)))
    return file, pack(answer, python=prefix.python, store=stores(), output=file)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


def run_code(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_32_processes_at_once_unpack_each_layer_once(packed, stores, tmp_path: Path) -> None:
    file, manifest = packed
    store = stores()
    log = tmp_path / "log"
    *answers, statuses = run_code(FORK_MANY, log, store.folder, file, 32).splitlines()
    assert statuses == str([0] * 32)
    assert answers == [str(store.materialise(manifest))] * 32
    lines = log.read_text().splitlines()
    unpacked = sorted(line for line in lines if line.startswith("unpacked"))
    assert unpacked == sorted(f"unpacked layer {ref.digest}" for ref in manifest.layers)
    assert len([line for line in lines if line.startswith("made environment")]) == 1


def test_a_process_killed_at_any_moment_harms_no_later_one(packed, stores) -> None:
    file, manifest = packed
    reference = stores()
    reference.import_pack(file)
    start = time.perf_counter()
    expected = content(reference.materialise(manifest))
    whole_s = 2 * (time.perf_counter() - start)
    killed = 0
    for seed in itertools.count():
        if killed >= KILLS:
            break
        assert seed < 4 * KILLS, f"only {killed} processes were killed at their work"
        store = stores()
        answer = run_code(FORK_AND_KILL, store.folder, file, seed, 5, whole_s).split()
        killed += int(answer[0])
        whole_s = float(answer[1])
        assert store.import_pack(file) == manifest
        assert content(store.materialise(manifest)) == expected
        assert [item.problems for item in store.verify() if item.problems] == []
        # Whoever writes next tidies up; the two above did not write if the last one was killed after its work.
        store.pack_layer(())
        assert list((store.folder / "tmp").iterdir()) == []
        store.release()
        store.collect(max_size_bytes=0)
        assert (store.ls().layers, store.ls().ready) == ((), ())
    print(f"{killed} clients killed, and every file of {seed} stores is as it should be")


def test_two_clients_pack_into_one_store_at_once(prefix, stores, tmp_path: Path) -> None:
    store = stores()
    project = tmp_path / "project"
    project.mkdir()
    for number in range(30):
        (project / f"m{number}.py").write_text(f"x = {number}\n")
    (project / "script.py").write_text("".join(f"import m{number}\n" for number in range(30)))
    code = (
        "import sys; from envpack.pack import pack; print('ready', flush=True); sys.stdin.read()\n"
        "print(pack(sys.argv[1], store=sys.argv[2]).id)"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, project / "script.py", store.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    answers = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0] * 4, answers
    assert len({out for out, _ in answers}) == 1
    assert len(store.ls().manifests) == 1
