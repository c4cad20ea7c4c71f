"""Runs of test files in their packs: analyse, pack, materialise, copy the file beside its data, run it there.

A test file is asked about together with each `conftest.py` that pytest loads by itself. The environment holds the
layers of all of them and of the test runner, and no others; the project's own environment and sources are elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from envpack import Dependencies, Store, analyze, pack
from envpack.discover import inspect_interpreter
from envpack.discover.combine import combine
from envpack.discover.environment.distributions import installed_distributions
from envpack.pack.sources.distributions import InstalledFiles
from tests.packs.asked import RUNNER, asked_for
from tests.packs.misses import misses

ROOT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).with_name("inside.py")
DEADLINE_S = 500
_SOURCES = ("envpack", "executor", "monitor")
_MADE = ("__pycache__", "build", "dist", "site", "results")


@dataclass(frozen=True)
class Run:
    """What a run of one file in its pack gave.

    Args:
        file: the test file, relative to the project.
        needs: the answer of the analysis for it and for each file that pytest loads with it.
        output: all that was printed.
        misses: `FILE:LINE: MODULE` of what could not be imported and made a test fail.
        report: what `inside.py` noted; empty where it could not even begin.
    """

    file: str
    needs: dict[str, Dependencies]
    output: str
    misses: list[str]
    report: dict[str, Any]

    @property
    def failed(self) -> list[str]:
        return [test for test, outcome in self.report.get("outcomes", {}).items() if outcome == "failed"]

    @property
    def is_good(self) -> bool:
        return self.report.get("status") == 0


class Runs:
    """Begins the runs of some files at once, two at a time, and gives them when they are asked for.

    Args:
        folder: the copies go there.
        store: holds the environments.
        files: the test files, relative to the project.
        has_slow: whether slow tests run.
        most: so many test functions of a file run, each with one set of its parameters; 0: all, with all sets.
    """

    def __init__(self, folder: Path, store: Store, files: list[str], *, has_slow: bool = True, most: int = 0) -> None:
        self._folder = folder
        self._has_slow = has_slow
        self._most = most
        self._store = store
        self._pool = ThreadPoolExecutor(2, "packs")
        self._whole: dict[str, Future[Run]] = {file: self._pool.submit(self._run, file) for file in files}

    def whole(self, file: str) -> Run:
        """Return the run of all tests of a file."""
        return self._whole[file].result()

    def alone(self, file: str, tests: list[str]) -> list[Future[Run]]:
        """Begin a run of each of some tests of a file in a process of its own, with all calls noted."""
        return [self._pool.submit(self._run, file, test) for test in tests]

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _run(self, file: str, alone: str = "") -> Run:
        asked = asked_for(file)
        needs = needed(file)
        prefix = self._store.materialise(pack(combine(file, list(needs.values())), store=self._store))
        name = hashlib.sha256(f"{file} {alone}".encode()).hexdigest()[:12]
        copied = copy_project(self._folder / name, [file, *needs], with_sources=asked.needs_sources)
        run = self._start(prefix, copied, file, needs, [alone or file], bool(alone))
        if run.failed and not run.misses:
            # Whether a module is there does not depend on the load of the machine; whether a process is quick does.
            return self._start(prefix, copied, file, needs, run.failed, bool(alone))
        return run

    def _start(
        self, prefix: Path, copied: Path, file: str, needs: dict[str, Dependencies], tests: list[str], is_alone: bool
    ) -> Run:
        # Beside the copy, not in it: some tests look at every file of the project.
        request, report = copied.with_suffix(".request"), copied.with_suffix(".report")
        question = {
            "file": file,
            "tests": tests,
            "is_alone": is_alone,
            "has_slow": self._has_slow or is_alone,
            "most": 0 if is_alone else self._most,
            "report": str(report),
            "forbidden": [f"{folder}/" for folder in (ROOT, sys.prefix, *(copied / name for name in _SOURCES))],
        }
        request.write_text(json.dumps(question))
        report.unlink(missing_ok=True)
        output = start(prefix, copied, shutil.copy(INSIDE, copied.with_suffix(".py")), str(request))
        found = json.loads(report.read_text()) if report.exists() else {}
        missed = [] if found.get("status") == 0 else misses(output, str(copied))
        return Run(file, needs, output, missed, found)


def start(prefix: Path, folder: Path, *words: str, is_beside: bool = False) -> str:
    """Run a script with the interpreter of an environment, in a folder, and return all that it prints.

    Args:
        prefix: the environment.
        folder: the working folder.
        words: the script and its arguments.
        is_beside: whether it may import what lies beside it.
    """
    command = [str(prefix / "bin" / "python"), *([] if is_beside else ["-P"]), *words]
    # Short, for the names of sockets, and of its own: sessions of pytest that share a folder close it to other users.
    with tempfile.TemporaryDirectory(prefix="packs") as temporary:
        os.chmod(temporary, 0o755)
        done = subprocess.run(
            command,
            cwd=folder,
            env={**outside_environ(prefix), "TMPDIR": temporary, "ENVPACK_STORE": str(folder / "store")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=DEADLINE_S,
            check=False,
        )
    return done.stdout.decode(errors="replace") + ("" if done.returncode == 0 else f"\nexit status {done.returncode}\n")


def outside_environ(prefix: Path) -> dict[str, str]:
    """Return the variables of a run: nothing that leads to the project's own environment."""
    ours = os.path.join(sys.prefix, "bin")
    path = [str(prefix / "bin"), *(part for part in os.environ["PATH"].split(os.pathsep) if part != ours)]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PYTEST", "VIRTUAL_ENV", "ENVPACK", "MAKE"))
    }
    return {**kept, "PATH": os.pathsep.join(path)}


@cache
def needed(file: str) -> dict[str, Dependencies]:
    """Return the answers for a test file and for what pytest loads with it, by their paths relative to the project."""
    loaded = [str(parent / "conftest.py") for parent in Path(file).parents if (ROOT / parent / "conftest.py").exists()]
    return {each: analyze(ROOT / each, **options(file)) for each in (file, *loaded)}


def options(file: str) -> dict[str, Any]:
    """Return what is asked of the analyser for a test file besides the analysis itself."""
    asked = asked_for(file)
    return {"include": [*RUNNER, *asked.include], "exclude": asked.exclude}


def copy_project(target: Path, modules: list[str], *, with_sources: bool) -> Path:
    """Copy what tests read as data, and of the modules only those that are named: the others come from the pack."""
    wanted = {str(ROOT / module) for module in modules}

    def left_out(folder: str, names: list[str]) -> list[str]:
        is_root = folder == str(ROOT)
        in_tests = Path(folder).is_relative_to(ROOT / "tests")
        return [
            name
            for name in names
            if name in _MADE
            or (is_root and name.startswith(".") and name != ".ci")
            or (is_root and name in _SOURCES and not with_sources)
            or (in_tests and name.endswith(".py") and f"{folder}/{name}" not in wanted)
            or os.path.exists(f"{folder}/{name}/pyvenv.cfg")
        ]

    shutil.copytree(ROOT, target, ignore=left_out, symlinks=True)
    return target


@cache
def owners() -> dict[str, str]:
    """Return which distribution of the project's environment owns a path below an environment."""
    interpreter = inspect_interpreter(None)
    installed = InstalledFiles(interpreter)
    return {
        path: each.name
        for each in installed_distributions(interpreter.sys_path)
        for path, _ in installed.layer(installed.find(each.name, each.version)).files
    }
