"""What every subcommand may rely on: it is found, help is cheap, errors are one line, bugs are not hidden."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest


def declared_commands(repository: Path) -> set[str]:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    return set(project["entry-points"]["envpack.commands"])


def listed_commands(help_text: str) -> dict[str, str]:
    _, _, listing = help_text.partition("Commands:\n")
    words = (line.split(maxsplit=1) for line in listing.splitlines() if line[:3].strip())
    return {name: rest[0] if rest else "" for name, *rest in words}


def test_help_lists_every_declared_command_with_its_purpose(envpack, repository):
    outcome = envpack("--help")

    assert outcome.returncode == 0
    assert outcome.stderr == ""
    listed = listed_commands(outcome.stdout)
    assert set(listed) == declared_commands(repository)
    assert all(listed.values()), f"commands without a purpose: {listed}"
    assert "(broken:" not in outcome.stdout


def test_every_declared_command_shows_its_own_help(envpack, repository):
    for name in sorted(declared_commands(repository)):
        outcome = envpack(name, "--help")
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.stdout.startswith(f"Usage: envpack {name} "), outcome.stdout


def test_no_command_shows_help_and_is_wrong_usage(envpack):
    outcome = envpack()

    assert outcome.returncode == 2
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("Usage: envpack")


def test_version_is_that_of_the_distribution(envpack, repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]

    assert envpack("--version").stdout == f"envpack {project['version']}\n"


# What costs more to import than the whole of --help, and what a command may need but the list of commands does not.
HEAVY = {"asyncio", "concurrent.futures", "http", "importlib.metadata", "multiprocessing", "sqlite3", "ssl", "unittest"}


def test_help_imports_its_parser_and_nothing_heavy():
    program = "import runpy, sys\ntry: runpy.run_module('envpack', run_name='__main__', alter_sys=True)\n"
    program += "finally: print(*sys.modules, file=sys.stderr)"
    answer = subprocess.run(
        [sys.executable, "-I", "-c", program, "--help"], capture_output=True, text=True, check=True
    ).stderr.split()
    bare = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout.split()

    met = set(answer) - set(bare)
    foreign = {name.partition(".")[0] for name in met} - set(sys.stdlib_module_names)
    own = {"envpack", "envpack_executor", "envpack_monitor"}
    assert foreign == {"click", *own}
    assert not met & HEAVY
    rooms = {".".join(name.split(".")[:2]) for name in met if name.partition(".")[0] in own and "." in name}
    assert rooms == {f"{name}.commands" for name in own}


def test_unknown_command_is_wrong_usage_with_the_nearest_name(envpack):
    outcome = envpack("analyse", "script.py")

    assert outcome.returncode == 2
    assert outcome.stdout == ""
    assert outcome.stderr == (
        "envpack: error: no such command 'analyse': did you mean 'analyze'? (see 'envpack --help')\n"
    )


@pytest.mark.parametrize("words", [["--frobnicate"], ["analyze", "--frobnicate"], ["analyze"], ["store", "frobnicate"]])
def test_wrong_usage_is_one_line_that_names_the_help(envpack, words):
    outcome = envpack(*words)

    assert outcome.returncode == 2
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("envpack: error: ")
    assert outcome.stderr.count("\n") == 1
    assert "--help')" in outcome.stderr


def test_expected_error_is_one_line_and_its_exit_code(envpack, third_party):
    outcome = envpack("over-limit", path=(third_party,))

    assert outcome.returncode == 3
    assert outcome.stdout == ""
    assert outcome.stderr == "envpack: error: memory limit exceeded: 1 MB allowed, 2 MB used\n"


def test_bug_keeps_its_traceback(envpack, third_party):
    outcome = envpack("buggy", path=(third_party,))

    assert outcome.returncode == 1
    assert outcome.stderr.startswith("Traceback (most recent call last):")
    assert outcome.stderr.endswith("KeyError: 'missing'\n")


def test_broken_foreign_command_is_listed_with_its_error_and_spares_the_others(envpack, third_party, repository):
    outcome = envpack("--help", path=(third_party,))

    assert outcome.returncode == 0
    listed = listed_commands(outcome.stdout)
    assert declared_commands(repository) < set(listed)
    assert listed["talk"] == "Print many lines."
    assert "thirdparty_is_not_there:command: ModuleNotFoundError: No module named" in listed["broken"]
    assert "TypeError: entry point 'thirdparty:OverLimit'" in listed["wrong-type"]
    assert "not-ours" not in listed


def test_broken_foreign_command_that_is_called_shows_why(envpack, third_party):
    outcome = envpack("broken", path=(third_party,))

    assert outcome.returncode == 1
    assert outcome.stderr.endswith("ModuleNotFoundError: No module named 'thirdparty_is_not_there'\n")


def test_foreign_command_does_not_replace_one_of_ours(envpack, third_party):
    ours = envpack("analyze", "--help").stdout

    assert envpack("analyze", "--help", path=(third_party,)).stdout == ours
    assert "Pretend to be" not in ours


@pytest.mark.parametrize("lines", ["1", "100000"])
def test_reader_that_leaves_early_is_not_an_error(third_party, lines):
    environ = {**os.environ, "PYTHONPATH": str(third_party)}
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "envpack", "talk", lines]
    outcome = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environ, text=True, timeout=60)
    os.close(writing)

    assert outcome.stderr == ""
    assert outcome.returncode == 0


def test_broken_pipe_that_is_not_stdout_is_not_hidden(envpack, third_party):
    outcome = envpack("broken-socket", path=(third_party,))

    assert outcome.returncode == 1
    assert outcome.stderr.endswith("BrokenPipeError: [Errno 32] the worker is gone\n")
