"""Local files, programs and configurations that the code executes without importing them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envpack import analyze
from tests.discover.conftest import Project, relative, roles

OTHER = {"other.py": "import yaml", "deep/__init__.py": "", "deep/__main__.py": "import yaml"}


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("import runpy\nrunpy.run_path('other.py')", "other.py"),
        ("import runpy, os\nrunpy.run_path(os.path.join(os.path.dirname(__file__), 'other.py'))", "other.py"),
        ("import runpy\nrunpy.run_path('deep')", "deep/__main__.py"),
        ("import runpy\nrunpy.run_module('deep')", "deep/__main__.py"),
        ("exec(open('other.py').read())", "other.py"),
        ("with open('other.py') as f:\n    exec(compile(f.read(), 'other.py', 'exec'))", "other.py"),
        ("from pathlib import Path\nexec(Path(__file__).with_name('other.py').read_text())", "other.py"),
        ("import subprocess, sys\nsubprocess.run([sys.executable, '-u', 'other.py', '--fast'])", "other.py"),
        ("import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'deep'])", "deep/__main__.py"),
        ("import subprocess\nsubprocess.Popen('python3 other.py', shell=True)", "other.py"),
        ("import os\nos.system('python -m deep')", "deep/__main__.py"),
        (
            "import asyncio, sys\nasync def f(): await asyncio.create_subprocess_exec(sys.executable, 'other.py')",
            "other.py",
        ),
        (
            "import importlib.util as u\ns = u.spec_from_file_location('o', 'other.py')\ns.loader.exec_module(o)",
            "other.py",
        ),
    ],
)
def test_local_file_that_is_executed_is_part_of_the_answer(project: Project, source: str, file: str) -> None:
    script = project({"main.py": source, **OTHER})
    found = analyze(script)
    assert file in relative(found.local_files, script.parent)
    assert roles(found) == {"pyyaml": "direct"}
    assert found.unresolved == ()


def test_program_in_another_process_sees_its_own_folder(project: Project) -> None:
    files = {
        "main.py": "import subprocess, sys\nsubprocess.run([sys.executable, 'tools/go.py'])",
        "tools/go.py": "import near",
        "tools/near.py": "import yaml",
    }
    script = project(files)
    found = analyze(script)
    assert relative(found.local_files, script.parent) == ["tools/go.py", "tools/near.py"]
    assert roles(found) == {"pyyaml": "direct"}


@pytest.mark.parametrize(
    "source",
    [
        "exec('import yaml')",
        "exec('''\nfrom yaml import dump\n''', {})",
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import yaml; yaml.dump(1)'])",
        "import subprocess, sys\nc = [sys.executable, '-m', 'yaml']\nsubprocess.run([*c, '-v'], check=True)",
    ],
)
def test_constant_code_is_read(project: Project, source: str) -> None:
    assert roles(analyze(project({"main.py": source}))) == {"pyyaml": "direct"}


@pytest.mark.parametrize(
    "source",
    [
        "import sys\n\nexec(sys.argv[1])",
        "import runpy, sys\n\nrunpy.run_path(sys.argv[1])",
        "import runpy\n\nrunpy.run_path('nowhere.py')",
        "import subprocess, sys\n\nsubprocess.run([sys.executable, '-m', sys.argv[1]])",
    ],
)
def test_code_that_is_computed_is_said(project: Project, source: str) -> None:
    found = analyze(project({"main.py": source}))
    assert [(item.line, item.kind) for item in found.unresolved] == [(3, "dynamic")]
    assert "--include" in found.unresolved[0].hint


NOTEBOOK_LINES = [
    ("%run other.py --fast", ["other.py"]),
    ("%run other", ["other.py"]),
    ("%run -m deep", ["deep/__init__.py", "deep/__main__.py"]),
    ("!{sys.executable} other.py", ["other.py"]),
    ("out = !python other.py", ["other.py"]),
    ("for i in range(3):\n    %run other.py", ["other.py"]),
    ("%load_ext yaml", []),
    ("%time import yaml", []),
    ("%timeit -n 10 __import__('yaml')", []),
]


@pytest.mark.parametrize(("line", "files"), NOTEBOOK_LINES)
def test_magic_commands_of_a_notebook_count(project: Project, line: str, files: list[str]) -> None:
    folder = project({"main.py": "", **OTHER}).parent
    cells = [{"cell_type": "code", "source": line}, {"cell_type": "code", "source": "%load_ext autoreload\n!pip list"}]
    notebook = folder / "a.ipynb"
    notebook.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))
    found = analyze(notebook)
    assert roles(found) == {"pyyaml": "direct"}
    assert relative(found.local_files, folder) == files
    assert found.unresolved == ()


def test_exported_notebook_is_read_like_the_notebook(project: Project) -> None:
    script = project({"main.py": "get_ipython().run_line_magic('run', 'other.py')\n", **OTHER})
    assert relative(analyze(script).local_files, script.parent) == ["other.py"]


INI = (
    "[handlers]\nkeys=h\n[handler_h]\nclass=yaml.nodes.Node\nargs=()\n[handler_g]\nclass=handlers.RotatingFileHandler\n"
)
CONFIGURATION = '{"handlers": {"h": {"class": "yaml.nodes.Node", "stream": "ext://sys.stdout"}}}'


@pytest.mark.parametrize(
    ("source", "name", "content"),
    [
        ("import logging.config\nlogging.config.fileConfig('c.ini')", "c.ini", INI),
        (
            "import json, logging.config\nlogging.config.dictConfig(json.load(open('c.json')))",
            "c.json",
            CONFIGURATION,
        ),
        (
            "import json\nfrom logging import config\nwith open('c.json') as f: c = json.load(f)\nconfig.dictConfig(c)",
            "c.json",
            CONFIGURATION,
        ),
        (
            "import tomllib\nfrom logging import config\nconfig.dictConfig(tomllib.load(open('c.toml', 'rb')))",
            "c.toml",
            '[handlers.h]\nclass = "yaml.nodes.Node"\n',
        ),
        (
            "from logging.config import dictConfig as d\nd({'filters': {'f': {'()': 'yaml.nodes.Node'}}, 'x': [1]})",
            "unused",
            "",
        ),
        (
            "import logging.config\nlogging.config.dictConfig({'handlers': {'h': {'stream': 'ext://yaml.dump'}}})",
            "unused",
            "",
        ),
    ],
)
def test_classes_of_a_logging_configuration_are_needed(project: Project, source: str, name: str, content: str) -> None:
    assert roles(analyze(project({"main.py": source, name: content}))) == {"pyyaml": "direct"}


def test_yaml_configuration_is_read_without_a_parser(project: Project) -> None:
    source = "import yaml, logging.config as c\nc.dictConfig(yaml.safe_load(open('c.yaml')))"
    content = "handlers:\n  h:\n    class: numpy.ndarray\n    level: INFO\n"
    found = analyze(project({"main.py": source, "c.yaml": content}))
    assert roles(found) == {"numpy": "direct", "pyyaml": "direct"}


@pytest.mark.parametrize(("name", "content"), [("c.ini", "no section"), ("c.json", "{")])
def test_broken_configuration_is_said(project: Project, name: str, content: str) -> None:
    read = "c.fileConfig('c.ini')" if name == "c.ini" else "c.dictConfig(json.load(open('c.json')))"
    found = analyze(project({"main.py": f"import json, logging.config as c\n{read}", name: content}))
    assert [(item.line, item.kind) for item in found.unresolved] == [(2, "dynamic")]
    assert name in found.unresolved[0].hint


def test_nothing_of_what_is_read_is_executed(project: Project, tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / 'trap')!r}, 'w')"
    analyze(project({"main.py": "import runpy\nrunpy.run_path('other.py')", "other.py": trap}))
    assert not (tmp_path / "trap").exists()
