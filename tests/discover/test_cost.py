"""What an analysis may cost: it loads nothing dear that it does not need, and reads little of a known environment."""

from __future__ import annotations

import subprocess
import sys

from tests.discover.conftest import Environment, Project

DEAR = ("dataclasses", "inspect", "packaging", "importlib.metadata", "pathlib", "urllib.parse", "json", "subprocess")


def test_analysis_in_a_known_environment_loads_no_dear_library(environment: Environment, project: Project) -> None:
    environment.install("top", files=("top.py",), requires=("low>=1; python_version > '3'",))
    environment.install("low", files=("low.py",))
    script = project({"main.py": "import top"})
    asked = f"from envpack import analyze; found = analyze({str(script)!r}, python={environment.python!r})"
    program = f"{asked}; import sys; print(len(found.distributions), *sys.modules)"
    for _ in range(20):
        # A folder that has just been written is not trusted yet: the answer is known a moment later.
        answer = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=60)
        count, *loaded = answer.stdout.split()
        assert count == "2", answer.stderr
        if not set(DEAR) & set(loaded):
            return
    raise AssertionError(sorted(set(DEAR) & set(loaded)))
