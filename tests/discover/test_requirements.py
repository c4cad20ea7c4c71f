"""What an installer has to be told to get the same again: versions, extras, addresses; and how much it gets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from packaging.requirements import Requirement

from envpack.discover import Dependencies, Distribution, analyze
from tests.discover.conftest import Environment, Project

DIGEST = "ab" * 32
ORIGINS: dict[str, tuple[dict[str, Any], str]] = {
    "wheel": (
        {
            "url": "https://example.org/a-1.0-py3-none-any.whl",
            "archive_info": {"hashes": {"md5": "x", "sha256": DIGEST}},
        },
        f"https://example.org/a-1.0-py3-none-any.whl#sha256={DIGEST}",
    ),
    "old installer": (
        {"url": "file:///tmp/a-1.0.tar.gz", "archive_info": {"hash": f"sha256={DIGEST}"}},
        f"file:///tmp/a-1.0.tar.gz#sha256={DIGEST}",
    ),
    "no hash": ({"url": "file:///tmp/a-1.0.tar.gz", "archive_info": {}}, "file:///tmp/a-1.0.tar.gz"),
    "repository": (
        {
            "url": "https://example.org/a.git",
            "vcs_info": {"vcs": "git", "requested_revision": "main", "commit_id": "c0ffee"},
            "subdirectory": "python",
        },
        "git+https://example.org/a.git@c0ffee#subdirectory=python",
    ),
    "folder": ({"url": "file:///home/me/a", "dir_info": {}}, "file:///home/me/a"),
    "development": ({"url": "file:///home/me/a", "dir_info": {"editable": True}}, "file:///home/me/a"),
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_what_no_index_gave_is_asked_for_by_its_address(
    origin: str, environment: Environment, project: Project
) -> None:
    direct, url = ORIGINS[origin]
    environment.install("a", files=("a.py",), extra_metadata={"direct_url.json": json.dumps(direct)})
    found = analyze(project({"main.py": "import a\n"}), python=environment.python)
    assert [item.url for item in found.distributions] == [url]
    (line,) = found.requirements()
    assert (Requirement(line).name, Requirement(line).url) == ("a", url)


def test_extras_that_were_asked_for_stand_in_the_requirement(environment: Environment, project: Project) -> None:
    environment.install("alpha", files=("alpha.py",), requires=("beta; extra == 'fast'",))
    environment.install("beta")
    script = project({"main.py": "# /// script\n# dependencies = ['alpha[fast]']\n# ///\nimport alpha\n"})
    assert analyze(script, python=environment.python).requirements() == ("alpha[fast]==1.0",)
    found = analyze(script, python=environment.python, include=["alpha[slow]"], exclude=["beta"])
    assert found.requirements() == ("alpha[fast,slow]==1.0",)


def test_size_is_what_the_list_of_files_states(environment: Environment, project: Project) -> None:
    environment.install("a", files=("a.py",))
    record = environment.site / "a-1.0.dist-info" / "RECORD"
    (environment.site / "a.py").write_text("x = 1\n")
    rows = [
        "a.py,sha256=x,1000",
        '"a,b.py",sha256=x,200',
        "__pycache__/a.cpython-311.pyc,,",
        f"{record.parent.name}/RECORD,,",
    ]
    record.write_text("\n".join(rows) + "\n")
    script = project({"main.py": "import a\n"})
    (item,) = analyze(script, python=environment.python).distributions
    assert item.size_bytes == 1200 + record.stat().st_size


def test_size_is_measured_where_no_list_states_it(environment: Environment, project: Project) -> None:
    egg = environment.site / "old-1.0.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Name: old\nVersion: 1.0\n")
    (egg / "top_level.txt").write_text("old\n")
    (environment.site / "old").mkdir()
    (environment.site / "old" / "__init__.py").write_text("x" * 500)
    (item,) = analyze(project({"main.py": "import old\n"}), python=environment.python).distributions
    assert item.size_bytes == 500 + sum(file.stat().st_size for file in egg.iterdir())


def test_answers_of_before_sizes_are_still_read() -> None:
    item = Distribution("a", "1.0", "direct", (), "wheel", (), 10, ("x",), "https://example.org/a.whl")
    data = item.to_dict()
    for key in ("size_bytes", "extras", "url"):
        del data[key]
    assert Distribution.from_dict(data) == Distribution("a", "1.0", "direct", (), "wheel", ())
    assert Distribution.from_dict(item.to_dict()) == item


def test_dependencies_without_distributions_require_nothing(project: Project) -> None:
    found = analyze(project({"main.py": "import json\n"}))
    assert isinstance(found, Dependencies)
    assert found.requirements() == ()
