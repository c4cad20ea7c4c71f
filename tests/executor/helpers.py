"""Small tools of the executor's tests."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable
from pathlib import Path

MB = 1_000_000
ROOT = Path(__file__).resolve().parents[2]
GENEROUS_S = 40.0
"""A deadline for what takes less than a second on a machine that has nothing else to do."""


def wait_until(condition: Callable[[], bool], what: str | Callable[[], str], deadline_s: float = GENEROUS_S) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {deadline_s} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.005)


def are_gone(pids: Iterable[int]) -> bool:
    return not any(is_alive(pid) for pid in pids)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def descendants(pid: int) -> list[int]:
    """Return the children of a process, and theirs."""
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):
        return []
    children = [int(word) for text in lists for word in text.split()]
    return [*children, *(each for child in children for each in descendants(child))]


def words_of(pid: int) -> str:
    """Return the command line of a process; that it has ended, if so."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return "ended"


def environ() -> dict[str, str]:
    """The variables under which another Python finds this project and its tests."""
    paths = [ROOT, ROOT / "executor", ROOT / "monitor"]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONUNBUFFERED": "1"}


def start_script(folder: Path, source: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a client of its own; stdout is a pipe, stderr a file beside the script."""
    script = folder / "client.py"
    script.write_text(textwrap.dedent(source))
    with (folder / "client.err").open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-Werror", script, *arguments],
            env=environ(),
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=errors,
        )


def run_script(folder: Path, source: str, *arguments: str) -> str:
    """Run a client of its own and return what it prints; it must end with 0 and say nothing on stderr."""
    with start_script(folder, source, *arguments) as client:
        printed, _ = client.communicate(timeout=100)
    errors = (folder / "client.err").read_text()
    assert (client.returncode, errors) == (0, ""), f"{client.returncode}: {errors}"
    return printed
