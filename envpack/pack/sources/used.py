"""Which modules of an environment are imported when some are: those whose bytecode is worth carrying.

Nothing is executed. From the modules that the user's code names, what each imports while it is imported is followed
through the distributions of the pack. Too many cost some bytes, and one that is missed is compiled by who imports it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from envpack.discover.environment.interpreter import Interpreter
from envpack.pack.sources import imports
from envpack.pack.sources.bytecode import BytecodeCompiler
from envpack.pack.sources.distributions import below_site
from envpack.pack.sources.elf import read_only_data
from envpack.pack.sources.imports import Imports, imports_of, named_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envpack.pack.sources.imports import Statement

_ATTRIBUTE = re.compile(rb"\.\s*([A-Za-z_]\w*)")
_EXTENSIONS = (".so", ".pyd")


def attributes(files: Iterable[str]) -> set[str]:
    """Return all names that stand behind a dot in some source files; what cannot be read has none."""
    found: set[bytes] = set()
    for file in files:
        try:
            found.update(_ATTRIBUTE.findall(Path(file).read_bytes()))
        except OSError:
            continue  # a function that was typed into an interactive session has no file
    return {name.decode() for name in found}


def modules_of(files: Iterable[tuple[str, str]], site: str) -> dict[str, tuple[str, str]]:
    """Return path in the environment and path on disk of each module.

    Args:
        files: path in the environment and path on disk.
        site: the folder in the environment that modules lie in.
    """
    found: dict[str, tuple[str, str]] = {}
    start = len(site) + 1
    for path, file in files:
        if not path.startswith(site):
            continue
        if path.endswith(".py"):
            name = path[start:-3].replace("/", ".")
            found[name.removesuffix(".__init__")] = (path, file)
        elif path.endswith(_EXTENSIONS):
            folder, _, base = path[start:].rpartition("/")
            name = base.partition(".")[0]
            found.setdefault(f"{folder.replace('/', '.')}.{name}" if folder else name, (path, file))
    return found


class UsedModules:
    """Follows imports through an environment.

    Args:
        modules: what `modules_of` gave.
        compiler: gives their bytecode.
        interpreter: the interpreter that will import them.
    """

    def __init__(
        self, modules: Mapping[str, tuple[str, str]], compiler: BytecodeCompiler, interpreter: Interpreter
    ) -> None:
        self._modules = modules
        self._compiler = compiler
        self._interpreter = interpreter
        self._tops = sorted({name.partition(".")[0] for name in modules})
        self._used: set[str] = set()
        self._open: list[str] = []
        # Of packages that make their submodules when they are asked for: what those are.
        self._lazy: dict[str, list[str]] = {}
        self._names: dict[str, set[str]] = {}
        self._mentions: dict[str, set[str]] = {}
        self._taken_whole: set[str] = set()

    def follow(self, roots: Iterable[str], names: set[str]) -> set[str]:
        """Return the modules that are imported when some are.

        Args:
            roots: modules that the user's code imports.
            names: names that stand behind a dot there: they may ask a package for a submodule.
        """
        with _Scanner(self._interpreter) as scanner:
            self._open = list(roots)
            while self._open:
                while self._open:
                    self._take(self._open.pop(), scanner)
                self._open = sorted(self._asked_for(names) - self._used)
        return self._used

    def _take(self, name: str, scanner: _Scanner) -> None:
        if name in self._used:
            return
        parent = name.rpartition(".")[0]
        if parent:
            self._open.append(parent)
        place = self._modules.get(name)
        if place is None:
            return
        target, file = place
        self._used.add(name)
        if file.endswith(_EXTENSIONS):
            self._open += named_in(read_only_data(file), self._tops, self._modules)
            return
        pyc = self._compiler.bytecode_ahead(file, below_site(target))
        if pyc is None:
            return
        found = scanner.read(pyc)
        package = name if os.path.basename(file) == "__init__.py" else parent
        imported = list(self._absolute(found.modules, package))
        self._open += imported
        if found.lazy is not None:
            self._lazy[name] = list(self._absolute(found.lazy, package))
        self._names[name] = found.names
        self._mentions[name] = {*imported, *(text for text in found.texts if text in self._modules)}
        whole = (statement for statement in found.modules if "*" in statement[2])
        self._taken_whole.update(self._absolute(whole, package))
        # A package that is named by a text may be copied attribute by attribute.
        self._taken_whole.update(text for text in found.texts if text in self._modules and "." not in text)

    def _asked_for(self, names: set[str]) -> set[str]:
        """Return the submodules that packages make because somebody uses their names."""
        found: set[str] = set()
        for package, modules in self._lazy.items():
            if package in self._taken_whole:
                found.update(one for one in modules if one in self._modules)
            users = [self._names[user] for user, mentioned in self._mentions.items() if package in mentioned]
            asked = names.union(*users)
            found.update(one for name in asked if (one := f"{package}.{name}") in self._modules)
        return found

    def _absolute(self, statements: Iterable[Statement], package: str) -> Iterable[str]:
        for level, name, taken in statements:
            full = name
            if level:
                parts = package.split(".")
                base = ".".join(parts[: len(parts) - level + 1])
                full = f"{base}.{name}" if name else base
            yield full
            yield from (f"{full}.{one}" for one in taken if f"{full}.{one}" in self._modules)


class _Scanner:
    """Reads what bytecode imports, here if it is of this Python, else in that Python."""

    def __init__(self, interpreter: Interpreter) -> None:
        running = ".".join(map(str, sys.version_info[:3]))
        self._is_own = (running, sys.implementation.name) == (interpreter.version, interpreter.implementation)
        self._executable = interpreter.executable
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Scanner:
        if not self._is_own:
            command = [self._executable, "-I", "-S", "-B", imports.__file__]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None:
            self._process.communicate()

    def read(self, pyc: bytes) -> Imports:
        """Return what a module names; nothing where its bytecode cannot be read."""
        if self._process is None:
            try:
                return imports_of(pyc)
            except (ValueError, EOFError, TypeError):
                return Imports([], None, set(), set())
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(len(pyc).to_bytes(4, "little") + pyc)
        self._process.stdin.flush()
        size = int.from_bytes(self._process.stdout.read(4), "little")
        modules, lazy, names, texts = json.loads(self._process.stdout.read(size) or b"[[], null, [], []]")
        return Imports(modules, lazy, set(names), set(texts))
