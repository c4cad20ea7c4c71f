"""`Kept`: a value that was given to the executor once, named wherever it is needed."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from envpack_executor.process import kept
from envpack_executor.values.blobs import BLOBS
from envpack_executor.values.segments import Blob

T = TypeVar("T")

_pickling = threading.local()
_making = threading.Lock()


class Kept(Generic[T]):
    """A value that `ContextExecutor.put` took; in the arguments of a call it stands for the value.

    It may stand anywhere inside arguments of calls and of set-up functions, of any executor of this process. Where
    the call runs, it is the value itself: the same object for all calls of a process, and its buffers (of numpy
    arrays, for instance) cannot be written. It is freed when the last reference to it is gone and no call needs it.
    """

    __slots__ = ("__weakref__", "_blob")

    def __init__(self, blob: Blob) -> None:
        self._blob = blob

    @property
    def size_bytes(self) -> int:
        """How many bytes it has in memory, once on each node."""
        return self._blob.size

    def get(self) -> T:
        """Return the value here, unpickled anew; its buffers cannot be written."""
        found: T = kept.unpack(self._blob.view())
        return found

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        needed = getattr(_pickling, "needed", None)
        if needed is not None:
            needed[self._blob.name] = self._blob
        return kept.value, (self._blob.name,)

    def __repr__(self) -> str:
        return f"<kept value of {self._blob.size} bytes>"


@contextmanager
def noting_needs() -> Iterator[dict[str, Blob]]:
    """Note which blobs the references need that this thread pickles meanwhile."""
    before = getattr(_pickling, "needed", None)
    needed: dict[str, Blob] = {}
    _pickling.needed = needed
    try:
        yield needed
    finally:
        _pickling.needed = before


def keep(stream: bytes, buffers: list[memoryview], needed: dict[str, Blob]) -> Kept[Any]:
    """Return the reference to a value; the same one for the same bytes.

    Raises:
        MemoryError: there is not enough memory for it.
    """
    blob = BLOBS.hold(*kept.lay_out(stream, buffers), needs=tuple(needed.values()))
    with _making:
        known: Kept[Any] | None = kept.references.get(blob.name, lambda: None)()
        if known is not None:
            return known
        made: Kept[Any] = Kept(blob)
        kept.references[blob.name] = weakref.ref(made)
        weakref.finalize(made, _forget, blob.name).atexit = False
        return made


def _forget(name: str) -> None:
    reference = kept.references.get(name)
    if reference is not None and reference() is None:
        kept.references.pop(name, None)
