"""Packs for other machines from a real index, as this machine is configured; skipped where none is reached."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from envpack import Store, pack
from envpack.errors import RegistryError, TargetDistributionError
from envpack.pack import Manifest
from envpack.pack.sources.fetching import python_of_version
from tests.pack.wheels import AARCH64, members

pytestmark = pytest.mark.slow

PROGRAM = """import numpy as np, yaml
from helper import twice
print(twice(21), round(float(np.linalg.det(2 * np.eye(3))), 6), yaml.safe_load("a: 1"))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("def twice(x):\n    return 2 * x\n")
    (tmp_path / "script.py").write_text(PROGRAM)
    return tmp_path / "script.py"


def packed(script: Path, store: Store, python: str | None, platform: str | None) -> Manifest:
    try:
        return pack(script, python=python, platform=platform, store=store)
    except RegistryError as error:
        pytest.skip(f"no index is reached: {error}")


def test_pack_for_another_machine_has_its_machine_code(script: Path, store: Store) -> None:
    manifest = packed(script, store, None, "manylinux_2_28_aarch64")
    assert manifest.platform == "linux-aarch64"
    store.export(manifest, script.with_suffix(".tar.zst"))
    files = members(script.with_suffix(".tar.zst"))
    code = [content for path, content in files.items() if "/numpy" in path and content[:4] == b"\x7fELF"]
    assert len(code) > 10
    assert {struct.unpack_from("<H", content, 18)[0] for content in code} == {AARCH64}


def test_pack_for_another_version_runs_with_it(script: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pyenv = Path.home().glob(".pyenv/versions/3.*/bin")
    monkeypatch.setenv("PATH", os.pathsep.join([os.environ["PATH"], *map(str, sorted(pyenv))]))
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    others = [version for version in ("3.11", "3.12", "3.13") if version != running]
    found = next(((version, python) for version in others if (python := python_of_version(version))), None)
    if found is None:
        pytest.skip(f"none of Python {' and '.join(others)} is here")
    version, python = found
    environment = store.materialise(packed(script, store, version, None), python=python.executable)
    alone = shutil.copy(script, script.parent / "store")
    done = subprocess.run([environment / "bin" / "python", "-P", alone], capture_output=True, text=True, timeout=60)
    assert done.stdout == "42 8.0 {'a': 1}\n", done.stderr


def test_a_version_of_an_old_python_is_said_to_have_no_wheel(script: Path, store: Store) -> None:
    try:
        with pytest.raises(TargetDistributionError, match="numpy"):
            pack(script, python="3.8", store=store)
    except RegistryError as error:
        pytest.skip(f"no index is reached: {error}")
