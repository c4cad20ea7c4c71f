"""Packs of the everyday packages run on a machine without network, without pip and without the client's files.

Collected only where it is named (`make prove-packs`, which makes the clients: an environment for each Python found, in
`.venv-proof-X.Y`). Each program does real work that loads compiled parts; what it prints there is what it prints here.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packs.machine import PROGRAMS, ROOT, Machine, unshare

CLIENTS = {path.name.removeprefix(".venv-proof-"): path for path in sorted(ROOT.glob(".venv-proof-3.*"))}
HIDING = Path(__file__).with_name("hiding_client.py")

pytestmark = pytest.mark.timeout(1800)


@dataclass(frozen=True)
class Client:
    """One Python that has all packages, and the machine that it packs for."""

    python: str
    machine: Machine


@pytest.fixture(scope="module", params=CLIENTS.values(), ids=CLIENTS.keys())
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    python = str(request.param / "bin" / "python")
    top = tmp_path_factory.mktemp("offline")
    folder, store = top / "machine", top / "store"
    folder.mkdir()
    store.mkdir()
    machine = Machine(folder, python, [store])
    machine.bring_envpack()
    yield Client(python, machine)
    shutil.rmtree(top, ignore_errors=True)


def test_there_are_clients() -> None:
    assert CLIENTS, "none in .venv-proof-3.*: make prove-packs makes them"


@pytest.mark.parametrize("program", sorted(PROGRAMS.glob("use_*.py")), ids=lambda path: path.stem.removeprefix("use_"))
def test_program_prints_the_same_on_a_bare_machine(client: Client, program: Path) -> None:
    here = subprocess.run([client.python, program], capture_output=True, text=True, timeout=300)
    assert here.returncode == 0, here.stderr
    pack = client.machine.pack(program, program.stem)
    there = client.machine.output_of(pack, program)
    (client.machine.folder / pack).unlink()
    assert there == here.stdout


def test_functions_of_the_example_run_when_the_client_s_files_are_gone(client: Client, tmp_path: Path) -> None:
    """The client itself goes on, without its files: what it submits runs in packs alone."""
    code = tmp_path / "code"
    shutil.copytree(ROOT / "examples" / "inference", code, ignore=shutil.ignore_patterns("__pycache__", "*.pkl"))
    command = [*unshare(), client.python, str(HIDING), str(code), str(ROOT), str(Path(client.python).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [f"{name}: the same" for name in ("classify", "spectrum", "report")]
