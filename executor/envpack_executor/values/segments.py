"""Memory files for blobs: many small ones share a file, so that ten thousand blobs need a few descriptors.

Guarantees: the bytes of a blob are never changed or given to another while a process may have them mapped: a file is
given back as a whole, when all its blobs are gone, and pages that are mapped then live on. A file with one blob is
sealed; of a shared one, processes open what they are told read-only.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from mmap import ALLOCATIONGRANULARITY

from envpack_executor.process import kept
from envpack_executor.process.kept import Place

SEGMENT_BYTES = 64 << 20
# A blob from this size on has a file of its own.
_OWN_BYTES = SEGMENT_BYTES // 4


class Segment:
    """One memory file.

    Args:
        size: of it, in bytes.
    """

    def __init__(self, size: int) -> None:
        self.descriptor = kept.memory_file(size)
        self.path = f"/proc/{os.getpid()}/fd/{self.descriptor}"
        self._size = size
        self._filled = 0
        # With the last of its blobs, whichever thread drops it.
        weakref.finalize(self, os.close, self.descriptor).atexit = False

    def take(self, size: int) -> int | None:
        """Return the offset of `size` bytes that nobody had before, None when there are not so many left."""
        start = self._filled
        if start + size > self._size:
            return None
        self._filled = -(-(start + size) // ALLOCATIONGRANULARITY) * ALLOCATIONGRANULARITY
        return start


class Blob:
    """Bytes that processes of this node can map, for as long as this object lives.

    Args:
        name: by which calls refer to it, unique in the world.
        segment: where it lies.
        offset: there.
        size: in bytes.
        needs: other blobs without which it cannot be unpickled.
    """

    __slots__ = ("__weakref__", "name", "needs", "offset", "segment", "size")

    def __init__(self, name: str, segment: Segment, offset: int, size: int, needs: tuple[Blob, ...] = ()) -> None:
        self.name = name
        self.segment = segment
        self.offset = offset
        self.size = size
        self.needs = needs

    @property
    def place(self) -> Place:
        """Where processes of this node find it."""
        return self.segment.path, self.offset, self.size, ""

    def view(self) -> memoryview:
        """Return its bytes, read-only."""
        return kept.map_file(self.segment.descriptor, self.size, self.offset)


class Segments:
    """Gives blobs room."""

    def __init__(self) -> None:
        self._current: Callable[[], Segment | None] = lambda: None
        self._lock = threading.Lock()

    def write(self, name: str, size: int, pieces: Iterable[tuple[int, bytes | memoryview]]) -> Blob:
        """Write a new blob.

        Args:
            name: of it.
            size: of it, in bytes.
            pieces: its bytes as (offset, bytes).

        Raises:
            MemoryError: there is not enough memory for it.
        """
        blob = self.reserve(name, size)
        kept.write(blob.segment.descriptor, blob.offset, pieces)
        self.complete(blob)
        return blob

    def reserve(self, name: str, size: int) -> Blob:
        """Return a blob whose bytes are still to be written.

        Raises:
            MemoryError: there is not enough memory for it.
        """
        if size >= _OWN_BYTES:
            return Blob(name, Segment(size), 0, size)
        with self._lock:
            segment = self._current()
            offset = None if segment is None else segment.take(size)
            if segment is None or offset is None:
                segment = Segment(SEGMENT_BYTES)
                offset = segment.take(size) or 0
                # Weakly: with the last blob in it, a segment that is not full goes, too.
                self._current = weakref.ref(segment)
            return Blob(name, segment, offset, size)

    def complete(self, blob: Blob) -> None:
        """Note that all bytes of a blob are written."""
        if blob.size >= _OWN_BYTES:
            kept.seal(blob.segment.descriptor)
