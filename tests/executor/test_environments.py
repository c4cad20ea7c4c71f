"""Calls run in the environment that was asked for, and see no other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest

from envpack import pack
from envpack.errors import ModuleNotInstalledError
from envpack_executor import ContextExecutor, task
from envpack_executor.errors import EnvironmentPreparationError, ProcessStartError

ROOTS = [Path(__file__).parents[2] / name for name in ("envpack", "executor", "monitor")]


def search_path() -> list[str]:
    import sys

    return sys.path


def can_import(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def uses_packaging(text: str) -> str:
    import packaging.version

    return str(packaging.version.Version(text))


def wants_what_is_not_installed() -> None:
    import no_such_package_anywhere  # noqa: F401


def load_checker() -> dict[str, object]:
    from packaging.version import Version

    return {"checker": Version}


@task(context=load_checker)
def checked(text: str, checker: type) -> str:
    return str(checker(text))


def test_inherited_environment_is_that_of_the_client() -> None:
    with ContextExecutor(1) as executor:
        assert executor.submit(search_path).result() == sys.path


def test_discovered_environment_holds_the_function_s_packages_and_no_others() -> None:
    with ContextExecutor(1, environment="auto") as executor:
        assert executor.submit(uses_packaging, "1.0").result() == "1.0"
        path = executor.submit(search_path).result()
        assert not executor.submit(can_import, "packaging").result()
    ours = [os.path.realpath(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    assert not [entry for entry in path if os.path.realpath(entry) in [*ours, *map(str, ROOTS)]]


def test_discovered_environment_holds_what_the_set_up_needs() -> None:
    with ContextExecutor(1, environment="auto") as executor:
        assert executor.submit(checked, "2.0").result() == "2.0"


def test_local_helper_module_travels(tmp_path: Path) -> None:
    (tmp_path / "helper_of_mine.py").write_text("def twice(x):\n    return 2 * x\n")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import helper_of_mine
            from envpack_executor import ContextExecutor

            def double(x):
                return helper_of_mine.twice(x), helper_of_mine.__file__

            if __name__ == "__main__":
                with ContextExecutor(1, environment="auto") as executor:
                    value, file = executor.submit(double, 4).result()
                assert value == 8
                assert file != helper_of_mine.__file__, file
            """
        )
    )
    subprocess.run([sys.executable, script], check=True, timeout=60)


def test_neighbour_of_a_script_travels_out_of_a_pack_too(tmp_path: Path) -> None:
    """In a pack the neighbour lies among the installed modules, where no distribution lists it."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python3*/site-packages")
    (packages / "client.pth").write_text("\n".join(path for path in sys.path if os.path.isdir(path)))
    (packages / "neighbour.py").write_text(
        "import packaging.version\n\n\ndef major(text):\n    return packaging.version.Version(text).major\n"
    )
    script = """
    from envpack_executor import ContextExecutor
    from neighbour import major

    if __name__ == "__main__":
        with ContextExecutor(1, environment="auto") as executor:
            print(executor.submit(major, "3.4").result())
    """
    (packages / "main.py").write_text(textwrap.dedent(script))
    command = [environment / "bin" / "python", packages / "main.py"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ran.stdout, ran.returncode) == ("3\n", 0), ran.stderr


def test_missing_module_fails_the_call_with_file_and_line() -> None:
    with ContextExecutor(1, environment="auto") as executor:
        future = executor.submit(wants_what_is_not_installed)
        with pytest.raises(
            EnvironmentPreparationError, match=r"no_such_package_anywhere.*test_environments\.py"
        ) as met:
            future.result()
    assert isinstance(met.value.__cause__, ModuleNotInstalledError)


def test_pack_file_manifest_and_unpacked_folder_are_environments(tmp_path: Path) -> None:
    file = tmp_path / "version.tar.zst"
    manifest = pack(uses_packaging, output=file)
    folder = tmp_path / "unpacked"
    subprocess.run([sys.executable, "-m", "envpack", "unpack", file, folder], check=True, timeout=60)
    for environment in (file, manifest, folder, folder / "bin" / "python"):
        with ContextExecutor(1, environment=environment) as executor:
            assert executor.submit(uses_packaging, "3.1").result() == "3.1"
            assert not executor.submit(can_import, "zmq").result()


def test_environment_of_a_task_wins_over_the_executor_s() -> None:
    here = task(environment=None)(can_import)
    with ContextExecutor(1, environment="auto") as executor:
        assert executor.submit(here, "packaging").result()
        assert not executor.submit(can_import, "packaging").result()


@pytest.mark.parametrize("what", ["nothing", "empty folder", "no pack"])
def test_what_is_no_environment_is_said(tmp_path: Path, what: str) -> None:
    path = tmp_path / "environment"
    if what == "empty folder":
        path.mkdir()
    elif what == "no pack":
        path.write_bytes(b"some bytes that are no pack")
    with (
        ContextExecutor(1, environment=path) as executor,
        pytest.raises(EnvironmentPreparationError, match="environment"),
    ):
        executor.submit(can_import, "os").result()


def test_environment_of_a_wrong_type_is_said_at_submission() -> None:
    with ContextExecutor(1, environment=42) as executor, pytest.raises(EnvironmentPreparationError, match="42"):
        executor.submit(can_import, "os")


def test_interpreter_that_cannot_run_fails_the_call(tmp_path: Path) -> None:
    broken = tmp_path / "bin" / "python"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 7\n")
    broken.chmod(0o755)
    with ContextExecutor(1, environment=tmp_path) as executor, pytest.raises(ProcessStartError, match="status 7"):
        executor.submit(can_import, "os").result()


def _unshare() -> list[str]:
    """Return the command that gives a program mounts of its own, or skip where the kernel does not allow it."""
    for options in (["--mount"], ["--map-root-user", "--mount"]):
        command = ["unshare", *options, "--propagation", "private"]
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    pytest.skip("needs a mount namespace: unshare is missing or not allowed")


HIDING_CLIENT = """
import os, subprocess, sys
from envpack import pack
from envpack_executor import ContextExecutor

def packed(rows):
    import numpy, packaging, sys
    return float(numpy.ones((rows, rows)).sum()), numpy.__file__, packaging.__file__

def warm_up():
    import packaging
    return packaging.__name__

if __name__ == "__main__":
    manifest, first = pack(packed), pack(warm_up)
    with ContextExecutor(1, history=None) as executor:
        assert executor.submit(len, "x").result() == 1
    # The client itself imports some of its own modules late: one call before its files disappear.
    with ContextExecutor(1, environment=first, history=None) as executor:
        assert executor.submit(warm_up).result() == "packaging"
    for folder in sys.argv[1:]:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
        assert os.listdir(folder) == []
    with ContextExecutor(1, environment=manifest, history=None) as executor:
        total, *files = executor.submit(packed, 4).result()
    assert total == 16.0, total
    assert not [file for file in files if file.startswith(tuple(sys.argv[1:]))], files
    print("ran without the client's packages")
"""


def test_calls_run_when_the_client_s_packages_are_hidden(tmp_path: Path) -> None:
    """Mount empty folders over the client's site-packages and over envpack itself, then call."""
    script = tmp_path / "client.py"
    script.write_text(HIDING_CLIENT)
    hidden = [os.path.realpath(sysconfig.get_path("purelib")), *map(str, ROOTS)]
    command = [*_unshare(), sys.executable, str(script), *hidden]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "ran without the client's packages" in done.stdout


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


def moved(point: Point) -> Point:
    return Point(point.x + 1)


def test_classes_of_the_function_s_own_module_go_there_and_back() -> None:
    with ContextExecutor(1, environment="auto") as executor:
        point = executor.submit(moved, Point(1)).result()
    assert type(point) is Point
    assert point.x == 2
