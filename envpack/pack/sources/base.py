"""The interpreter of a machine as a layer: the program, the standard library without its tests, libraries of its own.

Python finds its standard library from where its program lies, so an interpreter can be moved if its shared libraries
can be found from there, too: a search path that names the installation is written as one relative to the file. What the
system has (`/lib`, `/usr/lib`) stays there; what nodes may lack of it is told like any missing library. Whether the
interpreter runs elsewhere is tried before it is packed, and refused with the reason if it does not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial

from envpack.discover.environment.interpreter import Interpreter
from envpack.errors import InterpreterNotMovableError
from envpack.pack.layer.writer import Source
from envpack.pack.sources.bytecode import BytecodeCompiler
from envpack.pack.sources.distributions import LayerFiles, bytecode_source, is_module
from envpack.pack.sources.elf import read_dynamic
from envpack.pack.sources.libraries import is_everywhere

_LEFT_OUT = frozenset({"__pycache__", "site-packages", "dist-packages", "test", "tests", "idle_test"})
# What is of the machine: who may install into it, and what is done when it starts.
_OF_THE_MACHINE = frozenset({"EXTERNALLY-MANAGED", "sitecustomize.py", "usercustomize.py"})
_SYSTEM_PREFIX = "/usr"
_TIMEOUT_S = 30.0
_PROBE = "import sys; print(sys.prefix); print(sys.exec_prefix); print(open('/proc/self/maps').read())"


def base_layer(interpreter: Interpreter) -> LayerFiles:
    """Return the layer of the interpreter that an environment stands on.

    Raises:
        InterpreterNotMovableError: it would not run elsewhere.
    """
    base = _Base(interpreter)
    files = base.files()
    _try_elsewhere(base, files)
    return LayerFiles(
        "interpreter",
        "python",
        interpreter.version,
        b"",
        tuple(sorted(files.items())),
        make=partial(_sources, base, files),
    )


class _Base:
    """An installation of Python.

    Attributes:
        prefix: its folder.
        program: path of the interpreter in an environment.
        library: path of the standard library in an environment.
    """

    def __init__(self, interpreter: Interpreter) -> None:
        version = ".".join(interpreter.version.split(".")[:2])
        self.prefix = interpreter.base_prefix.rstrip("/")
        self.executable = os.path.realpath(interpreter.base_executable)
        self.program = f"bin/python{version}"
        self.library = f"lib/python{version}"
        if interpreter.implementation != "cpython":
            raise self.refusal(f"it is {interpreter.implementation}, not cpython")
        if os.path.realpath(interpreter.stdlib) != os.path.realpath(f"{self.prefix}/{self.library}"):
            raise self.refusal(f"its standard library lies in {interpreter.stdlib!r}, not in {self.library!r} below it")
        if read_dynamic(self.executable) is None:
            raise self.refusal("its program is no ELF file")

    def refusal(self, reason: str) -> InterpreterNotMovableError:
        return InterpreterNotMovableError(
            f"interpreter {self.executable!r} cannot be packed: {reason}",
            "leave the interpreter out, or take a Python of conda or pyenv",
        )

    def files(self) -> dict[str, str]:
        """Return path in the environment and path on disk of everything."""
        found = {self.program: self.executable, **self._standard_library()}
        # What is needed by something, and then by that.
        pending = [path for path in found if path == self.program or path.endswith(".so")]
        while pending:
            for library in self._own_libraries(found[pending.pop()]):
                if f"lib/{library}" not in found:
                    found[f"lib/{library}"] = f"{self.prefix}/lib/{library}"
                    pending.append(f"lib/{library}")
        return found

    def _standard_library(self) -> dict[str, str]:
        top = f"{self.prefix}/{self.library}"
        found: dict[str, str] = {}
        for place, folders, names in os.walk(top):
            folders[:] = [name for name in folders if name not in _LEFT_OUT and not name.startswith("config-")]
            for name in names:
                file = os.path.join(place, name)
                if name not in _OF_THE_MACHINE and not name.endswith((".a", ".pyc")) and os.path.isfile(file):
                    found[f"{self.library}/{os.path.relpath(file, top)}"] = file
        return found

    def _own_libraries(self, file: str) -> Iterator[str]:
        dynamic = read_dynamic(file)
        for library in dynamic.needed if dynamic is not None else ():
            is_own = self.prefix != _SYSTEM_PREFIX and os.path.isfile(f"{self.prefix}/lib/{library}")
            if library.startswith("libpython") and not is_own:
                raise self.refusal(f"it needs {library!r}, which does not lie in its own {self.prefix}/lib")
            if is_own and not is_everywhere(library):
                yield library

    def edits(self, path: str, file: str) -> list[tuple[int, bytes]]:
        """Return what makes a file find its libraries from where it lies: places in the file and the bytes there.

        Raises:
            InterpreterNotMovableError: there is no room for that in the file.
        """
        dynamic = read_dynamic(file)
        own = f"{self.prefix}/lib"
        found = []
        for offset, folders in dynamic.search if dynamic is not None else ():
            if own not in folders.split(":"):
                continue
            relative = f"$ORIGIN/{os.path.relpath('lib', os.path.dirname(path))}"
            text = ":".join(relative if folder == own else folder for folder in folders.split(":"))
            room, written = len(os.fsencode(folders)), os.fsencode(text)
            if len(written) > room:
                raise self.refusal(f"{file!r} looks for libraries in {folders!r}, which leaves no room for {text!r}")
            # No more than needed: a linker lets a symbol such as `b` be the end of a text such as `/opt/lib`.
            found.append((offset, written + b"\0" if len(written) < room else written))
        return found

    def moved(self, path: str, file: str) -> bytes:
        """Return the content of a file with its edits."""
        with open(file, "rb") as stream:
            content = bytearray(stream.read())
        for offset, written in self.edits(path, file):
            content[offset : offset + len(written)] = written
        return bytes(content)


def _sources(base: _Base, files: Mapping[str, str], compiler: BytecodeCompiler) -> Iterator[Source]:
    for path, file in files.items():
        is_code = path == base.program or ".so" in os.path.basename(path)
        if is_code and base.edits(path, file):
            executable = bool(os.stat(file).st_mode & 0o100)
            yield Source(path, make=partial(base.moved, path, file), executable=executable)
            continue
        yield Source(path, file, follow=True)
        if is_module(path):
            yield bytecode_source(path, file, compiler)
    name = os.path.basename(base.program)
    yield Source("bin/python3", target=name)
    yield Source("bin/python", target=name)
    if _wants_dist_packages(files.get(f"{base.library}/site.py", "")):
        yield Source(f"{base.library}/dist-packages", target="site-packages")


def _wants_dist_packages(site: str) -> bool:
    """Tell whether a Python looks for distributions elsewhere than others do, as Debian's."""
    if not site:
        return False
    with open(site, "rb") as stream:
        return b"dist-packages" in stream.read()


def _try_elsewhere(base: _Base, files: Mapping[str, str]) -> None:
    """Run the program from another folder, which has its own libraries and a link to the standard library.

    Raises:
        InterpreterNotMovableError: it does not run, or still takes something from where it was.
    """
    with tempfile.TemporaryDirectory(prefix="envpack-") as folder:
        place = os.path.realpath(folder)
        for name in ("bin", "lib"):
            os.mkdir(os.path.join(place, name))
        os.symlink(f"{base.prefix}/{base.library}", os.path.join(place, base.library))
        for path, file in files.items():
            if not path.startswith(f"{base.library}/"):
                with open(os.path.join(place, path), "wb") as out:
                    out.write(base.moved(path, file))
                shutil.copymode(file, os.path.join(place, path))
        try:
            done = subprocess.run(
                [os.path.join(place, base.program), "-I", "-S", "-c", _PROBE],
                env={},
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise base.refusal(f"it does not run from another folder: {error}") from error
        prefix, exec_prefix, *mapped = [*done.stdout.splitlines(), "", ""]
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise base.refusal(f"it does not run from another folder: {said}")
        if (prefix, exec_prefix) != (place, place):
            raise base.refusal(f"it takes its standard library from {prefix!r} and {exec_prefix!r} wherever it lies")
        if base.prefix != _SYSTEM_PREFIX and any(f" {base.prefix}/lib/lib" in line for line in mapped):
            raise base.refusal(f"it loads libraries from {base.prefix}/lib wherever it lies")
