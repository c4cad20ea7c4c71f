"""Programs and commands that the documentation shows are run here as a reader would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = re.compile(
    r"^```(?P<language>python|console)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<body>.*?)^```$", re.M | re.S
)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ENVPACK_STORE": str(folder / "store"),
        "ENVPACK_HISTORY": str(folder / "history.sqlite"),
    }
    return subprocess.run(command, cwd=folder, env=environ, text=True, capture_output=True, timeout=100)


@pytest.mark.slow
def test_the_program_of_the_readme_runs(repository, tmp_path):
    (program,) = [
        match for match in BLOCK.finditer((repository / "README.md").read_text()) if match["language"] == "python"
    ]
    (tmp_path / "weigh.py").write_text(program["body"])
    outcome = run([sys.executable, "weigh.py"], tmp_path)

    assert outcome.returncode == 0, outcome.stderr
    assert float(outcome.stdout) == sum(factor * sum(range(1000)) for factor in range(100))


@pytest.mark.slow
def test_every_step_of_the_tutorial_works(repository, tmp_path):
    """Write each titled program to its file, run each line that begins with `$`, in the order of the page."""
    steps = 0
    for block in BLOCK.finditer((repository / "docs" / "tutorial.md").read_text()):
        if block["language"] == "python":
            (tmp_path / block["title"]).write_text(block["body"])
            continue
        for line in re.findall(r"^\$ (.+)$", block["body"], re.M):
            outcome = run(["bash", "-c", line], tmp_path)
            assert outcome.returncode == 0, f"$ {line}\n{outcome.stdout}{outcome.stderr}"
            steps += 1

    assert steps > 0
