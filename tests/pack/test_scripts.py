"""Console scripts: started from anywhere, by any name, in folders with spaces."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from envpack.pack.sources.scripts import relocatable

BODY = b"import sys\nprint(sys.executable, sys.argv[1:])\n"
LONG = b"#!/bin/sh\n'''exec' \"/some where/python3\" \"$0\" \"$@\"\n' '''\n" + BODY


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    folder = tmp_path / "an environment's folder" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    return folder


@pytest.mark.parametrize(
    "script",
    [
        b"#!/some/venv/bin/python\n" + BODY,
        b"#!/usr/bin/python3.11 -sE\n" + BODY,
        b"#! /usr/bin/env python3\n".replace(b"! ", b"!") + BODY,
        LONG,
    ],
)
def test_script_runs_with_the_python_beside_it(script: bytes, environment: Path) -> None:
    tool = environment / "tool"
    tool.write_bytes(relocatable(script))
    tool.chmod(0o755)
    link = environment.parent.parent / "link"
    link.symlink_to(tool)
    for command in ([str(tool)], [str(link)], ["./tool"]):
        done = subprocess.run(
            [*command, "a b", "c"], cwd=environment, capture_output=True, text=True, timeout=30, check=True
        )
        assert done.stdout.strip() == f"{os.path.realpath(environment)}/python ['a b', 'c']"


@pytest.mark.parametrize(
    "script", [b"", b"\x7fELF", b"#!/bin/sh\necho 1\n", b"#!/bin/bash\n'''exec' x\n' '''\n", b"#!"]
)
def test_what_is_no_python_script_stays_as_it_is(script: bytes) -> None:
    assert relocatable(script) == script


def test_rewriting_twice_changes_nothing() -> None:
    once = relocatable(b"#!/x/python\n" + BODY)
    assert relocatable(once) == once
