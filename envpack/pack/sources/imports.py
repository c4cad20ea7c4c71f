"""What importing a module imports: read from its bytecode, or from the strings of its machine code.

This file is also a program, so it needs nothing but the standard library: bytecode of another Python than the running
one is read by that Python, `python imports.py`, which answers frames (a length of four bytes, little endian, and the
pyc) with frames of JSON.

What stands inside functions is left out, since importing does not run it. Two kinds of module are special. One that
makes its submodules when they are asked for (a function `__getattr__`, PEP 562, or `lazy_loader`) says which those are;
whoever imports it decides by the names that it uses. And machine code that Cython made imports by names that lie among
its strings, which Cython 3.2 compresses by zlib.
"""

from __future__ import annotations

import json
import marshal
import opcode
import re
import sys
import zlib
from types import CodeType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    # How many dots stand before an imported module, the module, and the names that are taken from it.
    Statement = tuple[int, str, tuple[str, ...]]

_IMPORT = opcode.opmap["IMPORT_NAME"]
_EXTENDED = opcode.opmap["EXTENDED_ARG"]
_CONSTANT = opcode.opmap["LOAD_CONST"]
_SMALL_NUMBER = opcode.opmap.get("LOAD_SMALL_INT", -1)  # from Python 3.14 on
_NAMES = (opcode.opmap["LOAD_NAME"], opcode.opmap["LOAD_GLOBAL"])
_SKIPS = {code for name, code in opcode.opmap.items() if name.startswith("POP_JUMP") and name.endswith("IF_FALSE")}
_CONVERTS = [opcode.opmap[name] for name in ("TO_BOOL", "NOT_TAKEN") if name in opcode.opmap]
_IS_FUNCTION = 0x02  # CO_NEWLOCALS together with CO_OPTIMIZED, which class bodies lack
_IS_OPTIMIZED = 0x01

_HEADER_BYTES = 16
_DYNAMIC = {"__import__", "import_module"}
_LAZY = {"attach", "attach_stub"}
_MODULE_NAME = re.compile(r"\.?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_ZLIB_HEADS = (b"\x78\xda", b"\x78\x9c")
_MAX_TEXT_BYTES = 1 << 22
_MAX_NAME_BYTES = 100
_RUN = re.compile(rb"[A-Za-z0-9_.]{80,}")  # longer than any word of prose


class Imports:
    """What a module names.

    Attributes:
        modules: what is imported when it is imported.
        lazy: what it imports only when it is asked for a name; None where it is no such module.
        names: all names that it uses, attributes among them.
        texts: text at the level of the module that looks like the name of one.
    """

    def __init__(
        self, modules: list[Statement], lazy: list[Statement] | None, names: set[str], texts: set[str]
    ) -> None:
        self.modules = modules
        self.lazy = lazy
        self.names = names
        self.texts = texts


def imports_of(pyc: bytes) -> Imports:
    """Return what the module of a pyc file names; the file must be of the running Python.

    Raises:
        ValueError, EOFError, TypeError: it is damaged.
    """
    code = marshal.loads(pyc[_HEADER_BYTES:])
    found = _Reader()
    found.read(code)
    lazy = None
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and constant.co_name == "__getattr__":
            within = _Reader()
            within.read(constant, deep=True)
            lazy = within.modules
    if lazy is None and _LAZY & found.names:
        lazy = []
    return Imports(found.modules, lazy, found.names, found.texts)


class _Reader:
    """Collects what code objects name."""

    def __init__(self) -> None:
        self.modules: list[Statement] = []
        self.names: set[str] = set()
        self.texts: set[str] = set()

    def read(self, code: CodeType, deep: bool = False, runs: bool = True) -> None:
        """Read a code object and those in it.

        Args:
            code: the code.
            deep: whether what functions in it do counts, too.
            runs: whether it runs when the module is imported.
        """
        self.names.update(code.co_names)
        if runs:
            if _IMPORT in code.co_code[::2]:
                self._statements(code)
            self._texts(code)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                is_function = constant.co_flags & _IS_FUNCTION and constant.co_flags & _IS_OPTIMIZED
                self.read(constant, deep, runs and (deep or not is_function))

    def _statements(self, code: CodeType) -> None:
        operations, arguments = code.co_code[::2], code.co_code[1::2]
        skipped = _skipped(code) if "TYPE_CHECKING" in code.co_names else ()
        place = operations.find(_IMPORT)
        while place >= 0:
            if not any(place in some for some in skipped):
                name, before = _argument(operations, arguments, place)
                taken, before = _constant(code, operations, arguments, before)
                level, _ = _constant(code, operations, arguments, before)
                words = taken if isinstance(taken, tuple) else ()
                self.modules.append((level if isinstance(level, int) else 0, code.co_names[name], words))
            place = operations.find(_IMPORT, place + 1)

    def _texts(self, code: CodeType) -> None:
        is_dynamic = not _DYNAMIC.isdisjoint(code.co_names)
        for text in code.co_consts:
            if isinstance(text, str) and len(text) < _MAX_NAME_BYTES and _MODULE_NAME.fullmatch(text):
                if is_dynamic:
                    self.modules.append((1, text[1:], ()) if text[0] == "." else (0, text, ()))
                elif text[0] != ".":
                    self.texts.add(text)


def _argument(operations: bytes, arguments: bytes, place: int) -> tuple[int, int]:
    """Return the argument of an instruction, and the place before it and what extends it."""
    value, shift = arguments[place], 8
    place -= 1
    while place >= 0 and operations[place] == _EXTENDED:
        value |= arguments[place] << shift
        shift += 8
        place -= 1
    return value, place


def _constant(code: CodeType, operations: bytes, arguments: bytes, place: int) -> tuple[object, int]:
    """Return what the instruction at a place loads, if it is a constant, and the place before it."""
    if place < 0:
        return None, place
    value, before = _argument(operations, arguments, place)
    if operations[place] == _CONSTANT:
        return code.co_consts[value], before
    return (value if operations[place] == _SMALL_NUMBER else None), before


def _skipped(code: CodeType) -> list[range]:
    """Return the places of instructions that only a type checker takes as run."""
    operations, arguments = code.co_code[::2], code.co_code[1::2]
    found = []
    for place, operation in enumerate(operations):
        if operation not in _NAMES:
            continue
        number, _ = _argument(operations, arguments, place)
        number = number >> 1 if operation == _NAMES[1] else number
        if number >= len(code.co_names) or code.co_names[number] != "TYPE_CHECKING":
            continue
        jump = place + 1
        # 0 is the room that the interpreter keeps for its caches.
        while jump < len(operations) and operations[jump] in (0, _EXTENDED, *_CONVERTS):
            jump += 1
        if jump < len(operations) and operations[jump] in _SKIPS:
            length, _ = _argument(operations, arguments, jump)
            found.append(range(jump, jump + 1 + length))
    return found


def named_in(constants: bytes, tops: Iterable[str], known: Container[str]) -> set[str]:
    """Return the known modules that machine code imports by name, of those that have a dot in their names.

    Such a name is a text of its own, or stands among others, compressed, without anything between them: what begins
    with a module may go on with another word. Names in prose do neither.

    Args:
        constants: the constants of an ELF file.
        tops: the first parts of the names to look for.
        known: the modules that there are.
    """
    found = set()
    for top in tops:
        word = f"\0{top}.".encode()
        place = constants.find(word)
        while place >= 0:
            name = constants[place + 1 : constants.find(b"\0", place + 1)]
            if len(name) < _MAX_NAME_BYTES and name.isascii() and name.decode() in known:
                found.add(name.decode())
            place = constants.find(word, place + 1)
    for texts in _compressed(constants):
        for run in _RUN.findall(texts):
            for top in tops:
                found.update(_beginning_with(f"{top}.", run.decode(), known))
    return found


def _beginning_with(word: str, run: str, known: Container[str]) -> Iterator[str]:
    place = run.find(word)
    while place >= 0:
        text = run[place : place + _MAX_NAME_BYTES]
        yield from (text[:end] for end in range(len(word) + 1, len(text) + 1) if text[:end] in known)
        place = run.find(word, place + 1)


def _compressed(constants: bytes) -> Iterator[bytes]:
    view = memoryview(constants)
    for head in _ZLIB_HEADS:
        place = constants.find(head)
        while place >= 0:
            try:
                yield zlib.decompressobj().decompress(view[place : place + _MAX_TEXT_BYTES], _MAX_TEXT_BYTES)
            except zlib.error:
                pass  # two bytes that look like it
            place = constants.find(head, place + 2)


def _serve() -> None:
    while len(size := sys.stdin.buffer.read(4)) == 4:
        try:
            found = imports_of(sys.stdin.buffer.read(int.from_bytes(size, "little")))
            answer = [found.modules, found.lazy, sorted(found.names), sorted(found.texts)]
        except (ValueError, EOFError, TypeError):
            answer = [[], None, [], []]
        data = json.dumps(answer).encode()
        sys.stdout.buffer.write(len(data).to_bytes(4, "little") + data)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
