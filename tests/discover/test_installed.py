"""Distributions that the code asks for by name, by what they provide, or by the command they install."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from envpack.discover import Dependencies, analyze
from tests.discover.conftest import Environment, Project, roles

Ask = Callable[[str], Dependencies]


@pytest.fixture
def ask(environment: Environment, project: Project) -> Ask:
    plugins = "[plugins]\n{0} = {0}_plugin:load\n"
    environment.install("other-name", files=("mine.py",), requires=("numpy",))
    environment.install("numpy", files=("numpy/__init__.py",))
    environment.install("red", files=("red_plugin.py",), extra_metadata={"entry_points.txt": plugins.format("red")})
    environment.install("blue", files=("blue_plugin.py",), extra_metadata={"entry_points.txt": plugins.format("blue")})
    console = "[console_scripts]\n; a remark\ntidy = tidy.cli:main\n"
    environment.install("tidy-tool", files=("tidy/__init__.py",), extra_metadata={"entry_points.txt": console})
    (Path(environment.python).parent / "tidy").touch()
    return lambda source: analyze(project({"main.py": source}), python=environment.python)


@pytest.mark.parametrize(
    "source",
    [
        "import importlib.metadata\nimportlib.metadata.version('other-name')",
        "from importlib.metadata import version as v\nNAME = 'Other_Name'\nv(NAME)",
        "from importlib import metadata\nmetadata.distribution('other.name').read_text('RECORD')",
        "from importlib import metadata\nmetadata.requires('other-name')",
        "from importlib import metadata\nmetadata.metadata('other-name')['Summary']",
        "from importlib import metadata\nmetadata.files('other-name')",
        "from importlib import metadata\n[metadata.version(n) for n in ('other-name',)]",
        "from importlib.metadata import version\ndef show(name): print(version(name))\nshow('other-name')",
        "import importlib_metadata as m\nm.version('other-name')",
        "import pkg_resources\npkg_resources.get_distribution('other-name').version",
        "import pkg_resources\npkg_resources.require(['other-name>=1', 'numpy'])",
    ],
)
def test_distribution_that_is_asked_for_by_name_is_needed(ask: Ask, source: str) -> None:
    found = ask(source)
    assert roles(found)["other-name"] == "direct"
    (item,) = [one for one in found.distributions if one.name == "other-name"]
    assert item.evidence[0].kind == "dynamic"
    assert item.evidence[0].line >= 2
    assert "numpy" in {one.name for one in found.distributions}
    assert "other-name" not in found.functions[0].modules


def test_distribution_that_is_not_installed_is_missing(ask: Ask) -> None:
    found = ask("from importlib.metadata import version\n\nversion('nowhere')")
    assert [(item.module, item.line, item.kind) for item in found.unresolved] == [("nowhere", 3, "missing")]


@pytest.mark.parametrize(
    "source",
    [
        "from importlib.metadata import version\nversion(__name__)",
        "from importlib.metadata import version\nversion(__package__ or 'x')",
        "from importlib.metadata import version\nversion('main')",
        "import importlib.metadata as m\ntry: v = m.version('x')\nexcept m.PackageNotFoundError: v = '?'",
    ],
)
def test_version_of_the_program_itself_is_no_dependency(ask: Ask, source: str) -> None:
    found = ask(source)
    assert found.unresolved == ()
    assert roles(found) == {}


def test_version_that_may_be_unknown_is_optional(ask: Ask) -> None:
    head = "import importlib.metadata as m\n"
    caught = "try: v = m.version('numpy')\nexcept m.PackageNotFoundError: v = None"
    assert roles(ask(head + caught)) == {"numpy": "optional"}
    ends = "try: v = m.version('numpy')\nexcept m.PackageNotFoundError: raise SystemExit('no numpy')"
    assert roles(ask(head + ends)) == {"numpy": "direct"}


def test_import_beside_a_version_that_may_be_unknown_is_needed(ask: Ask) -> None:
    source = """
        from importlib.metadata import version, PackageNotFoundError
        try:
            import mine
            v = version('numpy')
        except PackageNotFoundError:
            v = None
        """
    assert roles(ask(source)) == {"other-name": "direct"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("for e in entry_points(group='plugins'): e.load()()", {"red", "blue"}),
        ("for e in entry_points()['plugins']: e.load()()", {"red", "blue"}),
        ("for e in entry_points().get('plugins', ()): e.load()()", {"red", "blue"}),
        ("eps = entry_points()\nfor e in eps.select(group='plugins'): e.load()", {"red", "blue"}),
        ("(e,) = entry_points(group='plugins', name='red')\ne.load()", {"red"}),
        ("entry_points(group='plugins')['red'].load()", {"red"}),
        ("def get(n):\n    return [e for e in entry_points(group='plugins') if e.name == 'blue'][0].load()", {"blue"}),
        ("def get(n):\n    return next(iter(entry_points(group='plugins', name=n))).load()\nget('red')", {"red"}),
        ("print([e.name for e in entry_points(group='plugins')])", set()),
        ("print(len(entry_points(group='nobody')))\nx.load()", set()),
        ("for e in entry_points(group='console_scripts'): e.load()", set()),
        ("entry_points(group='console_scripts', name='tidy')['tidy'].load()", {"tidy-tool"}),
    ],
)
def test_providers_of_entry_points_that_are_loaded_are_needed(ask: Ask, source: str, expected: set[str]) -> None:
    assert set(roles(ask(f"from importlib.metadata import entry_points\n{source}"))) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("subprocess.run(['tidy', path])", {"tidy-tool": "direct"}),
        ("COMMAND = ['tidy', '-x']\nsubprocess.check_call(COMMAND + [path])", {"tidy-tool": "direct"}),
        ("subprocess.run('tidy . && ls', shell=True)", {"tidy-tool": "direct"}),
        ("os.system('ls | tidy')", {"tidy-tool": "direct"}),
        ("os.execvp('tidy', ['tidy', '.'])", {"tidy-tool": "direct"}),
        ("try: subprocess.run(['tidy'])\nexcept FileNotFoundError: pass", {"tidy-tool": "optional"}),
        ("if shutil.which('tidy'): pass", {"tidy-tool": "optional"}),
        ("subprocess.run(['git', 'status'])", {}),
        ("subprocess.run([program])", {}),
    ],
)
def test_command_belongs_to_the_distribution_that_installs_it(ask: Ask, source: str, expected: dict[str, str]) -> None:
    assert roles(ask(f"import os, shutil, subprocess\n{source}")) == expected


def test_command_that_a_file_list_names_is_found_without_entry_points(
    ask: Ask, environment: Environment, project: Project
) -> None:
    script = Path(environment.python).parent / "native"
    relative = os.path.relpath(script, environment.site)
    environment.install("native-tool", files=(relative,))
    assert set(roles(ask("import os\nos.system('native --version')"))) == {"native-tool"}
