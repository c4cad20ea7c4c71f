"""The lists of promises: what `import` of each package costs, and that every public name is documented."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("envpack", "envpack_monitor", "envpack_executor")
HEAVY = ("zmq", "numpy", "scipy", "sklearn", "rich", "click", "psutil", "asyncio")

PLUGS = ("envpack_executor.blocks", "envpack_executor.dask", "envpack_executor.joblib", "envpack_executor.parsl")

PUBLIC_NAMES = [(package, name) for package in PACKAGES for name in importlib.import_module(package).__all__]


@pytest.mark.parametrize("package", PACKAGES)
def test_import_of_a_package_leaves_heavy_modules_alone(package):
    program = f"import {package}, sys; print(*sorted(set(sys.modules) & set({HEAVY!r})))"

    assert subprocess.check_output([sys.executable, "-c", program], text=True).split() == []


@pytest.mark.parametrize("package", PACKAGES)
def test_package_says_in_its_docstring_what_it_is_for(package):
    module = importlib.import_module(package)

    assert module.__all__
    assert inspect.getdoc(module)


@pytest.mark.parametrize(("package", "name"), PUBLIC_NAMES)
def test_public_name_has_a_docstring(package, name):
    value = getattr(importlib.import_module(package), name)

    # A dataclass without a docstring gets its signature as one.
    assert inspect.getdoc(value)
    assert not inspect.getdoc(value).startswith(f"{name}(")


@pytest.mark.parametrize(("package", "name"), PUBLIC_NAMES)
def test_public_name_stands_in_the_reference(package, name, repository: Path):
    pages = (repository / "docs" / "reference").glob("*.md")
    lines = {line.strip() for page in pages for line in page.read_text().splitlines()}

    assert f"::: {package}.{name}" in lines


def test_reference_lists_no_name_that_is_not_public(repository: Path):
    pages = (repository / "docs" / "reference").glob("*.md")
    listed = {name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)}
    plugged = {f"{plug}.{name}" for plug in PLUGS for name in importlib.import_module(plug).__all__}
    promised = {f"{package}.{name}" for package, name in PUBLIC_NAMES}
    whole_modules = {f"{package}.{module}" for package in PACKAGES for module in ("errors", "settings")}

    assert plugged <= listed
    assert listed - promised - plugged == whole_modules
