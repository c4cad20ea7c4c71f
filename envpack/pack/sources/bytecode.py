"""Bytecode of the modules in a layer: compiled at pack time, so that the first import in a read-only store is warm.

The files are unchecked-hash pycs (PEP 552): valid whatever the time stamps of their sources. Compiling is the costliest
part of packing, and most environments hold bytecode already. Such a file is taken over when Python itself would use it
and when it can be brought to the form that a fresh compilation has: only the path of the source in it differs, and that
is replaced by the path below site-packages.
What marshal writes differently from process to process is compiled afresh, in a child that is always the same. Both
ways were compared byte by byte over 4,000 modules of installed distributions and of the standard library of 3.12: none
differed. One that did would cost a layer of its own, no more. From Python 3.13 on marshal marks names by who else holds
them in the process, so nothing is taken over there.
"""

from __future__ import annotations

import _imp
import importlib.util
import os
import queue
import re
import struct
import subprocess
import sys
from typing import Any

from envpack.discover.environment.interpreter import Interpreter
from envpack.errors import InternalError

_HEADER_BYTES = 16
_MOST_KEPT_BYTES = 50_000_000
_TAKEN_OVER_BEFORE = (3, 13)
_UNCHECKED_HASH = 0b01

# What comes out differently in another process: whether two equal frozen sets are written once, which depends on the
# order of their items (sets of 1 to 255 items are looked for, and not the end of a name such as `f.<locals>.<lambda>`
# with the number of a line behind it), and whether a brace or a star as text of its own is interned. Chance hits cost a
# compilation and nothing else.
_OTHERWISE_INTERNED = (b"\xda\x01{", b"\xda\x01}", b"\xfa\x01*")
# Two expressions that begin with one byte each: such are searched many times faster than one with a set in front.
_FROZEN_SETS = (re.compile(rb">[\x01-\xff]\0\0\0", re.DOTALL), re.compile(rb"\xbe[\x01-\xff]\0\0\0", re.DOTALL))
_NAMES = (b"<lambda", b"<genexpr", b"<listcomp", b"<setcomp", b"<dictcomp", b"<module")

# The child imports nothing that lies in a file: names that a process holds get other marks, and it would hold others
# where modules have no bytecode yet. Nor must it matter what was compiled before: a module with several sets that may
# be equal is compiled in a fork, and the star is interned as `import *` of another module would have done it. The name
# is held in a variable while the code is written, as py_compile does, since marshal marks what is referenced from
# elsewhere.
_CHILD = r"""
import _frozen_importlib_external, _imp, marshal, posix, sys
magic = _frozen_importlib_external.MAGIC_NUMBER
sys.intern("*")
out = sys.stdout.buffer

def read(path):
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return b"\0"

def compiled(source, name):
    try:
        code = compile(source, name, "exec", dont_inherit=True, optimize=0)
        data = marshal.dumps(code)
        return magic + b"\1\0\0\0" + _imp.source_hash(int.from_bytes(magic, "little"), source) + data
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return b""

def answer(data):
    out.write(len(data).to_bytes(4, "little") + data)
    out.flush()

def answer_alone(source, name):
    fork = posix.fork()
    if not fork:
        answer(compiled(source, name))
        posix._exit(0)
    posix.waitpid(fork, 0)

out.write(magic)
out.flush()
for line in sys.stdin.buffer:
    path, name = (bytes.fromhex(word).decode("utf-8", "surrogateescape") for word in line.decode().split())
    source = read(path)
    if source.count(b"in {") + source.count(b"in{") > 1:
        answer_alone(source, name)
    else:
        answer(compiled(source, name))
"""


class BytecodeCompiler:
    """Gives the bytecode of source files for one interpreter; may be used by several threads at once.

    Args:
        interpreter: the interpreter that will import the modules.
    """

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._idle: queue.LifoQueue[_Child] = queue.LifoQueue()
        self._children: list[_Child] = []
        self._magic = b""
        # What was asked for ahead of the layer that it goes into.
        self._kept: dict[str, bytes] = {}
        self._kept_bytes = 0
        self._takes_over = interpreter.version_info < _TAKEN_OVER_BEFORE
        self.tag = f"{interpreter.implementation}-{''.join(interpreter.version.split('.')[:2])}"

    def __enter__(self) -> BytecodeCompiler:
        return self

    def __exit__(self, *exc: object) -> None:
        for child in self._children:
            child.close()

    def bytecode(self, source: str, name: str) -> bytes | None:
        """Return the content of a pyc file, or None where the source is no module of this Python.

        Args:
            source: path of the source file.
            name: its path below site-packages, which goes into the bytecode.
        """
        if (kept := self._kept.pop(source, None)) is not None:
            self._kept_bytes -= len(kept)
            return kept
        # What Python imports while it starts was written by a process that held fewer names than any other.
        taken = None if "/encodings/" in name else self._taken_over(source, name)
        return taken or self._compiled(source, name)

    def bytecode_ahead(self, source: str, name: str) -> bytes | None:
        """Return what `bytecode` will be asked for once more, and keep it until then as long as there is room."""
        made = self.bytecode(source, name)
        if made is not None and self._kept_bytes + len(made) <= _MOST_KEPT_BYTES:
            self._kept[source] = made
            self._kept_bytes += len(made)
        return made

    def _taken_over(self, source: str, name: str) -> bytes | None:
        if not self._takes_over:
            return None
        folder, _, base = source.rpartition("/")
        try:
            with open(f"{folder}/__pycache__/{base[:-3]}.{self.tag}.pyc", "rb", buffering=0) as stream:
                pyc = stream.read()
            status = os.stat(source)
        except OSError:
            return None
        stamp = struct.pack("<4sIII", self.magic, 0, int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
        if pyc[:_HEADER_BYTES] != stamp or _varies(pyc):
            return None
        renamed = _renamed(pyc, source, name)
        if renamed is None:
            return None
        with open(source, "rb", buffering=0) as stream:
            text = stream.read()
        key = int.from_bytes(self.magic, "little")
        digest: bytes = _imp.source_hash(key, text)
        return self.magic + struct.pack("<I", _UNCHECKED_HASH) + digest + renamed

    def _compiled(self, source: str, name: str) -> bytes | None:
        child = self._child()
        try:
            return child.compile(source, name) or None
        finally:
            self._idle.put(child)

    @property
    def magic(self) -> bytes:
        """The magic number of the interpreter's bytecode."""
        if not self._magic:
            running = ".".join(map(str, sys.version_info[:3])) == self._interpreter.version
            if running and sys.implementation.name == self._interpreter.implementation:
                self._magic = importlib.util.MAGIC_NUMBER
            else:
                child = self._child()
                self._magic = child.magic
                self._idle.put(child)
        return self._magic

    def _child(self) -> _Child:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            child = _Child(self._interpreter.executable)
            self._children.append(child)
            return child


def _varies(pyc: bytes) -> bool:
    """Tell whether another process might have written this bytecode differently."""
    if any(text in pyc for text in _OTHERWISE_INTERNED):
        return True
    found = [match.start() for kind in _FROZEN_SETS for match in kind.finditer(pyc, _HEADER_BYTES)]
    return sum(not pyc.endswith(_NAMES, 0, start) for start in found) > 1


def _renamed(pyc: bytes, source: str, name: str) -> bytes | None:
    """Return the code with another source path in it, or None where the path does not stand there exactly once."""
    old, new = source.encode(), name.encode()
    if len(old) > 255 or len(new) > 255 or not (source.isascii() and name.isascii()):
        return None
    if pyc.count(old) != 1:
        return None
    # Marshal writes the path once, as short ASCII text that is referred to later.
    kind = b"\xfa"
    written = kind + bytes([len(old)]) + old
    return pyc[_HEADER_BYTES:].replace(written, kind + bytes([len(new)]) + new) if written in pyc else None


class _Child:
    """The interpreter, compiling one file after the other; it ends when its input does."""

    def __init__(self, executable: str) -> None:
        # Not -I, which would leave the seed aside, too: the order of a set may decide how an equal one is written.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment["PYTHONHASHSEED"] = "0"
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [executable, "-s", "-S", "-B", "-W", "ignore", "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self.magic = self._read(4)

    def compile(self, source: str, name: str) -> bytes:
        assert self._process.stdin is not None
        words = (word.encode("utf-8", "surrogateescape").hex() for word in (source, name))
        self._process.stdin.write(" ".join(words).encode() + b"\n")
        self._process.stdin.flush()
        (size,) = struct.unpack("<I", self._read(4))
        return self._read(size)

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data: Any = self._process.stdout.read(size)
        if len(data) != size:
            raise InternalError(f"the compiling interpreter ended with exit code {self._process.wait()}")
        return bytes(data)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
