"""Which modules a file of pickled objects names, read without loading any of them.

The opcodes are followed with a stack on which every global of the file is an inert stand-in: nothing is imported and
nothing of the file's is called. That also gets over the raw arrays that joblib writes between its opcodes. Compressed
files and the zip archives of torch and numpy are opened; size and number of opcodes are bounded.
"""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

MAX_BYTES = 64 * 2**20
MAX_OPCODES = 500_000
_MAX_PICKLES = 10_000
_NUMPY_MAGIC = b"\x93NUMPY"
_LZ4_MAGIC = b"\x04\x22\x4d\x18"
_DTYPE = re.compile(r"[<>|=]?([biufcmMSUV])(\d+)")
_ZLIB_STARTS = (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")


@dataclass(frozen=True, slots=True)
class PickledModules:
    """What a file of pickled objects says.

    Attributes:
        modules: the modules that its objects come from, sorted, as far as it could be followed.
        problem: why it could not be followed to its end; empty where it was.
    """

    modules: tuple[str, ...]
    problem: str


class _ProblemError(Exception):
    """A file cannot be followed any further."""


def pickled_modules(path: str) -> PickledModules:
    """Return the modules that the objects in a file come from; the file may be broken in any way.

    Args:
        path: a file written by pickle, joblib, torch, pandas or numpy.
    """
    return _followed(_streams(path))


def pickled_modules_of(content: bytes) -> PickledModules:
    """Return the modules that pickled objects come from; any bytes may be given."""
    return _followed(iter([io.BytesIO(content)]))


def _followed(streams: Iterator[IO[bytes]]) -> PickledModules:
    names: set[str] = set()
    problem = ""
    try:
        for stream in streams:
            _read(stream, names)
    except _ProblemError as error:
        problem = str(error)
    # A broken file makes the code behind the opcodes fail in any way; nothing else runs here.
    except Exception as error:
        problem = f"not a file of pickled objects: {type(error).__name__}: {error}"
    return PickledModules(tuple(sorted(names)), problem)


def _streams(path: str) -> Iterator[IO[bytes]]:
    with open(path, "rb") as file:
        start = file.read(6)
    if start.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith((".pkl", ".npy", ".pickle")) or len(archive.namelist()) == 1:
                    yield _bounded(archive.open(name))
    else:
        with _opener(start)(path) as file:
            yield _bounded(file)


def _opener(start: bytes) -> Callable[[str], IO[bytes]]:
    if start.startswith(_LZ4_MAGIC):
        raise _ProblemError("compressed with lz4, which the standard library cannot read")
    if start.startswith(b"\x1f\x8b"):
        return lambda path: cast(IO[bytes], gzip.open(path))
    if start.startswith(b"BZh"):
        return lambda path: cast(IO[bytes], bz2.open(path))
    if start.startswith((b"\xfd7zXZ", b"]\x00\x00")):
        return lambda path: cast(IO[bytes], lzma.open(path))
    return _inflated if start.startswith(_ZLIB_STARTS) else _plain


def _plain(path: str) -> IO[bytes]:
    return open(path, "rb")


def _inflated(path: str) -> IO[bytes]:
    with open(path, "rb") as file:
        return io.BytesIO(zlib.decompressobj().decompress(file.read(MAX_BYTES), MAX_BYTES + 1))


def _bounded(file: IO[bytes]) -> IO[bytes]:
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _ProblemError(f"larger than {MAX_BYTES} bytes, which is as far as files are read")
    return io.BytesIO(content)


def _read(stream: IO[bytes], names: set[str]) -> None:
    if stream.read(len(_NUMPY_MAGIC)) == _NUMPY_MAGIC:
        _skip_numpy_header(stream)
    else:
        stream.seek(0)
    budget = _Budget()
    # One file may hold several pickles, one after another.
    for _ in range(_MAX_PICKLES):
        if not stream.read(1):
            return
        stream.seek(-1, io.SEEK_CUR)
        _Follower(stream, names, budget).load()


def _skip_numpy_header(stream: IO[bytes]) -> None:
    major, _ = stream.read(2)
    length = struct.unpack("<H" if major == 1 else "<I", stream.read(2 if major == 1 else 4))[0]
    header = stream.read(length)
    if b"'O'" not in header and b"|O" not in header:
        stream.seek(0, io.SEEK_END)  # numbers: no objects in it


class _Budget:
    """How many opcodes may still be followed."""

    def __init__(self) -> None:
        self.left = MAX_OPCODES

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _ProblemError(f"more than {MAX_OPCODES} opcodes, which is as far as files are followed")


class _StandIn:
    """Takes the place of everything that a pickle makes; accepts all and does nothing."""

    name = ""
    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *arguments: object, **options: object) -> _StandIn:
        return object.__new__(_StandIn)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        made = _StandIn()
        made.name = self.name
        made.arguments = arguments
        return made

    def __setitem__(self, key: object, value: object) -> None:
        """Take an entry of a dictionary's subclass."""

    def append(self, value: object) -> None:
        """Take an element of a list's subclass."""

    def extend(self, values: object) -> None:
        """Take elements of a list's subclass."""

    def add(self, value: object) -> None:
        """Take an element of a set's subclass."""


class _Table(dict[int, Any]):
    """The table of opcodes; each look-up is one opcode."""

    def __init__(self, table: dict[int, Any], spend: Callable[[], None]) -> None:
        super().__init__(table)
        self._spend = spend

    def __getitem__(self, key: int) -> Any:
        self._spend()
        return super().__getitem__(key)


# The one of the standard library that is written in Python, so that single opcodes can be replaced.
_Unpickler: Any = pickle._Unpickler


class _Follower(_Unpickler):  # type: ignore[misc]
    """Follows the opcodes of one pickle and notes the modules of its globals."""

    def __init__(self, stream: IO[bytes], names: set[str], budget: _Budget) -> None:
        super().__init__(stream, encoding="latin-1", buffers=itertools.repeat(b""))
        self._stream = stream
        self._names = names
        self._budget = budget
        self.dispatch = _Table(_Unpickler.dispatch, budget.spend)
        self.dispatch[pickle.BUILD[0]] = _Follower._build
        self.dispatch[pickle.REDUCE[0]] = _Follower._reduce

    def find_class(self, module: str, name: str) -> _StandIn:
        """Note a global; nothing is imported."""
        self._names.add(module)
        found = _StandIn()
        found.name = f"{module}.{name}"
        return found

    def persistent_load(self, pid: object) -> _StandIn:
        """Accept a reference to what lies elsewhere, as torch makes them."""
        return _StandIn()

    def get_extension(self, code: int) -> None:
        """Accept a registered global: which one it is, only the program knows."""
        self.append(_StandIn())

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        # Modules that a function made by cloudpickle refers to.
        if getattr(function, "name", "").endswith(".subimport") and isinstance(arguments[0], str):
            self._names.add(arguments[0])
        self.stack[-1] = function(*arguments) if isinstance(function, _StandIn) else _StandIn()

    def _build(self) -> None:
        state = self.stack.pop()
        built = self.stack[-1]
        if isinstance(built, _StandIn):
            built.state = state
            if isinstance(state, dict) and {"shape", "dtype", "allow_mmap"} <= state.keys():
                self._skip_array(state)

    def _skip_array(self, state: dict[str, Any]) -> None:
        """Get over the content of an array, which joblib writes behind its description."""
        text = _type_text(state["dtype"])
        if text == "O8":
            _Follower(self._stream, self._names, self._budget).load()
            return
        match = _DTYPE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise _ProblemError(f"holds an array of type {text!r}, whose size is not known")
        if state.get("numpy_array_alignment_bytes") is not None:
            self._stream.seek(self._stream.read(1)[0], io.SEEK_CUR)
        width = int(match[2]) * (4 if match[1] == "U" else 1)
        count = 1
        for length in state["shape"]:
            count *= length
        self._stream.seek(width * count, io.SEEK_CUR)


def _type_text(dtype: Any) -> str | None:
    """Return how numpy writes a type (`f8`, `U12`); `O8` also for a record that holds objects."""
    found = dtype.arguments[0] if isinstance(dtype, _StandIn) and dtype.arguments else None
    fields = dtype.state[4] if isinstance(dtype, _StandIn) and isinstance(dtype.state, tuple) else None
    if isinstance(fields, dict) and any(_type_text(field[0]) == "O8" for field in fields.values()):
        return "O8"
    return found if isinstance(found, str) else None
