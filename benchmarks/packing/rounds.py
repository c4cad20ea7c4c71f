"""What the benchmarks of packing share: an environment to pack, subjects that take turns, and the table of figures.

CPU time is that of a process and of all its children; processes of one round run one after the other, and each round
runs them all, so that what else the machine does falls on all of them alike. Ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

PINNED = ("numpy==2.4.6", "scipy==1.17.1")
PEERS = Path(__file__).parent / "peers.txt"

SCRIPT = """
import numpy
import scipy.optimize

print(scipy.optimize.brentq(lambda x: x * x - 2, 0, 2))
"""


@dataclass
class Subject:
    """One thing that is measured.

    Attributes:
        name: what is printed.
        run: does it once and returns the CPU seconds.
        before: is called before each run, unmeasured.
        size: gives the bytes of what it made; none for what makes nothing.
        cpu_s: what each run cost.
        size_bytes: what the last run made.
    """

    name: str
    run: Callable[[], float]
    before: Callable[[], object] = lambda: None
    size: Callable[[], int] | None = None
    cpu_s: list[float] = field(default_factory=list)
    size_bytes: int = 0


def options(text: str, rounds: int) -> argparse.Namespace:
    """Return what was asked for; `--quick` means two rounds and no peers from an index."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--quick", action="store_true", help="two rounds, nothing that has to be installed for it")
    parser.add_argument("--python", help="interpreter of an environment with NumPy and SciPy; by default one is made")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args()
    chosen.rounds = 2 if chosen.quick else chosen.rounds
    return chosen


@contextmanager
def work() -> Iterator[Path]:
    """Give a folder that goes at the end, read-only stores in it included."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            yield Path(folder)
        finally:
            subprocess.run(["chmod", "-R", "u+w", folder], check=False)


def make_environment(folder: Path, packages: Sequence[str] = PINNED) -> str:
    """Install packages into a new environment and return its interpreter."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "-q", *packages]
    subprocess.run(pip, check=True, stdout=sys.stderr)
    return python


def site_packages(python: str) -> Path:
    """Return where an interpreter has its packages."""
    command = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def process(command: Sequence[str | Path], **environ: str) -> float:
    """Run a process to its end and return the CPU seconds of it and its children.

    Raises:
        RuntimeError: it failed; its words are part of the message.
    """
    with TemporaryDirectory() as folder:
        words = Path(folder, "words")
        with words.open("wb") as out:
            kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
            child = subprocess.Popen(command, env={**kept, **environ}, stdout=out, stderr=out)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise RuntimeError(f"exit code {child.returncode}: {command}\n{words.read_text()[-2000:]}")
    return usage.ru_utime + usage.ru_stime


def take_turns(subjects: Sequence[Subject], rounds: int) -> None:
    """Measure all subjects in each round."""
    for _ in range(rounds):
        for subject in subjects:
            subject.before()
            subject.cpu_s.append(subject.run())
            subject.size_bytes = subject.size() if subject.size is not None else 0


def show(title: str, subjects: Sequence[Subject], as_json: bool, ours: int = 0) -> None:
    """Print what each cost, what it made, and how many times as much as the one of ours that was."""
    if as_json:
        figures = {one.name: {"cpu_s": one.cpu_s, "size_bytes": one.size_bytes} for one in subjects}
        print(json.dumps({"title": title, "load": os.getloadavg()[0], "figures": figures}))
        return
    print(f"{title}\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {len(subjects[0].cpu_s)} rounds in turn\n")
    for one in subjects:
        ratios = [theirs / mine for theirs, mine in zip(one.cpu_s, subjects[ours].cpu_s, strict=True)]
        spread = f"{statistics.median(ratios):>6.2f} times ours ({min(ratios):.2f} to {max(ratios):.2f})"
        size = f"{one.size_bytes / 1e6:>8.1f} MB" if one.size_bytes else " " * 11
        print(f"  {one.name:<44} {statistics.median(one.cpu_s):>8.3f} CPU-s {size}  {spread}")
