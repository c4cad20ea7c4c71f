"""Every example of this project runs in its pack, whole and function by function.

Collected only where it is named (`make test-packs`).
"""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envpack import Store, pack
from envpack_executor import ContextExecutor
from tests.packs.asked import ARGUMENTS, BESIDE, CALLS
from tests.packs.conftest import EXAMPLES
from tests.packs.misses import misses
from tests.packs.runs import ROOT, start

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all examples: they write files beside themselves."""
    folder = tmp_path_factory.mktemp("copied")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__", "*.pkl"))
    return folder


@pytest.mark.parametrize("file", EXAMPLES)
def test_script_runs_in_its_pack(file: str, store: Store, copied: Path, tmp_path: Path) -> None:
    prefix = store.materialise(pack(copied / file, store=store))
    script = copied / file if file in BESIDE else Path(shutil.copy(copied / file, tmp_path))
    output = start(prefix, tmp_path, str(script), *ARGUMENTS.get(file, ()), is_beside=file in BESIDE)
    assert misses(output, str(tmp_path)) == [], output
    assert "exit status" not in output, output


@pytest.fixture(scope="module")
def modules(copied: Path) -> Iterator[dict[str, Any]]:
    """The examples as modules, under the names under which they import each other."""
    folders = {str((copied / file).parent) for file in EXAMPLES}
    sys.path[:0] = sorted(folders)
    found = {file: importlib.import_module(Path(file).stem) for file in EXAMPLES}
    found["examples/inference/run.py"].train(copied / "examples" / "inference" / "digits.pkl")
    yield found
    sys.path[:] = [folder for folder in sys.path if folder not in folders]
    for file in EXAMPLES:
        sys.modules.pop(Path(file).stem, None)


@pytest.mark.parametrize(("file", "name"), [(file, name) for file, calls in CALLS.items() for name in calls])
def test_function_runs_in_its_pack(
    file: str, name: str, store: Store, copied: Path, modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = pack(f"{copied / file}:{name}", store=store)
    folder = (copied / file).parent
    monkeypatch.chdir(folder)
    with ContextExecutor(1, environment=manifest, store=store.folder, history=None) as executor:
        executor.submit(getattr(modules[file], name), *CALLS[file][name](folder)).result(120)
