"""Several targets at once: lists, folders, patterns; each answered as a script of its own."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path

import pytest

from envpack.discover import Dependencies, analyze
from envpack.errors import BrokenTargetsError, FunctionNotFoundError, TargetNotFoundError, UsageError
from tests.discover.conftest import Project, roles
from tests.discover.test_targets import notebook

FILES = {
    "scripts/a.py": "import yaml, common\ndef f(): return yaml\ndef g(): import numpy\n",
    "scripts/common.py": "import dateutil\n",
    "scripts/sub/b.py": "import common\n",
    "scripts/sub/common.py": "import scipy\n",
    "scripts/sub/.hidden/x.py": "import nowhere\n",
    "scripts/__pycache__/x.py": "import nowhere\n",
    "scripts/node_modules/x.py": "import nowhere\n",
    "scripts/env/pyvenv.cfg": "",
    "scripts/env/lib/x.py": "import nowhere\n",
    "scripts/conda/conda-meta/history": "",
    "scripts/conda/x.py": "import nowhere\n",
    "scripts/notes.txt": "import nowhere\n",
    "main.py": "",
}


@pytest.fixture
def root(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = project(FILES).parent
    notebook(root / "scripts" / "n.ipynb", "import numpy")
    monkeypatch.chdir(root)
    return root


def names(found: Dependencies) -> list[str]:
    return [function.name for function in found.functions]


def direct(found: Dependencies, name: str) -> list[str]:
    (function,) = [one for one in found.functions if one.name == name]
    return [module for module in function.modules if "." not in module]


def test_folder_means_each_of_its_files_as_a_script_of_its_own(root: Path) -> None:
    found = analyze("scripts")
    assert found.target == "scripts"
    expected = ["scripts/a.py", "scripts/common.py", "scripts/n.ipynb", "scripts/sub/b.py", "scripts/sub/common.py"]
    assert names(found) == expected
    # Each has its own folder first on the search path: two files of one name are two modules.
    by_name = {function.name: set(function.distributions) for function in found.functions}
    assert by_name["scripts/a.py"] >= {"python-dateutil", "pyyaml", "numpy"}
    assert "scipy" not in by_name["scripts/a.py"]
    assert "scipy" in by_name["scripts/sub/b.py"]
    assert "python-dateutil" not in by_name["scripts/sub/b.py"]
    assert [os.path.relpath(path) for path in found.local_files] == ["scripts/common.py", "scripts/sub/common.py"]
    assert found.missing == found.broken == ()


def test_answer_for_several_is_what_each_alone_gives(root: Path) -> None:
    targets = ["scripts/a.py:f", "scripts/a.py:g", "scripts/sub/b.py"]
    found = analyze(targets)
    assert found.target == shlex.join(targets)
    assert names(found) == targets
    for target, function in zip(targets, found.functions, strict=True):
        (alone,) = analyze(target).functions
        for field in ("modules", "distributions", "local_files", "unresolved"):
            assert getattr(function, field) == getattr(alone, field)
    every = {item.name for target in targets for item in analyze(target).distributions}
    assert {item.name for item in found.distributions} == every
    assert Dependencies.from_dict(found.to_dict()) == found


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("scripts/*.py", ["scripts/a.py", "scripts/common.py"]),
        ("scripts/**/b.py", ["scripts/sub/b.py"]),
        (
            "scripts/**",
            ["scripts/a.py", "scripts/common.py", "scripts/n.ipynb", "scripts/sub/b.py", "scripts/sub/common.py"],
        ),
        ("scripts/[ab].py", ["scripts/a.py"]),
        ("scripts/a.*:f", ["scripts/a.py:f"]),
        ("scripts/env/**/x.py", ["scripts/env/lib/x.py"]),
    ],
)
def test_pattern_means_the_python_files_that_it_matches(root: Path, pattern: str, expected: list[str]) -> None:
    assert names(analyze(pattern)) == expected


def test_file_that_is_named_twice_is_answered_once(root: Path) -> None:
    found = analyze(["scripts/a.py", "scripts", "./scripts/a.py", str(root / "scripts" / "a.py"), "scripts/a.py:f"])
    assert names(found).count("scripts/a.py") == 1
    assert names(found)[-1] == "scripts/a.py:f"
    assert len(names(found)) == 6


def test_strongest_role_of_a_distribution_counts(project: Project) -> None:
    root = project({"a.py": "try: import yaml\nexcept ImportError: pass\n", "b.py": "import yaml\n"}).parent
    assert roles(analyze([root / "a.py"])) == {"pyyaml": "optional"}
    found = analyze([root / "a.py", root / "b.py"])
    assert roles(found) == {"pyyaml": "direct"}
    assert [one.kind for one in found.distributions[0].evidence] == ["optional", "static"]


def test_live_functions_may_stand_in_the_list(root: Path) -> None:
    found = analyze([names, root / "scripts" / "a.py"])
    assert names(found) == [f"{__file__}:names", str(root / "scripts" / "a.py")]


def test_broken_file_among_others_is_said_with_line_and_caret(root: Path) -> None:
    (root / "scripts" / "broken.py").write_text("import yaml\nx = (1 +* 2)\n")
    (root / "scripts" / "other.ipynb").write_text("[]")
    found = analyze("scripts")
    assert roles(found) == roles(analyze(["scripts/a.py", "scripts/common.py", "scripts/n.ipynb", "scripts/sub"]))
    broken, other = found.broken
    assert (broken.file, broken.line, broken.kind) == (str(root / "scripts" / "broken.py"), 2, "source")
    reason, line, caret = broken.hint.splitlines()
    assert reason == "invalid syntax"
    assert line[caret.index("^")] == "*"
    assert "not a notebook" in other.hint
    (function,) = [one for one in found.functions if one.name == "scripts/broken.py"]
    assert function.unresolved == (broken,)
    found.raise_missing()
    with pytest.raises(BrokenTargetsError) as caught:
        found.raise_broken()
    assert caught.value.broken == tuple((item.file, item.line, item.hint) for item in (broken, other))
    assert f"{broken.file}:2: invalid syntax" in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_closed_files_and_folders_are_said(root: Path) -> None:
    (root / "scripts" / "a.py").chmod(0)
    (root / "scripts" / "sub").chmod(0)
    found = analyze("scripts")
    (root / "scripts" / "sub").chmod(0o755)
    assert [os.path.basename(item.file) for item in found.broken] == ["a.py", "sub"]


@pytest.mark.parametrize(
    ("targets", "error", "said"),
    [
        (["none.py", "scripts/a.py", "nothing.py"], TargetNotFoundError, "'none.py'; no such file: 'nothing.py'"),
        (["-"], TargetNotFoundError, "no such file: '-'"),
        (["scripts/*.rs"], TargetNotFoundError, "no Python file matches 'scripts/*.rs'"),
        (["scripts/node_modules/y", "scripts/a.py"], TargetNotFoundError, "no such file"),
        (["scripts:f"], TargetNotFoundError, "function 'f' of a folder"),
        (["scripts/a.py:fff", "scripts/a.py"], FunctionNotFoundError, "no function 'fff'"),
        (["scripts/a.py:x", "scripts/a.py:y"], UsageError, "'x'"),
        ([], UsageError, "no target"),
    ],
)
def test_wrong_questions_name_what_is_wrong(root: Path, targets: list[str], error: type, said: str) -> None:
    with pytest.raises(error) as caught:
        analyze(targets)
    assert said in str(caught.value)


def test_folder_without_python_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetNotFoundError, match="no Python file in the folder"):
        analyze(tmp_path)


def test_functions_of_several_targets_are_refused(root: Path) -> None:
    for targets in ("scripts", ["scripts/a.py", "scripts/sub/b.py"]):
        with pytest.raises(UsageError, match="functions of several targets: f"):
            analyze(targets, functions=["f"])


def test_links_that_lead_around_end(root: Path) -> None:
    (root / "scripts" / "sub" / "up").symlink_to(root / "scripts")
    (root / "scripts" / "gone.py").symlink_to(root / "nowhere.py")
    found = analyze("scripts")
    assert len(names(found)) == 6
    assert [item.hint for item in found.broken] == [f"no such file: {str(root / 'scripts' / 'gone.py')!r}"]


NEIGHBOURS = {
    "a.py": "import helper, chain_1\nhelper.load('yaml')\n",
    "b.py": "import helper, chain_3\nhelper.load('numpy')\n",
    "c.py": "import sys\nsys.path.insert(0, 'other')\nimport helper, chain_2\nhelper.load('scipy')\n",
    "d.py": "import helper\nhelper.load('dateutil')\n",
    "helper.py": "import importlib\ntry: import special\nexcept ImportError: import json\n"
    "def load(name): return importlib.import_module(name)\n",
    "other/helper.py": "import importlib\ndef load(name): return importlib.import_module(name)\n",
    "other/special.py": "import yaml\n",
    "chain_1.py": "import chain_2\n",
    "chain_2.py": "import chain_3, special\n",
    "chain_3.py": "import chain_1, yaml\n",
}


def test_scripts_that_share_modules_learn_nothing_from_one_another(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(NEIGHBOURS).parent
    monkeypatch.chdir(folder)
    for targets in (sorted(NEIGHBOURS), sorted(NEIGHBOURS, reverse=True)):
        found = analyze(targets)
        for target, function in zip(targets, found.functions, strict=True):
            (alone,) = analyze(target).functions
            assert dataclasses.replace(function, name="") == alone
    assert "scipy" in {item.name for item in found.distributions}
