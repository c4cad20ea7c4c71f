"""`envpack analyze`, run as its users run it, good input and bad."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envpack.discover import Dependencies
from tests.discover.conftest import Environment, Project


def envpack(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "envpack", "analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd)


@pytest.fixture
def script(project: Project) -> Path:
    return project(
        {
            "main.py": "import numpy as np\nimport scipy.special as sp\nimport mine\n"
            "def area(x): return sp.gamma(x)\ndef total(x): return mine.add(np.sum(x))\n",
            "mine.py": "try: import yaml\nexcept ImportError: yaml = None\ndef add(x): return x",
        }
    )


def test_json_is_the_documented_object(script: Path) -> None:
    text = envpack(f"{script}:total", "--format", "json").stdout
    assert envpack(f"{script}:total", "--json").stdout == text
    data = json.loads(text)
    assert list(data) == [
        "schema",
        "target",
        "python",
        "platform",
        "functions",
        "distributions",
        "local_files",
        "local_roots",
        "unresolved",
        "local_evidence",
        "verified",
    ]
    keys = ["name", "modules", "distributions", "local_files", "unresolved", "evidence"]
    assert list(data["functions"][0]) == keys
    keys = ["name", "version", "role", "required_by", "source", "evidence", "size_bytes", "extras", "url"]
    assert list(data["distributions"][0]) == keys
    assert list(data["distributions"][0]["evidence"][0]) == ["file", "line", "kind", "module"]
    assert Dependencies.from_dict(data).to_dict() == data


def test_requirements_pin_what_the_code_itself_needs(script: Path) -> None:
    import numpy
    import scipy

    expected = f"numpy=={numpy.__version__}\nscipy=={scipy.__version__}\n"
    assert envpack(script, "--format", "requirements").stdout == expected


def test_output_is_replaced_as_a_whole(script: Path, tmp_path: Path) -> None:
    target = tmp_path / "requirements.txt"
    target.write_text("old")
    answer = envpack(script, "--format", "requirements", "-o", target)
    assert (answer.returncode, answer.stdout) == (0, "")
    assert target.read_text().startswith("numpy==")
    assert sorted(os.listdir(tmp_path)) == ["project", "requirements.txt"]


def test_missing_module_is_answered_and_named(project: Project) -> None:
    script = project({"main.py": "import numpy\n\nimport nowhere.deep\n"})
    answer = envpack(script)
    assert answer.returncode == 1
    assert "numpy" in answer.stdout
    assert "could not decide" in answer.stdout
    assert answer.stderr.startswith("envpack: error: not installed in the analysed environment: 'nowhere.deep'")
    assert f"{script}:3" in answer.stderr
    assert "--exclude" in answer.stderr
    assert envpack(script, "--exclude", "nowhere").returncode == 0
    assert envpack(script, "--map", "nowhere=PyYAML").returncode == 0


def test_syntax_error_shows_the_line_with_a_caret(project: Project) -> None:
    answer = envpack(project({"main.py": "import numpy\n    \nif True:\n    x = (1 +* 2)\n"}))
    assert answer.returncode == 1
    first, line, caret = answer.stderr.splitlines()
    assert first.startswith("envpack: error: ")
    assert "main.py:4: invalid syntax" in first
    assert line.strip() == "x = (1 +* 2)"
    assert line[caret.index("^")] == "*"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no_such.py"], "no such file"),
        (["empty"], "no Python file in the folder"),
        (["*.rs"], "no Python file matches '*.rs'"),
        (["main.py", "none.py"], "no such file: 'none.py'"),
        (["-"], "no such file"),
        (["main.py", "mine.py", "--function", "area"], "functions of several targets: area"),
        (["main.py:totl"], "did you mean total?"),
        (["main.py", "--function", "area.inner"], "no function 'area.inner'"),
        (["main.py", "--python", "/no/such/python"], "no such interpreter"),
        (["main.py", "--python", "/bin/true"], "not a Python interpreter"),
        (["main.py", "--include", "nmpy"], "did you mean numpy"),
        (["main.py", "--include", "not a name"], "not a distribution name"),
        (["main.py", "--map", "yaml"], "IMPORT=DIST expected"),
        (["main.py", "--map", "yaml=nowhere"], "distribution not installed"),
        (["main.py", "-o", "no/folder/file"], "cannot write"),
        (["main.py", "--format", "docx"], "docx"),
        (["/proc/self/mem"], "cannot read"),
        (["binary"], "not a Python source file"),
        (["loop.py"], "cannot read"),
        (["main.py:area()"], "not the name of a function: 'area()'"),
        (["main.py:"], "not the name of a function: ''"),
        (["main.py:area:total"], "not the name of a function: 'area:total'"),
        (["main.py:area", "mine.py:"], "not the name of a function"),
        (["package:area"], "functions of a folder: area"),
        (["-m", "nowhere"], "no module to run"),
        (["-m", "mine", "--load"], "FILE.py:FUNCTION expected"),
        (["main.py", "--load"], "nothing to load"),
        (["main.py", "--hashes"], "--format requirements"),
        (["main.py", "--json", "--format", "conda"], "--format conda cannot be given"),
        (["main.py", "--diff", "none.json"], "cannot read 'none.json'"),
        (["main.py", "-o", "empty"], "is a directory"),
        (["main.py", "--map", "=yaml"], "IMPORT=DIST expected"),
        (["/dev/null"], "not a regular file"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], said: str, script: Path) -> None:
    (script.parent / "empty").mkdir()
    (script.parent / "package").mkdir()
    (script.parent / "package" / "__init__.py").touch()
    (script.parent / "binary").write_bytes(b"\x7fELF\0\1")
    (script.parent / "loop.py").symlink_to("loop.py")
    answer = envpack(*arguments, cwd=script.parent)
    assert answer.returncode == 2
    assert answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert line.startswith("envpack: error: ")
    assert said in line


def test_broken_file_among_several_is_an_error_and_the_others_are_answered(project: Project) -> None:
    folder = project({"a.py": "import yaml\n", "b.py": "x = (1 +* 2)\n", "c.py": "x = = 3\n"}).parent
    answer = envpack("a.py", "b.py", cwd=folder)
    assert answer.returncode == 1
    first, line, caret = answer.stderr.splitlines()
    assert first == f"envpack: error: {folder / 'b.py'}:1: invalid syntax"
    assert line[caret.index("^")] == "*"
    assert "pyyaml" in answer.stdout
    both = envpack("*.py", "--format", "requirements", cwd=folder)
    assert (both.returncode, both.stdout.startswith("pyyaml==")) == (1, True)
    assert both.stderr.startswith("envpack: error: 2 of the targets cannot be read:\n")


def test_link_that_leads_to_itself_hides_nothing_beside_it(project: Project) -> None:
    script = project({"main.py": "import mine\n", "mine.py": ""})
    (script.parent / "loop").symlink_to("loop")
    assert envpack(script).returncode == 0


def test_source_in_another_encoding_is_read(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_bytes("# -*- coding: latin-1 -*-\nname = 'é'\nimport yaml\n".encode("latin-1"))
    assert "pyyaml" in envpack(script).stdout
    script.write_bytes(b"\xef\xbb\xbfimport yaml\r\n")
    assert "pyyaml" in envpack(script).stdout
    script.write_bytes(b"# coding: no-such-encoding\nimport yaml\n")
    answer = envpack(script)
    assert (answer.returncode, "no-such-encoding" in answer.stderr) == (1, True)


def test_folder_that_the_command_stands_in_is_not_searched(project: Project) -> None:
    main = project({"sub/main.py": "import mine", "mine.py": ""})
    answer = envpack(main.parent / "sub" / "main.py", cwd=main.parent)
    assert answer.returncode == 1
    assert "'mine'" in answer.stderr


def test_module_to_run_is_named_as_for_python(script: Path) -> None:
    answer = envpack("-m", "mine", cwd=script.parent)
    assert answer.returncode == 0, answer.stderr
    assert "local file  mine.py" in answer.stdout
    for wrong in ([], ["main.py", "-m", "mine"]):
        answer = envpack(*wrong, cwd=script.parent)
        assert (answer.returncode, "one of TARGET and -m" in answer.stderr) == (2, True)


def test_facts_of_an_interpreter_do_not_import_the_analyser() -> None:
    said = "import sys; from envpack.discover import inspect_interpreter; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name for name in answer.stdout.split() if name.startswith("envpack.")}
    rooms = {"envpack.discover", "envpack.discover.environment"}
    known = {f"envpack.discover.environment.{name}" for name in ("interpreter", "cache")}
    assert loaded == {*rooms, *known, "envpack.settings", "envpack.values", "envpack.errors"}


def test_diff_says_what_is_new_gone_and_changed(script: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    envpack(f"{script}:area", "--format", "json", "-o", old)
    assert envpack(f"{script}:area", "--diff", old).stdout == ""
    data = json.loads(old.read_text())
    for item in data["distributions"]:
        item["version"] = "0.1" if item["name"] == "numpy" else item["version"]
    data["python"] = "3.8.0"
    old.write_text(json.dumps(data))
    answer = envpack(f"{script}:total", "--diff", old)
    assert answer.returncode == 0
    lines = answer.stdout.splitlines()
    assert lines[0].startswith("~ Python 3.8.0 -> ")
    assert lines[1:3] == ["- function area", "+ function total"]
    assert lines[3].startswith("~ numpy 0.1 -> ")
    assert lines[4] == "~ numpy (transitive) -> (direct)"
    assert [line.split()[:2] for line in lines[5:7]] == [["+", "pyyaml"], ["-", "scipy"]]
    assert lines[7:] == [f"+ local file {script.parent / 'mine.py'}"]


def test_diff_of_several_says_which_function_has_changed(script: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    envpack(f"{script}:area", f"{script}:total", "--json", "-o", old)
    script.write_text(script.read_text() + "def more(x): return total(area(x))\n")
    script.write_text(script.read_text().replace("return sp.gamma(x)", "return np.sin(x)"))
    version = next(item["version"] for item in json.loads(old.read_text())["distributions"] if item["name"] == "scipy")
    lines = envpack(f"{script}:area", f"{script}:total", f"{script}:more", "--diff", old).stdout.splitlines()
    assert lines == [f"+ function {script}:more", f"- {script}:area needs scipy", f"- scipy {version} (direct)"]


def test_diff_says_where_a_distribution_now_comes_from(environment: Environment, project: Project) -> None:
    environment.install("alpha", files=("alpha.py",), requires=("beta; extra == 'x'",))
    script = project({"main.py": "import alpha\n"})
    old = script.with_name("old.json")
    envpack(script, "--python", environment.python, "--json", "-o", old)
    direct = {"url": "file:///home/me/alpha", "dir_info": {}}
    (environment.site / "alpha-1.0.dist-info" / "direct_url.json").write_text(json.dumps(direct))
    answer = envpack(script, "--python", environment.python, "--include", "alpha[x]", "--diff", old)
    assert answer.stdout.splitlines()[:2] == [
        "~ alpha from wheel -> wheel file:///home/me/alpha",
        "~ alpha[] -> alpha[x]",
    ]


@pytest.mark.parametrize(("content", "code"), [(None, 2), ("x", 1), ("{}", 1)])
def test_diff_with_what_is_no_answer_is_one_line(script: Path, tmp_path: Path, content: str | None, code: int) -> None:
    old = tmp_path / "old.json"
    if content is not None:
        old.write_text(content)
    answer = envpack(script, "--diff", old)
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (code, "", 1)
    assert envpack(script, "--diff", old, "--format", "json").returncode == 2
