"""Runs a program under the agent, in the asked interpreter or in a replica of its environment.

Nothing is left behind: the program gets a process group of its own, which is killed when the run ends in any way, and
all files lie in one temporary folder. Its output goes to our stderr, or nowhere; it reads nothing from stdin.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from envpack.discover.children import ending, run_child
from envpack.discover.tracing.events import Trace, read_trace
from envpack.errors import InterpreterError, SampleError

_KEPT_OUTPUT = 4000


@dataclass(frozen=True, slots=True)
class Program:
    """What is run.

    Attributes:
        words: the command line behind the interpreter.
        folder: working folder.
        target: what to call it in messages.
    """

    words: tuple[str, ...]
    folder: str
    target: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        exit_code: that of the process; negative for a signal.
        trace: what was noted.
        output: the end of what it printed, where that was kept.
    """

    exit_code: int
    trace: Trace
    output: str = field(repr=False, default="")

    @property
    def reason(self) -> str:
        """How it ended, in words: its last exception, or its exit code."""
        if self.exit_code > 0 and self.trace.failures:
            last = self.trace.failures[-1]
            return f"ended with {last.kind}: {last.text}".splitlines()[0]
        return ending(self.exit_code)


class Session:
    """A temporary folder with the agent, in which programs are run; a context manager.

    Args:
        watched: folders whose data files count when a program opens them.

    Attributes:
        folder: the temporary folder.
        own: the folder in it with everything that belongs to the way in which programs are run.
    """

    def __init__(self, watched: Iterable[str]) -> None:
        # Python's warnings skip frames of files with these two words in their path, as they skip its own importer.
        self.folder = tempfile.mkdtemp(prefix="envpack-importlib_bootstrap-")
        self.own = os.path.join(self.folder, "own")
        self._watched = sorted({os.path.abspath(folder) for folder in watched})
        self._runs = 0
        self._agent = os.path.join(self.own, "agent")
        os.makedirs(self._agent)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, name: str, content: str) -> str:
        """Write a file into the folder and return its path."""
        path = os.path.join(self.own, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        return path

    def runner(self, action: str, spec: Mapping[str, object]) -> tuple[str, ...]:
        """Return the words that make the runner do something."""
        program = self.write("runner.py", _source("envpack.discover.tracing.runner"))
        facts = {**spec, "cloudpickle": _package_folder("cloudpickle")}
        return program, action, self.write(f"{action}.json", json.dumps(facts))

    def run(
        self, python: str, program: Program, *, extra_watched: Sequence[str] = (), path: str | None = None, quiet: bool
    ) -> Outcome:
        """Run a program under the agent.

        Args:
            python: the interpreter.
            program: what to run.
            extra_watched: more folders whose data files count.
            path: replaces the user's PYTHONPATH.
            quiet: whether its output is kept for messages instead of shown on stderr.

        Raises:
            InterpreterError: the interpreter cannot be started.
        """
        self._runs += 1
        log = os.path.join(self.own, f"events-{self._runs}")
        watched = [*self._watched, *extra_watched]
        start = f"start({log!r}, {watched!r}, {self._agent!r})\n"
        self.write(os.path.join("agent", "sitecustomize.py"), _source("envpack.discover.tracing.agent") + start)
        environment = _environment(self._agent, path)
        output = os.path.join(self.own, f"output-{self._runs}")
        with open(output, "w+b") as kept:
            exit_code = _wait([python, *program.words], program.folder, environment, kept.fileno() if quiet else 2)
            end = kept.seek(0, os.SEEK_END)
            kept.seek(max(0, end - _KEPT_OUTPUT))
            text = kept.read().decode(errors="replace")
        return Outcome(exit_code, read_trace(log), text)

    def prepare_call(self, python: str, folder: str, spec: Mapping[str, object]) -> None:
        """Have the runner load a script and pickle a call; see `runner.load`.

        Raises:
            SampleError: the script, the function or the expression cannot be evaluated.
            InterpreterError: the interpreter cannot be started.
        """
        words = [python, *self.runner("load", spec)]
        output = os.path.join(self.own, "loading")
        with open(output, "w+b") as kept:
            exit_code = _wait(words, folder, _environment("", None), kept.fileno())
            kept.seek(0)
            lines = kept.read().decode(errors="replace").strip().splitlines()
        if exit_code:
            last = lines[-1] if lines else f"exit code {exit_code}"
            message = f"cannot prepare the sample call of {spec['function']!r} in {spec['script']!r}: {last}"
            raise SampleError(message, "the script must load, and the call must be valid there")


def _wait(words: Sequence[str], folder: str, environment: Mapping[str, str], output: int) -> int:
    try:
        return run_child(words, folder=folder, environment=environment, output=output, errors=output)
    except OSError as error:
        raise InterpreterError(f"cannot run interpreter {words[0]!r}: {error}", "name a Python interpreter") from error


def _environment(agent: str, path: str | None) -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONHOME", "PYTHONSTARTUP")}
    entries = [agent, path if path is not None else os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in entries if entry)
    if not environment["PYTHONPATH"]:
        del environment["PYTHONPATH"]
    if path is not None:
        environment.update(PYTHONNOUSERSITE="1", PYTHONDONTWRITEBYTECODE="1")
        environment.pop("VIRTUAL_ENV", None)
    return environment


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    with open(spec.origin, encoding="utf-8") as file:
        return file.read()


def _package_folder(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{name} is not installed", name=name)
    return os.path.dirname(spec.origin)


def user_path(without: Iterable[str]) -> str:
    """Return the user's PYTHONPATH without the folders that hold distributions."""
    hidden = {os.path.abspath(folder) for folder in without}
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if entry and os.path.abspath(entry) not in hidden)
