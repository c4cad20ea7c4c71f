"""What the code imports, what the project declares and what the documentation explains are the same libraries."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOTS = ("envpack", "monitor/envpack_monitor", "executor/envpack_executor")
MODULES = {"pyzmq": "zmq", "scikit-learn": "sklearn", "conda-pack": "conda_pack"}


def project(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


def module_names(requirements: list[str]) -> set[str]:
    names = {Requirement(text).name for text in requirements} - {"envpack-hpc"}
    return {MODULES.get(name, name) for name in names}


@pytest.fixture(scope="module")
def imported(repository: Path) -> dict[str, str]:
    """The foreign libraries that our code imports anywhere, also inside functions, with one file that does."""
    ours = {Path(root).name for root in ROOTS}
    found: dict[str, str] = {}
    for file in (file for root in ROOTS for file in (repository / root).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            match node:
                case ast.Import():
                    names = [alias.name for alias in node.names]
                case ast.ImportFrom(module=str(module), level=0):
                    names = [module]
                case _:
                    continue
            found.update({name.partition(".")[0]: str(file.relative_to(repository)) for name in names})
    return {name: file for name, file in found.items() if name not in sys.stdlib_module_names and name not in ours}


def test_what_is_imported_is_declared(imported, repository):
    extras = [text for texts in project(repository)["optional-dependencies"].values() for text in texts]
    declared = module_names(project(repository)["dependencies"] + extras)

    assert {name: file for name, file in imported.items() if name not in declared} == {}


def test_every_base_dependency_is_imported_somewhere(imported, repository):
    assert module_names(project(repository)["dependencies"]) - set(imported) == set()


def test_every_dependency_is_explained_and_no_other(repository):
    page = (repository / "docs" / "explanation" / "dependencies.md").read_text()
    headings = re.findall(r"^### (.+)$", page, re.MULTILINE)
    base = sorted(Requirement(text).name for text in project(repository)["dependencies"])
    extras = [name for name in project(repository)["optional-dependencies"] if name != "all"]

    assert [heading for heading in headings if ":" not in heading] == base
    assert [heading.partition(":")[0] for heading in headings if ":" in heading] == extras
