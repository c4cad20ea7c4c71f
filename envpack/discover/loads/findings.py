"""What each kind of load means for an answer: `Findings` for what calls load by name, path or command."""

from __future__ import annotations

import os

from envpack.discover.code import syntax as ast
from envpack.discover.code.codefile import CodeFile
from envpack.discover.environment.closure import closure
from envpack.discover.findings import Findings
from envpack.discover.loads.installed import owner_of_command, providers
from envpack.discover.loads.values import Load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envpack.discover.kinds import EvidenceKind

# Where pickled objects come from that every interpreter has.
_EVERYWHERE = frozenset({"__main__", "builtins", "__builtin__", "copy_reg", "copyreg"})


class LoadFindings(Findings):
    """Counts what calls load."""

    def add_load(self, load: Load, file: CodeFile, node: ast.expr, kind: EvidenceKind) -> None:
        """Count one thing that an expression of a file loads."""
        path, line, name = file.path, node.lineno, load.name
        match load.kind:
            case "module":
                self.add_module(self._importable(name), path, line, kind)
            case "program":
                self._add_program(name, path, line, kind)
            case "distribution":
                self._add_named(name, path, line, kind)
            case "provider":
                for distribution in providers(self._program.finder.index, name):
                    self.add_distribution(distribution, path, line, kind)
            case "command" | "lookup":
                self._add_command(name, path, line, "optional" if load.kind == "lookup" else kind)
            case "file" | "script":
                self.add_script(name, path, line, is_process=load.kind == "script")
            case "pickle":
                self._add_pickle(name, path, line, kind)
            case "question":
                if kind != "optional":
                    self._undecided("", path, line, "dynamic", name)

    def _add_program(self, module: str, file: str, line: int, kind: EvidenceKind) -> None:
        """Count what `python -m` runs: of a package also its `__main__`."""
        self.add_module(self._importable(module), file, line, kind)
        if self._program.finder.find(f"{module}.__main__").kind == "local":
            self.add_module(f"{module}.__main__", file, line, kind)

    def _add_named(self, name: str, file: str, line: int, kind: EvidenceKind) -> None:
        distribution = self._program.finder.index.get(name)
        if distribution is not None:
            self.add_distribution(distribution, file, line, kind)
        # The program may ask for its own version without being installed.
        elif kind != "optional" and self._program.finder.find(name.replace("-", "_")).kind != "local":
            self._missing(name, file, line, kind)

    def _add_command(self, command: str, file: str, line: int, kind: EvidenceKind) -> None:
        finder = self._program.finder
        scripts = os.path.dirname(finder.interpreter.executable)
        if command and os.sep not in command:
            owner = owner_of_command(finder.index, scripts, command)
            if owner is not None:
                self.add_distribution(owner, file, line, kind)

    def _outermost(self, modules: list[str]) -> list[str]:
        """Leave out modules of what the others require anyway: the arrays of a model do not ask for numpy."""
        finder = self._program.finder
        owners = {module: self._attributable(module).distribution for module in modules}
        names = {owner.name for owner in owners.values() if owner is not None}
        markers = dict(finder.interpreter.markers)
        implied = {
            required
            for name in names
            for required in closure(finder.index, [name], markers).names
            if required != name and name not in closure(finder.index, [required], markers).names
        }
        return [module for module in modules if (owner := owners[module]) is None or owner.name not in implied]

    def _add_pickle(self, path: str, file: str, line: int, kind: EvidenceKind) -> None:
        if not os.path.isfile(path):
            if kind != "optional":
                hint = f"pickled objects in {path!r}, which is not there: name what they need with --include DIST"
                self._undecided("", file, line, "dynamic", hint)
            return
        from envpack.discover.loads.picklefile import pickled_modules

        content = pickled_modules(path)
        modules = [self._importable(module) for module in content.modules if module not in _EVERYWHERE]
        for module in self._outermost(modules):
            self.add_module(module, file, line, kind)
        if content.problem and kind != "optional":
            hint = f"{os.path.basename(path)}: {content.problem}: name what its objects need with --include DIST"
            self._undecided("", file, line, "source", hint)
