"""Runs a case in an environment of links and reports what its processes imported and opened."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from case import Case
from environment import Environment, Links

INSIDE = Path(__file__).parent / "inside"
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Observation:
    """One run: did it end well, what did it print, and by kind (see `inside/observer.py`) whose files it touched."""

    ok: bool
    output: str
    errors: str
    touched: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Normalized names by kind, in the order in which they were first met."""

    def of(self, *kinds: str) -> list[str]:
        """Return the distributions of `kinds`, in order."""
        return list(dict.fromkeys(name for kind in kinds for name in self.touched.get(kind, ())))


@dataclass(frozen=True, slots=True)
class Sent:
    """A function as it travels: the payload, and what its code names (see `inside/capture.py`)."""

    payload: Path
    named: tuple[str, ...]
    implied: tuple[str, ...]
    mentioned: tuple[str, ...]


class Bench:
    """Runs one case, in a copy of its folder that stays at one path: code that travels remembers its file."""

    def __init__(self, case: Case, environment: Environment, folder: Path) -> None:
        self.case, self.environment = case, environment
        self.project = Path(os.path.realpath(folder)) / "project"
        shutil.copytree(case.folder, self.project, ignore=shutil.ignore_patterns("*.toml"))
        self.notes = self.project.parent / "observed.txt"
        self.sent: Sent | None = None
        self.known: dict[frozenset[str], Observation] = {}
        self.pickler = self.project.parent / "pickler"
        self.pickler.mkdir()
        (self.pickler / "cloudpickle").symlink_to(environment.folder / "cloudpickle")

    def send(self) -> None:
        """Pickle the case's function in the whole environment.

        Raises:
            RuntimeError: The script does not load, or the function cannot be pickled.
        """
        payload, facts = self.project.parent / "function.pickle", self.project.parent / "facts.json"
        with self.environment.only(self.environment.distributions) as links:
            command = [links.python, INSIDE / "capture.py", self.project / self.case.script, self.case.function]
            outcome = self._run([*command, payload, facts], observed=False)
            if outcome.returncode:
                raise RuntimeError(f"{self.case.name}: function cannot be sent:\n{outcome.stderr[-2000:]}")
            found = json.loads(facts.read_text())
            whose = {kind: self._names(found[kind], links) for kind in ("named", "implied")}
        self.sent = Sent(payload, whose["named"], whose["implied"], tuple(found["mentioned"]))

    def observe(self, names: Collection[str]) -> Observation:
        """Run the case where only `names` are installed, once for the same names."""
        key = frozenset(self.environment.distributions).intersection(names)
        if key not in self.known:
            self.known[key] = self._observe(key)
        return self.known[key]

    def _observe(self, names: Collection[str]) -> Observation:
        self.notes.write_text("")
        with self.environment.only(names) as links:
            try:
                outcome = self._run(self._command(links), observed=True)
            except subprocess.TimeoutExpired as error:
                return Observation(False, "", str(error))
            lines = [line.split("\t", 1) for line in self.notes.read_text(errors="surrogateescape").splitlines()]
            kinds = dict.fromkeys(kind for kind, _ in lines)
            touched = {kind: self._names([path for each, path in lines if each == kind], links) for kind in kinds}
        return Observation(outcome.returncode == 0, outcome.stdout, outcome.stderr, touched)

    def _command(self, links: Links) -> list[str | Path]:
        case = self.case
        if self.sent:
            return [links.python, INSIDE / "worker.py", self.sent.payload, case.call, self.project, self.pickler]
        if case.module:
            return [links.python, "-m", case.module, *case.arguments]
        script = self.project / case.script
        if script.suffix == ".ipynb":
            return [links.python, INSIDE / "program.py", script]
        return [links.python, script, *case.arguments]

    def _run(self, command: list[str | Path], *, observed: bool) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environ = {**kept, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        if observed:
            environ |= {"OBSERVED": str(self.notes), "OBSERVED_PROJECT": str(self.project)}
        folder = (self.project / self.case.script).parent if self.case.script else self.project
        return subprocess.run(
            command,
            cwd=folder,
            env=environ,
            text=True,
            capture_output=True,
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )

    def _names(self, paths: list[str], links: Links) -> tuple[str, ...]:
        owners = (self.environment.owner(path, links.folder) for path in paths)
        return tuple(dict.fromkeys(name for name in owners if name))


@contextmanager
def bench(case: Case, environment: Environment, folder: Path) -> Iterator[Bench]:
    """Give a bench in `folder`, which is removed afterwards."""
    folder.mkdir(parents=True)
    try:
        yield Bench(case, environment, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
