"""Ownership in a real conda environment, which py-rattler makes from packages of a channel on this machine."""

from __future__ import annotations

import venv
from pathlib import Path

import pytest

from envpack import analyze
from envpack.discover import Dependencies
from envpack.discover.environment.conda import conda_packages
from envpack.discover.formats.export import to_conda
from tests.conda import PYTHON, SITE, Channel, File, Package, metadata, pip, write_wheel
from tests.discover.conftest import Project

PACKAGES: dict[str, tuple[str, list[str], dict[str, File | str]]] = {
    "python": (PYTHON, [], {f"{SITE}/README.txt": ""}),
    "libvision": ("4.2", [], {"lib/libvision.so.4": ""}),
    # Without metadata of Python, as libraries with bindings are packed.
    "py-vision": ("4.2", ["python", "alpha >=1.0", "libvision 4.2"], {f"{SITE}/vision/__init__.py": ""}),
    # With metadata; and under another name than Python's.
    "alpha": ("1.0", ["python"], {f"{SITE}/alpha/__init__.py": "", **metadata("alpha", "1.0", ["deep_learn"])}),
    "py-learn": ("3.0", ["python"], {f"{SITE}/deep_learn/__init__.py": "", **metadata("deep_learn", "3.0", (), "")}),
    # A module that opens what another package laid below the prefix, found from where it is itself.
    "names": ("1.0", [], {"share/names.txt": "one two"}),
    "reader": (
        "1.0",
        ["python", "names"],
        {
            f"{SITE}/reader/__init__.py": "import sys\nTEXT = open(sys.prefix + '/share/names.txt').read()\n",
            **metadata("reader", "1.0"),
        },
    ),
    # As old distutils left it: a file that names no requirements.
    "oldie": (
        "0.9",
        ["python", "alpha"],
        {
            f"{SITE}/oldie.py": "",
            f"{SITE}/oldie-0.9-py3.egg-info": "Metadata-Version: 1.0\nName: oldie\nVersion: 0.9\n",
        },
    ),
}


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Channel:
    packages = [Package(name, version, files, tuple(depends)) for name, (version, depends, files) in PACKAGES.items()]
    return Channel(tmp_path_factory.mktemp("conda") / "channel").add(packages)


@pytest.fixture
def prefix(channel: Channel, tmp_path: Path) -> Path:
    """An environment with all packages, and an interpreter of its own."""
    made = channel.install(tmp_path / "prefix")
    venv.create(made, with_pip=False, symlinks=True)
    return made


def ask(prefix: Path, project: Project, source: str) -> Dependencies:
    return analyze(project({"main.py": source}), python=str(prefix / "bin" / "python"))


def told(found: Dependencies) -> dict[str, tuple[str, str, str]]:
    return {item.name: (item.version, item.source, item.role) for item in found.distributions}


def test_modules_without_metadata_belong_to_the_package_that_lists_them(prefix: Path, project: Project) -> None:
    found = ask(prefix, project, "import vision")
    assert told(found) == {
        "py-vision": ("4.2", "conda", "direct"),
        "alpha": ("1.0", "conda", "transitive"),
        "deep-learn": ("3.0", "conda", "transitive"),
    }
    assert found.local_files == ()


def test_old_metadata_that_names_no_requirements_is_completed_by_the_record(prefix: Path, project: Project) -> None:
    found = ask(prefix, project, "import oldie")
    assert told(found)["oldie"] == ("0.9", "conda", "direct")
    assert {item.name: item.required_by for item in found.distributions}["alpha"] == ("oldie",)


def test_environment_file_has_the_names_of_conda(prefix: Path, project: Project) -> None:
    found = ask(prefix, project, "import deep_learn, vision")
    lines = to_conda(found, conda_packages(str(prefix))).splitlines()
    assert {"  - py-learn==3.0", "  - py-vision==4.2"} <= set(lines)


def test_records_say_what_a_package_is(prefix: Path) -> None:
    assert {package.name: package.modules for package in conda_packages(str(prefix))} == {
        "alpha": ("alpha",),
        "libvision": (),
        "names": (),
        "oldie": ("oldie",),
        "py-learn": ("deep_learn",),
        "py-vision": ("vision",),
        "python": (),
        "reader": ("reader",),
    }


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pip_over_conda_is_seen_by_the_metadata(version: str, prefix: Path, project: Project, tmp_path: Path) -> None:
    assert told(ask(prefix, project, "import alpha"))["alpha"] == ("1.0", "conda", "direct")
    pip(prefix, "install", "--no-index", "--no-deps", "--force-reinstall", str(write_wheel(tmp_path, "alpha", version)))
    assert (prefix / "conda-meta" / "alpha-1.0-0.json").exists(), "pip leaves the record of conda as it was"
    assert told(ask(prefix, project, "import alpha")) == {"alpha": (version, "wheel", "direct")}
    assert told(ask(prefix, project, "import vision"))["py-vision"] == ("4.2", "conda", "direct")


def test_record_of_what_pip_removed_says_nothing(prefix: Path, project: Project) -> None:
    pip(prefix, "uninstall", "-y", "alpha")
    found = ask(prefix, project, "import alpha")
    assert [(item.module, item.kind) for item in found.unresolved] == [("alpha", "missing")]
    assert told(ask(prefix, project, "import vision")) == {"py-vision": ("4.2", "conda", "direct")}


def test_wheel_over_modules_of_a_package_without_metadata_owns_them(
    prefix: Path, project: Project, tmp_path: Path
) -> None:
    pip(prefix, "install", "--no-index", "--no-deps", str(write_wheel(tmp_path, "vision", "5.0")))
    assert told(ask(prefix, project, "import vision")) == {"vision": ("5.0", "wheel", "direct")}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": 1}', '{"name": "x", "version": "1", "files": 3}'])
def test_what_is_no_record_is_passed_over(content: str, prefix: Path, project: Project) -> None:
    (prefix / "conda-meta" / "broken-1.0-0.json").write_text(content)
    assert told(ask(prefix, project, "import vision"))["py-vision"] == ("4.2", "conda", "direct")


def test_record_that_changes_in_place_is_seen(prefix: Path, project: Project) -> None:
    record = prefix / "conda-meta" / "py-vision-4.2-0.json"
    assert told(ask(prefix, project, "import vision"))["py-vision"][0] == "4.2"
    record.write_text(record.read_text().replace('"4.2"', '"9.9"'))
    assert told(ask(prefix, project, "import vision"))["py-vision"][0] == "9.9"


def test_second_run_finds_what_packages_lay_below_the_prefix(prefix: Path, project: Project) -> None:
    script = project({"main.py": "import alpha, reader\n\nprint(reader.TEXT)\n"})
    found = analyze(script, python=str(prefix / "bin" / "python"), run=())
    assert found.verified, found.unresolved
    assert {item.name for item in found.distributions} == {"alpha", "deep-learn", "reader"}
