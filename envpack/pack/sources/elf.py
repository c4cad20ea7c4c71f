"""What a file of machine code says: the shared libraries that it asks for, and its texts. ELF, read and nothing else.

Both word sizes and both byte orders (System V ABI, chapter 5). Files that are no ELF, are cut short or contradict
themselves have nothing to say; nothing in them can make more be read than their tables of fixed size.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

_MAGIC = b"\x7fELF"
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRING_TABLE, _STRING_BYTES, _SONAME, _RPATH, _RUNPATH = 1, 5, 10, 14, 15, 29
_MAX_HEADERS = 4096
_MAX_DYNAMIC_BYTES = 1 << 20
_MAX_STRING_BYTES = 1 << 26
_READ_ONLY = b".rodata\0"


@dataclass(frozen=True, slots=True)
class Dynamic:
    """What a file says to the dynamic loader.

    Attributes:
        needed: names of the libraries that it is linked with.
        soname: the name that it goes by itself; empty where it has none.
        search: the lists of folders in which its libraries are looked for, each with its place in the file.
    """

    needed: tuple[str, ...] = ()
    soname: str = ""
    search: tuple[tuple[int, str], ...] = ()


def read_dynamic(file: str) -> Dynamic | None:
    """Return what a file says to the dynamic loader; `None` for what is no ELF file that can be read."""
    try:
        with open(file, "rb", buffering=0) as stream:
            if stream.read(4) != _MAGIC:
                return None
            return _Reader(stream.fileno()).dynamic()
    except (OSError, struct.error, ValueError):
        return None


def read_only_data(file: str) -> bytes:
    """Return the constants of a file, among them its texts; empty for what is no ELF file that can be read."""
    try:
        with open(file, "rb", buffering=0) as stream:
            return _Reader(stream.fileno()).constants() if stream.read(4) == _MAGIC else b""
    except (OSError, struct.error, ValueError):
        return b""


class _Reader:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        kind, order = os.pread(descriptor, 2, 4)
        self._order = {1: "<", 2: ">"}[order] if order in (1, 2) else ""
        self._is_wide = kind == 2
        if kind not in (1, 2) or not self._order:
            raise ValueError("neither 32 nor 64 bits, or no byte order")

    def dynamic(self) -> Dynamic:
        loads: list[tuple[int, int, int]] = []
        section = (0, 0)
        for kind, offset, address, size in self._headers():
            if kind == _LOAD:
                loads.append((address, offset, size))
            elif kind == _DYNAMIC:
                section = (offset, size)
        tags = self._tags(*section)
        values = {tag: value for tag, value in tags if tag in (_STRING_TABLE, _STRING_BYTES)}
        if _STRING_TABLE not in values:
            return Dynamic()  # linked statically
        start = _offset(values[_STRING_TABLE], loads)
        strings = self._read(start, min(values.get(_STRING_BYTES, 0), _MAX_STRING_BYTES))

        def texts(wanted: int) -> list[str]:
            return [_text(strings, value) for tag, value in tags if tag == wanted]

        search = tuple((start + value, _text(strings, value)) for tag, value in tags if tag in (_RPATH, _RUNPATH))
        return Dynamic(tuple(texts(_NEEDED)), "".join(texts(_SONAME)[:1]), search)

    def constants(self) -> bytes:
        if self._is_wide:
            (start,) = self._unpack("Q", 40)
            size, count, names = self._unpack("HHH", 58)
            form = "IIQQQQ"
        else:
            (start,) = self._unpack("I", 32)
            size, count, names = self._unpack("HHH", 46)
            form = "IIIIII"
        if count > _MAX_HEADERS:
            raise ValueError("too many sections")
        sections = [self._unpack(form, start + number * size) for number in range(count)]
        (*_, offset, length) = sections[names] if names < count else (0, 0)
        texts = self._read(offset, min(length, _MAX_STRING_BYTES))
        for name, _, _, _, offset, length in sections:
            if texts.startswith(_READ_ONLY, name):
                return self._read(offset, min(length, _MAX_STRING_BYTES))
        return b""

    def _headers(self) -> list[tuple[int, int, int, int]]:
        """Return kind, offset, address and size in the file of each program header."""
        if self._is_wide:
            (start,) = self._unpack("Q", 32)
            size, count = self._unpack("HH", 54)
        else:
            (start,) = self._unpack("I", 28)
            size, count = self._unpack("HH", 42)
        if count > _MAX_HEADERS:
            raise ValueError("too many program headers")
        found = []
        for number in range(count):
            place = start + number * size
            if self._is_wide:
                kind, _, offset, address, _, length = self._unpack("IIQQQQ", place)
            else:
                kind, offset, address, _, length = self._unpack("IIIII", place)
            found.append((kind, offset, address, length))
        return found

    def _tags(self, offset: int, size: int) -> list[tuple[int, int]]:
        form = struct.Struct(self._order + ("qQ" if self._is_wide else "iI"))
        content = self._read(offset, min(size, _MAX_DYNAMIC_BYTES))
        whole = content[: len(content) - len(content) % form.size]
        tags = []
        for tag, value in form.iter_unpack(whole):
            if tag == 0:
                break
            tags.append((tag, value))
        return tags

    def _unpack(self, form: str, offset: int) -> tuple[int, ...]:
        packed = struct.Struct(self._order + form)
        return packed.unpack(self._read(offset, packed.size))

    def _read(self, offset: int, size: int) -> bytes:
        if offset > (1 << 62) or size < 0:
            raise ValueError("a table outside of the file")
        return os.pread(self._descriptor, size, offset)


def _offset(address: int, loads: list[tuple[int, int, int]]) -> int:
    """Return where in the file an address lies."""
    for start, offset, size in loads:
        if start <= address < start + size:
            return address - start + offset
    raise ValueError("an address that is not loaded")


def _text(strings: bytes, start: int) -> str:
    end = strings.index(b"\0", start)
    return os.fsdecode(strings[start:end])
