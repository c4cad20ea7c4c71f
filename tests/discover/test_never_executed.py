"""Analysis looks at programs and runs nothing of them: an audit hook in the analysing process would see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.discover.programs import Maker

EFFECTS = """\
import os, pathlib, socket, subprocess, sys
import helper
from helper import *
pathlib.Path(__file__).with_name("written").touch()
subprocess.run([sys.executable, "-c", "open('spawned', 'w').close()"])
os.system("touch shelled")
exec("open('executed', 'w').close()")
socket.socket().close()
class Made(metaclass=lambda *words: os.mkdir("made")): pass
@print
def decorated(default=__import__("yaml")): return helper
"""

# Runs in a process of its own, as a hook cannot be taken off again. What analysis itself loads is loaded before.
WITNESS = """\
import json, os, runpy, sys
from envpack import analyze
from envpack.errors import EnvpackError

how, folder = sys.argv[1:]
programs = sorted(name for name in os.listdir(folder) if name.startswith("program"))
USERS = ("helper", "main", "numpy", "scipy", "yaml", "nowhere", "program")
ACTS = ("subprocess.", "socket.", "pty.", "ctypes.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork")
seen = []

def hook(event, words):
    if event == "exec" and words[0].co_filename.startswith((folder, "<string>")):
        seen.append([event, words[0].co_filename])
    elif event == "import" and words[0].partition(".")[0] in USERS:
        seen.append([event, words[0]])
    elif event.startswith(ACTS):
        seen.append([event, repr(words)[:200]])
    elif event == "open" and words[2] & (os.O_WRONLY | os.O_RDWR) and is_inside(words[0]):
        seen.append([event, str(words[0])])
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.chdir") and is_inside(words[0]):
        seen.append([event, str(words[0])])

def is_inside(path):
    return isinstance(path, str) and os.path.abspath(path).startswith(folder)

def look(target):
    try:
        analyze(target)
    except EnvpackError as error:
        assert error.exit_code, target

os.chdir(folder)
look(os.path.join(folder, programs[0]))
sys.addaudithook(hook)
if how == "run":
    sys.path.insert(0, folder)
    runpy.run_path(os.path.join(folder, "program.py"))
else:
    for name in programs:
        path = os.path.join(folder, name)
        look(path)
        look(path + ":decorated")
        look("-m " + name[:-3])
print(json.dumps(seen))
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "helper.py").write_text("open('helped', 'w').close()\n")
    (folder / "program.py").write_text(EFFECTS)
    for seed in range(25):
        source = Maker(Random(seed)).program(6)
        (folder / f"program{seed}.py").write_text(f"{EFFECTS}{source}\n")
    return folder


def witnessed(how: str, folder: Path) -> list[list[str]]:
    environ = {**os.environ, "ENVPACK_INDEX_CACHE": str(folder.parent / "cache")}
    command = [sys.executable, "-c", WITNESS, how, str(folder)]
    done = subprocess.run(command, cwd=folder.parent, env=environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_nothing_of_a_program_is_executed_imported_started_or_written(programs: Path) -> None:
    before = sorted(programs.rglob("*"))
    assert witnessed("analyse", programs) == []
    assert sorted(programs.rglob("*")) == before


def test_what_a_program_does_when_it_runs_is_seen(programs: Path) -> None:
    events = {event for event, _ in witnessed("run", programs)}
    assert {"exec", "import", "open", "os.mkdir", "os.system", "socket.__new__", "subprocess.Popen"} <= events
    assert (programs / "written").exists()
