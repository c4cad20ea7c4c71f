"""Runs one test file where nothing but the standard library and a pack can be imported, and notes what it used.

Started by the interpreter of a packed environment, as `bin/python -P inside.py REQUEST`; the request and the report are
JSON files beside the copied test file. It needs pytest and nothing of this project.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest


class Witness:
    """A plugin that notes what the tests are made of, and whose modules they imported or called.

    Args:
        is_alone: whether calls are noted too. That is exact for code that runs in this process, and slow.
        most: so many functions run at most, each with the first set of its parameters; 0: all, with all sets.
    """

    def __init__(self, is_alone: bool, most: int) -> None:
        self.tests: dict[str, dict[str, Any]] = {}
        self.outcomes: dict[str, str] = {}
        self.skips: list[str] = []
        self._is_alone = is_alone
        self._most = most

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._most:
            first = {item.nodeid.partition("[")[0]: item for item in reversed(items)}
            chosen = sorted(first, key=lambda name: hashlib.sha256(name.encode()).digest())[: self._most]
            items[:] = [item for item in items if any(first[name] is item for name in chosen)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Function) -> Iterator[None]:
        before = set(sys.modules)
        calls = Calls()
        if self._is_alone:
            calls.begin()
        try:
            return (yield)
        finally:
            calls.end()
            imported = {_file(sys.modules[name]) for name in list(sys.modules) if name not in before}
            used = sorted({file for file in imported | calls.files() if file})
            self.tests[item.nodeid] = {"functions": _functions(item), "used": used}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skips.append(f"{report.nodeid}: {report.longrepr[-1]}")
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid] = report.outcome


class Calls:
    """The files whose code is called, and the modules of the built-in functions that are."""

    def __init__(self) -> None:
        self._codes: set[CodeType] = set()
        self._modules: set[str] = set()

    def begin(self) -> None:
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def end(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def files(self) -> set[str]:
        modules = [sys.modules.get(name) for name in self._modules]
        return {code.co_filename for code in self._codes} | {_file(module) for module in modules if module is not None}

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            self._codes.add(frame.f_code)
        elif event == "c_call" and isinstance(name := getattr(argument, "__module__", None), str):
            self._modules.add(name)


def _functions(item: pytest.Function) -> list[list[str]]:
    """Return file and name of the test function and of all fixtures of ours that it is run with."""
    # A method needs its class, whatever the class itself is made from.
    around = item.getparent(pytest.Class)
    name = item.originalname if around is None else around.name
    found = [[os.path.relpath(item.path), name]]
    for fixture in (made.func for defs in item._fixtureinfo.name2fixturedefs.values() for made in defs):
        file = fixture.__code__.co_filename if hasattr(fixture, "__code__") else ""
        if file.startswith(os.getcwd()):
            found.append([os.path.relpath(file), fixture.__qualname__])
    return found


def _file(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    return os.path.abspath(file) if isinstance(file, str) else ""


def strangers(forbidden: list[str]) -> list[str]:
    """Return what this process has loaded, mapped or searches below folders that a pack must not need."""
    mapped = {line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines()}
    loaded = {_file(module) for module in list(sys.modules.values())}
    return sorted(path for path in {*mapped, *loaded, *sys.path} if path.startswith(tuple(forbidden)))


def main(request_file: str) -> int:
    request = json.loads(Path(request_file).read_text())
    # Last, so that only the copied tests come from here: what the pack holds is found before.
    sys.path.append(os.getcwd())
    # pytest would make the package of a file from the file's own folder alone; helpers in the pack are part of it too.
    package = os.path.dirname(request["file"]).replace("/", ".")
    importlib.import_module(package)
    witness = Witness(request["is_alone"], request["most"])
    words = ["-o", "pythonpath=", "-o", "timeout=300", "--tb=short", "-q", "-p", "no:cacheprovider", *request["tests"]]
    status = pytest.main([*words, *([] if request["has_slow"] else ["-m", "not slow"])], plugins=[witness])
    if status == pytest.ExitCode.NO_TESTS_COLLECTED and not request["has_slow"]:
        status = pytest.ExitCode.OK  # all are slow; that the file can be imported was seen
    report = {
        "status": int(status),
        "tests": witness.tests,
        "outcomes": witness.outcomes,
        "skips": witness.skips,
        "strangers": strangers(request["forbidden"]),
    }
    Path(request["report"]).write_text(json.dumps(report))
    return int(status)


if __name__ == "__main__":
    # os._exit would hide threads that a test left; a normal end waits for them.
    sys.exit(main(sys.argv[1]))
