"""What an analysis has found so far: modules and where they are, distributions, local files, open questions.

`Findings` knows nothing of names and scopes; `Reach` walks the code and tells it what the code imports.
"""

from __future__ import annotations

import os

from envpack.discover.code.codefile import CodeFile
from envpack.discover.code.program import Program
from envpack.discover.dependencies import Evidence, Unresolved
from envpack.discover.environment.finder import Location
from envpack.discover.environment.metadata import InstalledDistribution
from envpack.discover.hidden.uses import Need, Uses
from envpack.errors import EnvpackError
from envpack.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envpack.discover.kinds import EvidenceKind, UnresolvedKind


@dataclass(frozen=True, slots=True)
class Finding:
    """One module that the code imports, where, how surely, and where the module is.

    Attributes:
        module: its name; the name of the distribution where the code asks for that (`importlib.metadata.version`).
        file: absolute path of the source file that imports it.
        line: line in it.
        kind: how sure it is.
        location: where the module is; without a module of its own for a distribution that is asked for by name.
    """

    module: str
    file: str
    line: int
    kind: EvidenceKind
    location: Location


class Findings:
    """Collects modules, distributions, local files, and what could not be decided.

    Args:
        program: the files.
    """

    def __init__(self, program: Program) -> None:
        self.findings: dict[Finding, None] = {}
        self.unresolved: dict[Unresolved, None] = {}
        self.local_files: dict[str, str] = {}
        self.local_evidence: dict[str, Evidence] = {}
        self._program = program
        self._uses = Uses()
        self._imported: set[str] = set()

    def add_file(self, file: CodeFile) -> None:
        """Count everything in a file."""
        raise NotImplementedError

    def add_module(self, module: str, file: str, line: int, kind: EvidenceKind) -> None:
        """Count a module: its distribution, or its file and its packages' and all that these reach."""
        location = self._attributable(module)
        is_new = module not in self._imported
        self._imported.add(module)
        if location.kind == "stdlib":
            return
        if location.kind == "missing":
            if kind != "optional" and module:
                self._missing(module, file, line, kind)
            return
        self.findings.setdefault(Finding(module, file, line, kind, location))
        for groups in self._uses.needs_of_import(module) if is_new else ():
            self._need(Need(groups, f"import {module}", file, line, kind == "static", kind == "optional"))
        parts = module.split(".")
        for length in range(1, len(parts) + 1):
            self._add_local(self._program.finder.find(".".join(parts[:length])), file, line)

    def add_distribution(self, distribution: InstalledDistribution, file: str, line: int, kind: EvidenceKind) -> None:
        """Count a distribution that the code asks for by its own name, or for what it provides."""
        location = Location("", "distribution", distribution=distribution)
        self.findings.setdefault(Finding(distribution.name, file, line, kind, location))

    def add_script(self, path: str, file: str, line: int, *, is_process: bool) -> None:
        """Count a local file that the program executes; one that runs in a process of its own sees its own folder."""
        if path in self.local_files:
            return
        folder = os.path.dirname(os.path.realpath(path))
        if is_process:
            self._program.finder.add_folder(folder, first=False)
        self._keep_local(path, folder, Evidence(file, line, "dynamic", os.path.basename(path)))
        try:
            self.add_file(self._program.script(path))
        except EnvpackError as error:
            self._undecided("", file, line, "source", f"cannot be read: {str(error).splitlines()[0]}")

    def add_observed_file(self, path: str, root: str, evidence: Evidence) -> None:
        """Count a local file that a run was seen to import."""
        if path not in self.local_files:
            self._keep_local(path, root, evidence)

    def add_unresolved(self, item: Unresolved) -> None:
        """Count something that could not be decided."""
        self.unresolved.setdefault(item)

    def _need(self, need: Need) -> None:
        """Count what a library imports: of the alternatives the first that is there."""
        for group in need.groups:
            if all(self._attributable(module).kind != "missing" for module in group):
                for module in group:
                    self.add_module(module, need.file, need.line, "optional" if need.is_optional else "hidden")
                return
        if not need.is_optional:
            either = " or ".join(" and ".join(group) for group in need.groups)
            hint = f"{need.by} imports {either}: install it in the analysed environment, or pass --exclude"
            kind: UnresolvedKind = "missing" if need.is_certain else "conditional"
            for module in need.groups[0]:
                if self._attributable(module).kind == "missing":
                    self._undecided(module, need.file, need.line, kind, f"{hint} {module.partition('.')[0]}")

    def _attributable(self, module: str) -> Location:
        """Return where a module is; one that a package makes at run time (`six.moves`) is where the package is."""
        location = self._program.finder.find(module)
        name = module
        while location.kind == "missing" and "." in name:
            name = name.rpartition(".")[0]
            above = self._program.finder.find(name)
            if above.kind == "distribution":
                return above
        return location

    def _importable(self, name: str) -> str:
        """Return the longest leading part of a dotted name that is a module (`rich.logging.RichHandler`)."""
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            if self._program.finder.find(".".join(parts[:length])).kind != "missing":
                return ".".join(parts[:length])
        return name

    def _add_local(self, location: Location, file: str, line: int) -> None:
        if location.kind != "local" or location.file in self.local_files:
            return
        self._keep_local(location.file, location.root, Evidence(file, line, "static", location.module))
        if not location.file.endswith(".py"):
            return
        try:
            self.add_file(self._program.module(location))
        except EnvpackError as error:
            self._undecided(location.module, file, line, "source", f"cannot be read: {str(error).splitlines()[0]}")

    def _keep_local(self, path: str, root: str, evidence: Evidence) -> None:
        self.local_files[path] = root
        self.local_evidence[path] = evidence

    def _missing(self, module: str, file: str, line: int, kind: EvidenceKind) -> None:
        top = module.partition(".")[0]
        hint = f"install it in the analysed environment, or settle it with --map {top}=DIST or --exclude {top}"
        self._undecided(module, file, line, "conditional" if kind == "conditional" else "missing", hint)

    def _undecided(self, module: str, file: str, line: int, kind: UnresolvedKind, hint: str) -> None:
        self.add_unresolved(Unresolved(module, file, line, kind, hint))
