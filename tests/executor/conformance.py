"""CPython's own tests of `concurrent.futures`, run against `ContextExecutor`.

    python -m tests.executor.conformance [--download FOLDER] [--quick]

The tests are CPython's, and are no part of this project. They are looked for, in this order: in the folder that the
variable CPYTHON_TESTS names (one that holds `test_concurrent_futures`), in the interpreter that runs, in what Debian
calls `libpython3.*-testsuite`, which `--download` fetches and unpacks into a folder without installing it.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from envpack_executor import ContextExecutor

NAME = "test_concurrent_futures"
# The classes that hold for any executor, by the file that has them where the tests are a package (3.12 and later).
CLASSES = {
    "ExecutorTest": "executor",
    "WaitTests": "test_wait",
    "AsCompletedTests": "test_as_completed",
    "ExecutorShutdownTest": "test_shutdown",
    "InitializerMixin": "test_init",
}
# They wait for longer than a second because they try what happens while something takes long.
LONG = re.compile("timeout|first|20369|already|hang|free_reference|duplicate|no_timeout")
# Scripts of the tests import the executor from `concurrent.futures`, and from the tests what they call.
PRELUDE = """
import concurrent.futures, functools, sys
from envpack_executor import ContextExecutor
concurrent.futures.ContextExecutor = functools.partial(ContextExecutor, history=None)
if {folder!r}:
    sys.path.append({folder!r})
    import {name}
    sys.modules["test.{name}"] = {name}
"""


def found_folder() -> str | None:
    """Return the folder of the tests, empty where the interpreter has them itself, None where there are none."""
    if named := os.environ.get("CPYTHON_TESTS"):
        folder = Path(named).absolute()
        if not any((folder / name).exists() for name in (NAME, f"{NAME}.py")):
            raise SystemExit(f"conformance: error: no {NAME} in CPYTHON_TESTS={named}")
        return str(folder)
    return "" if importlib.util.find_spec("test") and importlib.util.find_spec(f"test.{NAME}") else None


def download(cache: Path) -> str:
    """Return the folder of the tests as Debian packs them, for the nearest version of Python."""
    cache = cache.absolute()
    if not list(cache.glob(f"{NAME}*")):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            subprocess.run(["apt-get", "download", _debian_package()], cwd=work, check=True, stdout=sys.stderr)
            (archive,) = Path(work).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", archive, work], check=True)
            (tests,) = Path(work).glob(f"usr/lib/python3.*/test/{NAME}*")
            tests.rename(cache / tests.name)
    return str(cache)


def _debian_package() -> str:
    listed = subprocess.run(
        ["apt-cache", "search", "--names-only", r"^libpython3\.[0-9]*-testsuite$"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    minors = sorted(int(minor) for minor in re.findall(r"^libpython3\.(\d+)-testsuite", listed, re.MULTILINE))
    if not minors:
        raise SystemExit("conformance: error: apt knows no libpython3.*-testsuite (name a folder: CPYTHON_TESTS=DIR)")
    nearest = min(minors, key=lambda minor: abs(minor - sys.version_info.minor))
    return f"libpython3.{nearest}-testsuite"


def suite(folder: str, is_quick: bool) -> unittest.TestSuite:
    """Return the tests with `ContextExecutor` in the place of the executor.

    Args:
        folder: of the tests; empty where the interpreter has them.
        is_quick: leave out those that wait for long.
    """
    if folder and folder not in sys.path:
        sys.path.append(folder)
    package = importlib.import_module(NAME if folder else f"test.{NAME}")
    loader, tests = unittest.TestLoader(), unittest.TestSuite()
    for name in CLASSES:
        module = _module_of(package, name)
        vars(module)["assert_python_ok"] = functools.partial(_assert_python_ok, folder)
        mixin, base = vars(_module_of(package, "ExecutorMixin", "util")), vars(_module_of(package, name))[name]
        # The abstract classes themselves name no executor: this is what CPython makes for its own pools.
        bases = (base, mixin["ExecutorMixin"], mixin["BaseTestCase"])
        tests.addTests(loader.loadTestsFromTestCase(type(name, _once(bases), {"executor_type": staticmethod(_make)})))
    return unittest.TestSuite(case for case in _cases(tests) if not (is_quick and LONG.search(case.id())))


def _module_of(package: ModuleType, name: str, file: str = "") -> ModuleType:
    if hasattr(package, name):
        return package
    return importlib.import_module(f"{package.__name__}.{file or CLASSES[name]}")


def _once(bases: tuple[type, ...]) -> tuple[type, ...]:
    """Leave out a base that another one brings."""
    return tuple(one for one in bases if not any(one is not other and issubclass(other, one) for other in bases))


def _make(*args: Any, **kwargs: Any) -> ContextExecutor:
    return ContextExecutor(*args, history=None, **kwargs)


_make.__name__ = "ContextExecutor"  # the scripts of the tests import what has this name


def _assert_python_ok(folder: str, *args: str, **options: Any) -> Any:
    script_helper = importlib.import_module("test.support.script_helper")
    assert args[0] == "-c"
    run: Callable[..., Any] = script_helper.assert_python_ok
    return run("-c", PRELUDE.format(folder=folder, name=NAME) + args[1], **options)


def _cases(tests: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from _cases(test)
        else:
            assert isinstance(test, unittest.TestCase)
            yield test


def main() -> int:
    """Run the tests and say what became of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--download", type=Path, metavar="FOLDER", help="fetch Debian's package if nothing is here")
    parser.add_argument("--quick", action="store_true", help="leave out the tests that wait for long")
    options = parser.parse_args()
    folder = found_folder()
    if folder is None and options.download is not None:
        folder = download(options.download)
    if folder is None:
        raise SystemExit("conformance: error: this Python has no test package (CPYTHON_TESTS=DIR, or --download)")
    print(f"conformance: {NAME} of {folder or 'this Python'} under Python {sys.version.split()[0]}", file=sys.stderr)
    tests = suite(folder, options.quick)
    result = unittest.TextTestRunner(verbosity=2).run(tests)
    return 0 if result.wasSuccessful() and not result.skipped and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
