"""Values too large for a frame: how they lie in memory, and how a process that was told their places gets at them.

    bytes of a value = [number of pieces, their lengths][pickle][buffer][buffer]...      each piece begins at 64 bytes

A value lies in a memory file (`memfd`) of the process that holds it for its node; others open it as
`/proc/PID/fd/N`, so that nothing has a name that could be left behind. What pickles refer to here is found under the
name `ALIAS`, which means the same in a client and in a context process whose environment has no envpack.

Guarantees: a kept value is unpickled once in a process and its buffers cannot be written; a large argument is mapped
anew for each call, so that what the call does to it, nobody else sees. Standard library only.
"""

from __future__ import annotations

import _thread
import mmap
import os
import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

# `typing` would be a third of what is loaded here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ALIAS = "_envpack_values"  # as `frames.VALUES`, which is not here any more when this is loaded in a context process
PROTOCOL = 5
# A buffer of a value that is in a memory file anyway stays outside the pickle from this size on.
_SMALL_BUFFER_BYTES = 1 << 12
_ALIGNMENT = 64
_WORD = struct.Struct("<Q")
MAX_UNPICKLED = 256  # kept values that a process has unpickled at once; the one that was used longest ago goes


# Path of the file, offset and size of a blob there, or (with an empty path) why it could not be brought to this node.
Place = tuple[str, int, int, str]

# An envpack that is imported inside a context process shares the tables of the one that serves it.
_elder = sys.modules.get(ALIAS)
places: dict[str, Place] = getattr(_elder, "places", {})
references: dict[str, Callable[[], Any]] = getattr(_elder, "references", {})
arrivals: dict[str, Any] = getattr(_elder, "arrivals", {})
_unpickled: OrderedDict[str, Any] = getattr(_elder, "_unpickled", None) or OrderedDict()
_lock = getattr(_elder, "_lock", None) or _thread.RLock()


# --- bytes


class Buffers:
    """Collects the buffers of a pickle that are worth it, as a `buffer_callback`.

    Args:
        least_bytes: smaller ones become part of the pickle.
    """

    def __init__(self, least_bytes: int = _SMALL_BUFFER_BYTES) -> None:
        self.views: list[memoryview] = []
        self._least_bytes = least_bytes

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        """Take a buffer; return whether it must become part of the pickle."""
        view = buffer.raw()
        if view.nbytes < self._least_bytes:
            return True
        self.views.append(view)
        return False


def _offsets(lengths: Sequence[int]) -> list[int]:
    """Return where each piece begins, and where the last one ends."""
    offset = _WORD.size * (1 + len(lengths))
    offsets = []
    for length in lengths:
        offset = -(-offset // _ALIGNMENT) * _ALIGNMENT
        offsets.append(offset)
        offset += length
    return [*offsets, offset]


def lay_out(stream: bytes, buffers: Iterable[memoryview]) -> tuple[int, list[tuple[int, bytes | memoryview]]]:
    """Return the size of a value as bytes, and its pieces as (offset, bytes)."""
    pieces: list[bytes | memoryview] = [stream, *buffers]
    lengths = [len(piece) for piece in pieces]
    *offsets, end = _offsets(lengths)
    head = b"".join(map(_WORD.pack, [len(pieces), *lengths]))
    return end, [(0, head), *zip(offsets, pieces, strict=True)]


def write(descriptor: int, start: int, pieces: Iterable[tuple[int, bytes | memoryview]]) -> None:
    """Write pieces into a file, `start` bytes further on than they say."""
    for offset, piece in pieces:
        view = memoryview(piece)
        done = 0
        while done < len(view):
            done += os.pwrite(descriptor, view[done:], start + offset + done)


def unpack(view: memoryview) -> Any:
    """Return the value whose bytes these are; its buffers lie where they lie."""
    (count,) = _WORD.unpack_from(view)
    lengths = [_WORD.unpack_from(view, _WORD.size * (1 + index))[0] for index in range(count)]
    *offsets, _ = _offsets(lengths)
    pieces = [view[offset : offset + length] for offset, length in zip(offsets, lengths, strict=True)]
    return pickle.loads(pieces[0], buffers=pieces[1:])


def map_file(descriptor: int, size: int, offset: int = 0, is_private: bool = False) -> memoryview:
    """Map a part of a file: read-only, or (`is_private`) to be written without changing the file."""
    if is_private:
        mapped = mmap.mmap(descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)
    else:
        mapped = mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset)
    return memoryview(mapped)


def _map_place(name: str, is_private: bool) -> memoryview:
    path, offset, size, problem = places[name]
    if problem:
        raise LookupError(f"a large value could not be brought to this node: {problem}")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return map_file(descriptor, size, offset, is_private)
    finally:
        os.close(descriptor)


# --- what the host tells a context process


def learn(news: Iterable[tuple[str, Place]], dropped: Iterable[str] = ()) -> None:
    """Take places of blobs that the next calls need, and forget those that no call needs any more."""
    with _lock:
        places.update(news)
        for name in dropped:
            places.pop(name, None)
            _unpickled.pop(name, None)


# --- what pickles refer to


def value(name: str) -> Any:
    """Return a kept value, unpickled once in this process; in a client, the reference to it."""
    with _lock:
        if name in _unpickled:
            _unpickled.move_to_end(name)
            return _unpickled[name]
        if name not in places:
            return _reference(name)
        found = _unpickled[name] = unpack(_map_place(name, is_private=False))
        while len(_unpickled) > MAX_UNPICKLED:
            _unpickled.popitem(last=False)
        return found


def _reference(name: str) -> Any:
    found = references[name]() if name in references else None
    if found is None:
        raise LookupError("a kept value is not known here: it was given to no call of this process, or was freed")
    return found


def loaded(stream: bytes | memoryview, names: Sequence[str]) -> Any:
    """Return what was pickled into `stream` and these blobs, its buffers mapped for this one use."""
    return pickle.loads(stream, buffers=[_map_place(name, is_private=True) for name in names])


def blob_loaded(stream_name: str, names: Sequence[str]) -> Any:
    """Do as `loaded` where the pickle, too, is a blob."""
    return loaded(_map_place(stream_name, is_private=False), names)


def part_loaded(stream: memoryview, *buffers: memoryview) -> Any:
    """Return one argument that was pickled apart from the others."""
    return pickle.loads(stream, buffers=buffers)


def text(encoded: memoryview) -> str:
    """Return a long string."""
    return str(encoded, "utf-8", "surrogatepass")


def arrived(name: str) -> Any:
    """Return a large result that has come to this client; once."""
    descriptor, size = _arrival(name)
    try:
        view = map_file(descriptor, size, is_private=True)
    finally:
        os.close(descriptor)
    return unpack(view)


def free_arrival(name: str) -> None:
    """Free a large result that was not taken."""
    found = arrivals.pop(name, "")
    if not isinstance(found, str):
        os.close(found[0])


def _arrival(name: str) -> tuple[int, int]:
    found = arrivals.pop(name, "it has been taken already")
    if isinstance(found, str):
        raise LookupError(f"a large result is not here: {found}")
    descriptor, size = found
    return descriptor, size


# --- results of a context process


def memory_file(size: int) -> int:
    """Return a new memory file of `size` bytes.

    Raises:
        MemoryError: there is not so much memory.
    """
    free = available_bytes()
    if size > free:
        raise MemoryError(f"{size} bytes needed for a large value, {free} bytes of memory available")
    descriptor = os.memfd_create("envpack-value", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def available_bytes() -> int:
    """Return how much memory could be had now without ending anything."""
    with open("/proc/meminfo", "rb") as file:
        for line in file:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) * 1024
    return sys.maxsize


def seal(descriptor: int) -> None:
    """Let nobody change a memory file any more."""
    import fcntl

    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)


def file_of_result(value: Any, dump: Callable[[Any, Any], bytes]) -> tuple[int, int]:
    """Write a result into a memory file; return its descriptor and size.

    Args:
        value: the result.
        dump: pickles it with a `buffer_callback`.

    Raises:
        MemoryError: there is not enough memory.
    """
    buffers = Buffers()
    return _file(dump(value, buffers), buffers.views)


def file_of_pickle(stream: bytes) -> tuple[int, int]:
    """Write the pickle of a result into a memory file; return its descriptor and size.

    Raises:
        MemoryError: there is not enough memory.
    """
    return _file(stream, ())


def _file(stream: bytes, buffers: Iterable[memoryview]) -> tuple[int, int]:
    size, pieces = lay_out(stream, buffers)
    descriptor = memory_file(size)
    try:
        write(descriptor, 0, pieces)
        seal(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, size


def arrival_outcome(name: str) -> bytes:
    """Return the pickle that stands for a large result among the outcomes of calls."""
    return call_of(arrived, name)


def with_buffer(value: bytes | bytearray | str) -> Reduced:
    """Return what unpickles to `value`, and is pickled with its bytes as a buffer."""
    if isinstance(value, str):
        return Reduced(text, pickle.PickleBuffer(value.encode("utf-8", "surrogatepass")))
    return Reduced(type(value), pickle.PickleBuffer(value))


class Reduced:
    """Something whose pickle is a call."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


def call_of(function: Callable[..., Any], *args: Any) -> bytes:
    """Return a pickle that calls `function`, one of those above, where it is loaded."""
    return pickle.dumps(Reduced(function, *args), PROTOCOL)


for _each in (value, loaded, blob_loaded, part_loaded, text, arrived):
    _each.__module__ = ALIAS
sys.modules[ALIAS] = sys.modules[__name__]
