"""The answer in formats of other tools: what is read back from them is what was meant."""

from __future__ import annotations

import json
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from envpack.discover import analyze
from envpack.discover.code.inline import declared
from envpack.discover.formats.export import to_conda, to_pep723, to_requirements
from tests.discover.conftest import Environment, Project
from tests.discover.test_command import envpack

DIRECT = {
    "archived": {"url": "https://example.org/archived-1.0.zip", "archive_info": {"hashes": {"sha256": "ab" * 32}}},
    "forge": {"url": "https://example.org/forge", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
    "worked-on": {"url": "file:///home/me/worked-on", "dir_info": {"editable": True}},
    "spaced": {"url": "file:///home/me/my%20work", "dir_info": {"editable": True}},
}


@pytest.fixture
def script(environment: Environment, project: Project) -> Path:
    environment.install("plain", "1.0+local.1", files=("plain.py",))
    environment.install("extra", "2!1.0", files=("extra.py",), requires=("plain; extra == 'x'",))
    for name, direct in DIRECT.items():
        module = name.replace("-", "_")
        environment.install(name, files=(f"{module}.py",), extra_metadata={"direct_url.json": json.dumps(direct)})
        (environment.site / f"{module}.py").write_text("")
    imports = "import plain, extra, archived, forge, worked_on, spaced\n"
    return project({"main.py": f"# /// script\n# dependencies = ['extra[x]']\n# ///\n{imports}"})


def test_requirements_name_what_no_index_gave_by_its_address(script: Path, environment: Environment) -> None:
    assert to_requirements(analyze(script, python=environment.python)).splitlines() == [
        f"archived @ https://example.org/archived-1.0.zip#sha256={'ab' * 32}",
        "extra[x]==2!1.0",
        "forge @ git+https://example.org/forge@c0ffee",
        "plain==1.0+local.1",
        "-e file:///home/me/my%20work",
        "-e /home/me/worked-on",
    ]


def test_pep723_block_on_top_of_the_script_is_read_back_as_declared(script: Path, environment: Environment) -> None:
    found = analyze(script, python=environment.python)
    block = to_pep723(found)
    script.write_text(block + "".join(script.read_text().splitlines(keepends=True)[3:]))
    assert tuple(str(item.requirement) for item in declared(str(script))) == tuple(
        str(Requirement(line)) for line in found.requirements()
    )
    again = analyze(script, python=environment.python)
    assert again.requirements() == found.requirements()
    assert again.unresolved == ()
    assert to_pep723(again) == block
    content = tomllib.loads("".join(line[2:] for line in block.splitlines(keepends=True)[1:-1]))
    assert content["requires-python"] == f"=={sys.version_info[0]}.{sys.version_info[1]}.*"


def test_environment_file_is_yaml_that_says_the_same(script: Path, environment: Environment) -> None:
    found = analyze(script, python=environment.python)
    answer = yaml.safe_load(to_conda(found))
    version = ".".join(map(str, sys.version_info[:3]))
    assert answer["name"] == "main"
    assert answer["channels"] == ["conda-forge"]
    assert answer["dependencies"] == [
        f"python={version}",
        "pip",
        {"pip": to_requirements(found).splitlines()},
    ]


@pytest.mark.parametrize(
    ("target", "name"),
    [("src/my script.py:f", "my-script"), ("a.py b.py", "a"), ("/", "environment"), ("true.py", "true")],
)
def test_environment_is_named_after_the_target(script: Path, target: str, name: str) -> None:
    assert yaml.safe_load(to_conda(replace(analyze(script), target=target)))["name"] == name


def test_conda_format_parts_what_conda_installed_from_the_rest(environment: Environment, project: Project) -> None:
    environment.install("tables", "3.9", files=("tables/__init__.py",), extra_metadata={"INSTALLER": "conda\n"})
    environment.install("other", "1.0", files=("other.py",))
    records = Path(environment.python).parent.parent / "conda-meta"
    records.mkdir()
    record = {
        "name": "pytables",
        "version": "3.9",
        "files": [f"{environment.site.relative_to(records.parent)}/tables-3.9.dist-info/METADATA"],
        "channel": "https://conda.anaconda.org/bioconda/linux-64",
    }
    (records / "pytables-3.9-0.json").write_text(json.dumps(record))
    (records / "broken.json").write_text("{")
    script = project({"main.py": "import tables, other\n"})
    answer = yaml.safe_load(envpack(script, "--python", environment.python, "--format", "conda").stdout)
    version = ".".join(map(str, sys.version_info[:3]))
    assert answer == {
        "name": "main",
        "channels": ["bioconda"],
        "dependencies": [f"python={version}", "pytables==3.9", "pip", {"pip": ["other==1.0"]}],
    }


def test_formats_are_the_same_bytes_each_time(script: Path, environment: Environment) -> None:
    for form in ("json", "requirements", "pep723", "conda"):
        answers = {envpack(script, "--python", environment.python, "--format", form).stdout for _ in range(2)}
        assert len(answers) == 1
        assert answers != {""}
