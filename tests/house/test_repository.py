"""The repository as others get it: nothing of one machine in it, links that lead somewhere, checks that fail."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".json", ".cfg", ".txt", ".sh", ""}
OTHERS = {".git", "site", "dist", "build", "__pycache__"}


def tracked_files(repository: Path) -> list[Path]:
    if (repository / ".git").exists() and shutil.which("git"):
        listing = subprocess.check_output(["git", "ls-files", "-z"], cwd=repository, text=True)
        return [file for name in listing.split("\0") if name and (file := repository / name).is_file()]
    return [  # an unpacked source archive
        file
        for file in repository.rglob("*")
        if file.is_file() and not OTHERS & set(file.parts) and not any(part.startswith(".") for part in file.parts)
    ]


def test_no_file_names_a_path_of_one_machine(repository):
    # Not /usr and the like: those are on every machine.
    ours = {str(repository), str(Path.home()), os.path.realpath(sys.base_prefix), sys.prefix}
    ours -= {"/", "/usr", "/usr/local"}
    personal = re.compile(
        "|".join([r"/(?:home|Users)/(?!me\b|user\b)\w+", *(rf"{re.escape(path)}\b" for path in ours)])
    )
    found = [
        f"{file.relative_to(repository)}:{number}: {line.strip()[:100]}"
        for file in tracked_files(repository)
        if file.suffix in TEXT
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if personal.search(line)
    ]

    assert found == []


def test_nothing_tells_people_to_install_the_unrelated_package(repository):
    pattern = re.compile(r"(?:pip|pipx|uv|uvx)\b.*\binstall\b.*[\s'\"]envpack(?![-\w])")
    found = [
        f"{file.relative_to(repository)}: {line.strip()}"
        for file in tracked_files(repository)
        if file.suffix == ".md"
        for line in file.read_text(encoding="utf-8").splitlines()
        if pattern.search(line)
    ]

    assert found == []


def test_every_relative_link_of_a_page_leads_to_a_file(repository):
    missing = [
        f"{page.relative_to(repository)}: {target}"
        for page in tracked_files(repository)
        if page.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists()
    ]

    assert missing == []


@pytest.mark.parametrize(
    ("lint", "test", "expected"),
    [(0, 0, 0), (3, 0, 3), (0, 4, 4), (3, 4, 3)],
    ids=["both pass", "lint", "test", "both"],
)
def test_check_runs_lint_and_tests_and_reports_the_first_failure(repository, tmp_path, lint, test, expected):
    shutil.copytree(repository / ".ci", tmp_path / ".ci")
    stand_in = tmp_path / "bin" / "make"
    stand_in.parent.mkdir()
    stand_in.write_text(f'#!/bin/sh\ncase "$*" in *lint) exit {lint};; *test) exit {test};; esac\nexit 99\n')
    stand_in.chmod(0o755)
    environ = {**os.environ, "PATH": f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}"}
    outcome = subprocess.run([tmp_path / ".ci" / "run"], env=environ, capture_output=True, text=True, timeout=60)

    assert outcome.returncode == expected
    assert outcome.stdout == "== make lint\n== make test\n"


def test_make_says_which_interpreter_it_cannot_use(repository, tmp_path):
    for file in ("Makefile", "pyproject.toml"):
        shutil.copy(repository / file, tmp_path)
    command = ["make", "demo", "PYTHON=no-such-python"]
    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert outcome.returncode == 2
    assert "make: error: PYTHON=no-such-python does not run, is older than 3.11, or lacks venv" in outcome.stderr
    assert not (tmp_path / ".venv").exists()
