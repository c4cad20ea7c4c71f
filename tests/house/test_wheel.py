"""The wheel holds the three packages and nothing else, also when it is built from the source archive."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGES = {"envpack": ".", "envpack_monitor": "monitor", "envpack_executor": "executor"}

pytestmark = pytest.mark.slow


def build(*words: str | Path) -> None:
    # Without isolation the build needs no network: hatchling is part of the test group.
    command = [sys.executable, "-m", "build", "--no-isolation", *map(str, words)]
    outcome = subprocess.run(command, text=True, capture_output=True, timeout=100)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("wheel")
    build("--wheel", "--outdir", folder, repository)
    return file_list(folder)


def file_list(folder: Path) -> list[str]:
    (wheel,) = folder.glob("*.whl")
    assert wheel.name.startswith("envpack_hpc-")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


def source_files(repository: Path) -> set[str]:
    return {
        file.relative_to(repository / root).as_posix()
        for package, root in PACKAGES.items()
        for file in (repository / root / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_wheel_holds_exactly_the_three_packages(wheel, repository):
    (metadata,) = {name.partition("/")[0] for name in wheel} - set(PACKAGES)
    inside = {name for name in wheel if not name.startswith(metadata)}

    assert inside == source_files(repository)
    assert metadata.endswith(".dist-info")
    assert {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"} == {
        name.removeprefix(f"{metadata}/") for name in wheel if name.startswith(metadata)
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_says_that_it_is_typed(wheel, package):
    assert f"{package}/py.typed" in wheel


def test_wheel_from_the_source_archive_is_the_same(wheel, repository, tmp_path):
    build("--outdir", tmp_path, repository)  # the source archive first, then the wheel from it

    assert file_list(tmp_path) == wheel
