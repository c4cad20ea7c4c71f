"""Programs and commands that the documentation shows are run here as a reader would run them."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BLOCK = re.compile(
    r"^```(?P<language>python|console)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<body>.*?)^```$", re.M | re.S
)


Run = Callable[[list[str]], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def run(store: Path, tmp_path: Path) -> Run:
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ENVPACK_STORE": str(store),
        "ENVPACK_HISTORY": str(tmp_path / "history.sqlite"),
    }
    return lambda command: subprocess.run(
        command, cwd=tmp_path, env=environ, text=True, capture_output=True, timeout=100
    )


@pytest.mark.slow
def test_the_program_of_the_readme_runs(run, repository, tmp_path):
    (program,) = [
        match for match in BLOCK.finditer((repository / "README.md").read_text()) if match["language"] == "python"
    ]
    (tmp_path / "weigh.py").write_text(program["body"])
    outcome = run([sys.executable, "weigh.py"])

    assert outcome.returncode == 0, outcome.stderr
    assert float(outcome.stdout) == sum(factor * sum(range(1000)) for factor in range(100))


@pytest.mark.slow
def test_every_step_of_the_tutorial_works(run, repository, tmp_path):
    """Write each titled program to its file, run each line that begins with `$`, in the order of the page."""
    steps = 0
    for block in BLOCK.finditer((repository / "docs" / "tutorial.md").read_text()):
        if block["language"] == "python":
            (tmp_path / block["title"]).write_text(block["body"])
            continue
        for line in re.findall(r"^\$ (.+)$", block["body"], re.M):
            outcome = run(["bash", "-c", line])
            assert outcome.returncode == 0, f"$ {line}\n{outcome.stdout}{outcome.stderr}"
            steps += 1

    assert steps > 0
