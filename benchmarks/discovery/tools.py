"""The tools that are compared: how each is asked about a case, and how its answer is read.

Each is used as its documentation says is best for the question "which distributions does this need": with the
interpreter or the metadata of the environment at hand, on the folder of the program where it looks at folders. Where
it prints modules, they are turned into distributions by what is installed: no tool loses for a name.

Tools that know no functions are asked about the whole file; that is how people use them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from case import Case
from environment import Environment, canonicalize_name

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
TIMEOUT_S = 300.0


class ToolFailed(Exception):
    """A tool gave no answer; the text is the end of what it said."""


class Said(NamedTuple):
    """What a command wrote."""

    output: str
    log: str


class Spent(threading.local):
    """CPU seconds of the commands that this thread has run."""

    cpu_s = 0.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What every tool gets: the environment that is asked about, the tools' own one, and an empty folder."""

    environment: Environment
    peers: Path
    """Folder of the tools' commands."""
    folder: Path
    spent: Spent = field(default_factory=Spent)

    def run(self, command: Sequence[str | Path], *, cwd: Path | None = None, path: Iterable[Path] = ()) -> Said:
        """Run a command and return what it said, whatever its exit code says.

        Raises:
            ToolFailed: It did not end in time.
        """
        environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        environ.pop("PYTHONPATH", None)
        if path:
            environ["PYTHONPATH"] = os.pathsep.join(map(str, path))
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(
                command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=log
            )
            watch = threading.Timer(TIMEOUT_S, process.kill)
            watch.start()
            _, status, usage = os.wait4(process.pid, 0)  # the only place that tells what one of several children used
            watch.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            self.spent.cpu_s += usage.ru_utime + usage.ru_stime
            for file in (output, log):
                file.seek(0)
            said = Said(output.read(), log.read())
        if process.returncode == -signal.SIGKILL:
            raise ToolFailed(f"killed, after {TIMEOUT_S:.0f} s at most")
        return said

    def project(self, case: Case) -> Path:
        """Return a copy of the case that declares all distributions of the environment: the unused can be told."""
        project = self.folder / f"project-{case.name}"
        if not project.exists():
            shutil.copytree(case.folder, project, ignore=shutil.ignore_patterns("case.toml", "truth.toml"))
            names = sorted(self.environment.distributions)
            text = f'[project]\nname = "case"\nversion = "0"\ndependencies = {json.dumps(names)}\n'
            (project / "pyproject.toml").write_text(text)
        return project


Tool = Callable[[Bench, Case], set[str]]


def last_json(text: str, errors: str) -> object:
    """Return the last line that is JSON."""
    for line in reversed(text.strip().splitlines()):
        if line.startswith(("[", "{")):
            return json.loads(line)
    raise ToolFailed((errors or text)[-500:])


def envpack_static(bench: Bench, case: Case, *options: str) -> set[str]:
    """`envpack analyze`; nothing of the case is executed."""
    target = ["-m", case.module] if case.module else [str(case.target)]
    function = ["--function", case.function] if case.function else []
    command = [Path(sys.executable).with_name("envpack"), "analyze", *target, *function]
    text, errors = bench.run(
        [*command, "--python", str(bench.environment.python), "--format", "json", *options], cwd=case.folder
    )
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise ToolFailed((errors or text)[-500:]) from error
    return {dist["name"] for dist in answer["distributions"] if dist["role"] in ("direct", "hidden")}


def envpack_traced(bench: Bench, case: Case) -> set[str]:
    """`envpack analyze --run`, or `--call` for a function: the program is run, or the function called."""
    if case.function:
        return envpack_static(bench, case, "--call", f"{case.function}(*{case.call})")
    return envpack_static(bench, case, "--run", "--", *case.arguments)


def envpack_live(bench: Bench, case: Case) -> set[str]:
    """`envpack.analyze(function)` in a process of the asked environment that has run the script."""
    packages = bench.folder / "envpack-only"
    packages.mkdir(exist_ok=True)
    link = packages / "envpack"
    if not link.is_symlink():
        link.symlink_to(REPOSITORY / "envpack")
    script = [HERE / "inside" / "ask_live.py", case.target, case.function]
    answer = last_json(*bench.run([bench.environment.python, *script], cwd=case.folder, path=[packages]))
    return set(map(str, answer))  # type: ignore[call-overload]


def deptry(bench: Bench, case: Case) -> set[str]:
    """deptry on the folder: what is declared and not reported as unused; it reads the environment's metadata."""
    project, report = bench.project(case), bench.folder / f"deptry-{case.name}.json"
    command = [bench.peers / "deptry", ".", "--json-output", report]
    _, errors = bench.run(command, cwd=project, path=[bench.environment.folder])
    if not report.exists():
        raise ToolFailed(errors[-500:])
    unused = {issue["module"] for issue in json.loads(report.read_text()) if issue["error"]["code"] == "DEP002"}
    return set(bench.environment.distributions) - {str(canonicalize_name(name)) for name in unused}


def fawltydeps(bench: Bench, case: Case) -> set[str]:
    """FawltyDeps on the folder: what is declared and not reported as unused; the environment is passed by `--pyenv`."""
    project = bench.project(case)
    sources = ["--code", project, "--base-dir", project, "--deps", project / "pyproject.toml"]
    command = [bench.peers / "fawltydeps", "--check-unused", "--json", "--pyenv", bench.environment.prefix, *sources]
    text, errors = bench.run(command, cwd=project)
    try:
        unused = json.loads(text)["unused_deps"]
    except ValueError as error:
        raise ToolFailed((errors or text)[-500:]) from error
    return set(bench.environment.distributions) - {str(canonicalize_name(dep["name"])) for dep in unused}


def pipreqs(bench: Bench, case: Case) -> set[str]:
    """pipreqs on the folder: the names that it would look up on PyPI, as far as they are distributions in use here."""
    project = bench.project(case)
    command = [
        bench.peers / "pipreqs",
        "--print",
        "--use-local",
        "--debug",
        "--scan-notebooks",
        "--mode",
        "no-pin",
        ".",
    ]
    text, log = bench.run(command, cwd=project, path=[bench.environment.folder])
    found = re.search(r"Found imports: (.*)", log)
    if not found:
        raise ToolFailed(log[-500:])
    names = [*found[1].split(", "), *text.split()]
    return {str(canonicalize_name(name)) for name in names if name} & set(bench.environment.distributions)


def modulefinder(bench: Bench, case: Case) -> set[str]:
    """The standard library's: modules that are imported and not the program's own, whose files we look up."""
    script = [HERE / "inside" / "ask_modulefinder.py", case.folder, case.script, case.module]
    text, errors = bench.run([bench.environment.python, *script], cwd=case.folder)
    files = last_json(text, errors)
    owners = (bench.environment.owner(str(file)) for file in files)  # type: ignore[attr-defined]
    return {name for name in owners if name}


TOOLS: dict[str, Tool] = {
    "envpack": envpack_static,
    "envpack, live": envpack_live,
    "envpack, run": envpack_traced,
    "deptry": deptry,
    "FawltyDeps": fawltydeps,
    "pipreqs": pipreqs,
    "modulefinder": modulefinder,
}
ONLY_FUNCTIONS = {"envpack, live"}


def versions(bench: Bench) -> dict[str, str]:
    """Return the version of each tool that is compared."""
    command = [bench.peers / "python", "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    text, errors = bench.run(command)
    installed = {entry["name"].lower(): entry["version"] for entry in last_json(text, errors)}  # type: ignore[attr-defined]
    peers = {name: installed.get(name.lower(), "") for name in ("deptry", "FawltyDeps", "pipreqs")}
    text, _ = bench.run([bench.environment.python, "-c", "import platform; print(platform.python_version())"])
    return {**peers, "modulefinder": f"of Python {text.strip()}"}
