"""What may be asked about beside scripts: notebooks, package folders, modules to run; and declared dependencies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envpack.discover import Dependencies, analyze
from envpack.errors import SourceSyntaxError, TargetNotFoundError, UsageError
from tests.discover.conftest import Environment, Project, relative, roles


def notebook(path: Path, *cells: str, language: str = "python") -> Path:
    made = [{"cell_type": "code", "source": cell.splitlines(keepends=True), "metadata": {}} for cell in cells]
    text = {"cell_type": "markdown", "source": ["import nowhere"], "metadata": {}}
    metadata = {"language_info": {"name": language}}
    path.write_text(json.dumps({"cells": [text, *made], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    return path


def lines(found: Dependencies, name: str) -> list[int]:
    return [one.line for item in found.distributions if item.name == name for one in item.evidence]


def test_notebook_counts_lines_over_its_code_cells(tmp_path: Path) -> None:
    made = notebook(tmp_path / "a.ipynb", "import numpy\nx = 1", "\nimport yaml")
    found = analyze(made)
    assert roles(found) == {"numpy": "direct", "pyyaml": "direct"}
    assert (lines(found, "numpy"), lines(found, "pyyaml")) == ([2], [6])


@pytest.mark.parametrize(
    "cell",
    [
        "%matplotlib inline\nimport yaml",
        "!pip install nowhere\nimport yaml",
        "!pip install \\\n  import nowhere\nimport yaml",
        "if 1:\n    %load_ext autoreload\nimport yaml",
        "files = !ls\nimport yaml",
        "answer = %sql x\nimport yaml",
        "print?\nimport yaml",
        "%%time\nimport yaml",
        "await thing()\nimport yaml",
        "x = '''\n%s\n!x\n''' % (1\n % 2)\nimport yaml",
    ],
)
def test_what_is_not_python_in_a_cell_is_left_out(tmp_path: Path, cell: str) -> None:
    found = analyze(notebook(tmp_path / "a.ipynb", cell))
    assert roles(found) == {"pyyaml": "direct"}
    assert lines(found, "pyyaml") == [1 + len(cell.splitlines())]
    assert found.unresolved == ()


def test_cell_of_another_language_is_left_out(tmp_path: Path) -> None:
    assert roles(analyze(notebook(tmp_path / "a.ipynb", "%%bash\nimport yaml", "import numpy"))) == {"numpy": "direct"}


def test_function_of_a_notebook_may_be_asked_about(tmp_path: Path) -> None:
    made = notebook(tmp_path / "a.ipynb", "import numpy, yaml", "def f(): return yaml.dump(1)")
    assert roles(analyze(f"{made}:f")) == {"pyyaml": "direct"}


def test_syntax_error_in_a_notebook_has_its_line(tmp_path: Path) -> None:
    with pytest.raises(SourceSyntaxError, match=r"a\.ipynb:5"):
        analyze(notebook(tmp_path / "a.ipynb", "x = 1\ny = 2", "x = = 1"))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"cells": [{}]}', '{"cells": 1}', "\x00"])
def test_what_is_no_notebook_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.ipynb").write_text(content)
    with pytest.raises(TargetNotFoundError, match="not a notebook"):
        analyze(tmp_path / "a.ipynb")


def test_notebook_in_another_language_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetNotFoundError, match="is in R"):
        analyze(notebook(tmp_path / "a.ipynb", "x <- 1", language="R"))


BLOCK = """\
#!/usr/bin/env python
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "Alpha[fast]>=1",
#     "beta; python_version < '3'",
# ]
# ///
print()
"""


def test_declared_dependencies_are_direct(environment: Environment, project: Project) -> None:
    environment.install("alpha", requires=("gamma; extra == 'fast'",))
    environment.install("gamma")
    script = project({"main.py": BLOCK + "def f(): pass\n"})
    found = analyze(script, python=environment.python)
    assert {item.name: item.role for item in found.distributions} == {"alpha": "direct", "gamma": "transitive"}
    (evidence,) = found.distributions[0].evidence
    assert (evidence.line, evidence.kind, evidence.module) == (5, "declared", "Alpha")
    assert found.unresolved == ()
    assert analyze(f"{script}:f", python=environment.python).distributions == ()
    assert analyze(script, python=environment.python, exclude=["alpha"]).distributions == ()


def test_declared_dependency_that_is_not_met_is_said(environment: Environment, project: Project) -> None:
    script = project({"main.py": BLOCK})
    (missing,) = analyze(script, python=environment.python).unresolved
    assert (missing.module, missing.line, missing.kind) == ("Alpha", 5, "missing")
    environment.install("alpha", "0.5")
    (old,) = analyze(script, python=environment.python).unresolved
    assert (old.kind, "alpha 0.5 is installed, >=1 declared" in old.hint.lower()) == ("requirement", True)


def test_metadata_of_another_script_inside_a_string_is_not_declared(project: Project) -> None:
    texts = f'OTHER = """\\\n{BLOCK}"""\nNEXT = f"""\n{BLOCK}{{1}}"""\n'
    assert analyze(project({"main.py": texts})).unresolved == ()


@pytest.mark.parametrize(
    "text",
    [
        "# /// script\n# dependencies = [\n# ///\n",
        "# /// script\n# dependencies = ['not a name']\n# ///\n",
        "# /// script\n# dependencies = 3\n# ///\n",
        "# /// script\n# x = 1\n# ///\n\n# /// script\n# x = 1\n# ///\n",
    ],
)
def test_invalid_metadata_of_a_script_is_an_error(project: Project, text: str) -> None:
    with pytest.raises(SourceSyntaxError, match="inline script metadata"):
        analyze(project({"main.py": text}))


PACKAGE = {
    "top/__init__.py": "",
    "top/tool/__init__.py": "from . import shapes\n",
    "top/tool/shapes.py": "import numpy\n",
    "top/tool/__main__.py": "import yaml\n",
    "top/tool/deep/__init__.py": "",
    "top/tool/deep/more.py": "from ...tool import shapes\nimport dateutil\n",
    "top/tool/data/notes.py": "import nowhere\n",
    "main.py": "",
}


def test_folder_of_a_package_means_all_its_modules(project: Project) -> None:
    root = project(PACKAGE).parent
    found = analyze(root / "top" / "tool")
    assert roles(found) == {"numpy": "direct", "pyyaml": "direct", "python-dateutil": "direct"}
    assert relative(found.local_files, root) == sorted(name for name in PACKAGE if "data" not in name and "/" in name)
    assert found.local_roots == (str(root),)
    assert found.unresolved == ()


def test_module_to_run_means_its_main(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(PACKAGE).parent
    monkeypatch.chdir(root)
    assert roles(analyze("-m top.tool")) == {"numpy": "direct", "pyyaml": "direct"}
    assert roles(analyze("-m top.tool.shapes")) == {"numpy": "direct"}
    assert roles(analyze("-m yaml")) == {"pyyaml": "direct"}
    with pytest.raises(TargetNotFoundError, match=r"no module to run: 'top\.none'"):
        analyze("-m top.none")


def test_functions_of_a_package_are_asked_about_by_file(project: Project) -> None:
    root = project(PACKAGE).parent
    for target in (str(root / "top"), "-m yaml"):
        with pytest.raises(UsageError, match="functions of a"):
            analyze(target, functions=["f"])
