"""What is packed here runs on a machine that has no network, no pip and none of these files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packs.machine import PROGRAMS, Machine


@pytest.mark.slow
def test_packs_run_on_a_machine_that_has_nothing_but_an_interpreter(tmp_path: Path) -> None:
    folder, store = tmp_path / "machine", tmp_path / "store"
    folder.mkdir()
    store.mkdir()
    machine = Machine(folder, sys.executable, [store])
    machine.bring_envpack()
    for name in ("numpy", "scipy"):
        program = PROGRAMS / f"use_{name}.py"
        here = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
        assert machine.output_of(machine.pack(program, name), program) == here.stdout
