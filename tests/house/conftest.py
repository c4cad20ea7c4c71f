"""Fixtures of the house: the command line as a user starts it, and a distribution that adds commands to it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Envpack = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parents[2]


@pytest.fixture
def envpack(tmp_path: Path) -> Envpack:
    """Run `envpack WORDS...` in an empty folder, with the folders of `path` added to the import path."""
    folder = tmp_path / "somewhere"
    folder.mkdir()

    def run(*words: str, path: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "COLUMNS": "200"}
        command = [sys.executable, "-m", "envpack", *words]
        return subprocess.run(command, cwd=folder, env=environ, text=True, capture_output=True, timeout=60)

    return run


THIRD_PARTY = '''
import sys
import click

class OverLimit(Exception):
    """An expected error of somebody else's package."""

    exit_code = 3

@click.command()
def over_limit():
    """Fail as expected."""
    raise OverLimit("memory limit exceeded: 1 MB allowed, 2 MB used")

@click.command()
def buggy():
    """Fail as nobody expected."""
    return {}["missing"]

@click.command()
@click.argument("lines", type=int)
def talk(lines):
    """Print many lines."""
    for number in range(lines):
        click.echo(f"line {number}")

@click.command()
def broken_socket():
    """Meet a broken pipe that is not stdout."""
    raise BrokenPipeError(32, "the worker is gone")

@click.command()
def analyze():
    """Pretend to be a command of envpack."""
'''

ENTRY_POINTS = """
[console_scripts]
unrelated = thirdparty:main

[envpack.commands]
# a comment
over-limit = thirdparty:over_limit
buggy=thirdparty:buggy
talk = thirdparty:talk [extra]
broken-socket = thirdparty:broken_socket
analyze = thirdparty:analyze
broken = thirdparty_is_not_there:command
wrong-type = thirdparty:OverLimit

[other.group]
not-ours = thirdparty:talk
"""


@pytest.fixture
def third_party(tmp_path: Path) -> Path:
    """A folder for the import path that holds a distribution with commands of its own, good ones and bad ones."""
    folder = tmp_path / "site"
    metadata = folder / "thirdparty-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    (folder / "thirdparty.py").write_text(THIRD_PARTY)
    return folder
