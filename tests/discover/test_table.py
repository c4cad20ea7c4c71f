"""The table of `envpack analyze`: what stands in it, and that 80 columns are enough, in a terminal and in a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from envpack.commands.dependency_table import render
from envpack.commands.output import size_text
from envpack.discover import Dependencies, Distribution, Evidence, FunctionDependencies, Unresolved, analyze
from envpack.discover.kinds import EvidenceKind, Role, UnresolvedKind
from tests.discover.conftest import Environment, Project
from tests.discover.test_command import envpack
from tests.fuzzing import times

LONG = "a-rather-long-name-of-a-distribution"


@pytest.fixture
def script(project: Project, environment: Environment, monkeypatch: pytest.MonkeyPatch) -> Path:
    environment.install("alpha", "1.10", files=("alpha.py",), requires=(LONG,))
    environment.install(LONG, "2026.1.2.post3")
    environment.install("beta", files=("beta.py",))
    (environment.site / "alpha.py").write_text("#" * 2_500_000)
    path = project(
        {
            "main.py": "import alpha\nimport mine\ndef area(x): return alpha.f(x)\ndef total(x): return mine.add(x)\n"
            "def inner():\n    import alpha.deep\n",
            "mine.py": "try: import beta\nexcept ImportError: beta = None\ndef add(x): return x",
        }
    )
    monkeypatch.chdir(path.parent)
    return path


def rows(text: str) -> dict[str, list[str]]:
    """Return the rows of each section, blanks folded."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith(" "):
            found[line] = last = []
        elif line:
            last.append(" ".join(line.split()))
    return found


def test_each_function_has_its_rows_with_size_role_and_reason(script: Path, environment: Environment) -> None:
    found = analyze(script, functions=["area", "total", "inner"], python=environment.python)
    sizes = {item.name: item.size_bytes for item in found.distributions}
    long = f"{LONG} 2026.1.2.post3 {size_text(sizes[LONG])} required by alpha"
    both = f"total: 2 distributions, {size_text(sizes['alpha'] + sizes[LONG])}"
    beta = size_text(sizes["beta"])
    assert sizes["alpha"] > 2_500_000
    assert rows(render(found, width=160)) == {
        f"{script}: Python {found.python}, {found.platform}": [],
        "area needs": ["alpha 1.10 2.5 MB direct alpha at main.py:1", long, both],
        "total needs": [
            f"beta 1.0 {beta} optional beta at mine.py:1 (optional)",
            "local file mine.py mine at main.py:2",
            f"total: 1 distribution, {beta}; 1 of them optional, {beta}; 1 local file",
        ],
        # The line of the import that this function reaches, not that of another one.
        "inner needs": ["alpha 1.10 2.5 MB direct alpha.deep at main.py:6", long, both],
        "all 3 together": [
            f"total: 3 distributions, {size_text(sum(sizes.values()))}; 1 of them optional, {beta}; 1 local file"
        ],
    }


def test_what_is_not_decided_stands_last_with_what_to_pass(script: Path, environment: Environment) -> None:
    script.write_text("import nowhere\n\nimport importlib, sys\nimportlib.import_module(sys.argv[1])\n")
    found = analyze(script, python=environment.python)
    sections = rows(render(found, width=300))
    assert list(sections)[1:] == ["whole script needs", "could not decide"]
    assert sections["whole script needs"] == ["only the standard library"]
    dynamic, missing = sections["could not decide"]
    assert dynamic.startswith("main.py:4: an import (dynamic): ")
    assert dynamic.endswith("--include DIST")
    assert missing.startswith("main.py:1: nowhere (missing): ")
    assert missing.endswith("--map nowhere=DIST or --exclude nowhere")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_asked_and_nothing_is_cut(script: Path, environment: Environment, width: int) -> None:
    script.write_text(script.read_text() + "import nowhere\n")
    found = analyze(["main.py", "main.py:total", "."], python=environment.python)
    text = render(found, width=width)
    assert max(map(len, text.splitlines()[1:])) <= width
    assert sorted(text.split()) == sorted(render(found, width=1000).split())


def test_pipe_gets_80_columns_and_no_colour(script: Path, environment: Environment) -> None:
    answer = envpack("main.py", "--python", environment.python, cwd=script.parent)
    assert answer.returncode == 0, answer.stderr
    assert max(map(len, answer.stdout.splitlines())) <= 80
    assert "\x1b" not in answer.stdout
    assert LONG in answer.stdout


def test_terminal_gets_its_width_and_bold_headings(script: Path, environment: Environment) -> None:
    text = in_terminal(["main.py", "--python", environment.python], columns=70)
    assert "\x1b[1mwhole script needs\x1b[0m" in text
    plain = text.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert 60 < max(map(len, plain.splitlines())) <= 70


def in_terminal(arguments: list[str], columns: int) -> str:
    """Run the command on a terminal of its own and return what it printed there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-m", "envpack", "analyze", *arguments]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.STDOUT, env=environ)
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        printed = b""
        while True:
            try:
                chunk = terminal.read(4096)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            printed += chunk
    assert process.wait(60) == 0
    return printed.decode()


def test_a_name_longer_than_the_room_beside_its_row_goes_below() -> None:
    long = "x" * 31
    item = Distribution("p1", "4.6.50", "transitive", (long,), "wheel", (), 241_896_410_179, (), "")
    other = Distribution(long, "51.344", "transitive", ("p1",), "wheel", (), 1, (), "")
    functions = (FunctionDependencies("f", (), ("p1", long), (), (), ()),)
    text = render(Dependencies("x", "3.11.7", "p", functions, (item, other), (), (), ()), width=74)
    assert max(map(len, text.splitlines())) <= 74
    assert f"\n      required by {long}\n" in text


KINDS = get_args(EvidenceKind)
KIND = st.sampled_from(get_args(UnresolvedKind))
WORDS = st.lists(st.from_regex(r"[a-z]{1,12}", fullmatch=True), min_size=1, max_size=20).map(" ".join)
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,40}[a-z0-9]", fullmatch=True)
PLACES = st.builds(Evidence, st.just("/nowhere/main.py"), st.integers(0, 10**5), st.sampled_from(KINDS), NAMES)


@st.composite
def answers(draw: st.DrawFn) -> Dependencies:
    names = draw(st.lists(NAMES, max_size=8, unique=True))
    items = [
        Distribution(
            name=name,
            version=draw(st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,3}){0,2}", fullmatch=True)),
            role=draw(st.sampled_from(get_args(Role))),
            required_by=tuple(draw(st.lists(st.sampled_from(names), unique=True))),
            source="wheel",
            evidence=tuple(draw(st.lists(PLACES, max_size=3))),
            size_bytes=draw(st.integers(0, 10**13)),
            extras=tuple(draw(st.lists(NAMES, max_size=2))),
            url=draw(st.sampled_from(["", "https://example.org/a.whl"])),
        )
        for name in names
    ]
    functions = [
        FunctionDependencies(function, (), tuple(item.name for item in items), (), (), tuple(items[0].evidence))
        for function in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
        if items
    ]
    open_questions = tuple(draw(st.lists(st.builds(Unresolved, NAMES, st.just("/x.py"), st.just(1), KIND, WORDS))))
    return Dependencies("x", "3.11.7", "p", tuple(functions), tuple(items), (), (), open_questions)


@pytest.mark.slow
@settings(
    max_examples=times(40),
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],  # a busy machine is no defect
)
@given(answers(), st.integers(60, 200))
def test_any_answer_fits_and_survives_json(found: Dependencies, width: int) -> None:
    text = render(found, width=width)
    assert sorted(text.split()) == sorted(render(found, width=10_000).split())
    for line in text.splitlines():
        assert len(line) <= width, line
    assert Dependencies.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    for item in found.distributions:
        asked = Requirement(item.requirement)
        assert (asked.name, asked.url or "", asked.extras) == (item.name, item.url, set(item.extras))
