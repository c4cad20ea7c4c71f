"""How the arrays in the arguments of `Parallel` calls travel, as its `max_nbytes`, `mmap_mode` and `temp_folder` say.

| array | in the process where the call runs |
|---|---|
| of more than `max_nbytes` | a read-only `numpy.memmap`: on the node once, mapped once in a process |
| with `mmap_mode="c"` | a copy of its own for each call |
| with `temp_folder`, or `mmap_mode="r+"` or `"w+"` | a `numpy.memmap` of a file in that folder |
| a `numpy.memmap` of a file | of the same file, wherever all processes run on this machine or it can be written |
| all others | a copy; from 32 kB on, bytes that come again are on the node already |

An array of more than `max_nbytes` is looked at once in a call of `Parallel`, and must not change before its end; in the
next call it is compared.
"""

from __future__ import annotations

import operator
import os
import sys
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable
from typing import Any

import joblib
from joblib._memmapping_reducer import _get_backing_memmap, _reduce_memmap_backed

from envpack_executor.joblib.sharing import RETAINED
from envpack_executor.pickling import Reducers, put
from envpack_executor.values.references import Kept

# From this size on it is looked whether an array comes again.
LEAST_BYTES = 1 << 15
_WRITABLE = ("r+", "w+")


class Arrays:
    """The large arrays of the calls of one `Parallel` object.

    Args:
        max_nbytes: larger arrays are shared; None for none.
        mmap_mode: as `Parallel` has it; None to share none.
        temp_folder: where files of arrays are written; None for the memory, unless calls may write them.
        is_local: whether all calls run on this machine.
    """

    def __init__(self, max_nbytes: int | None, mmap_mode: str | None, temp_folder: str | None, is_local: bool) -> None:
        self._max_nbytes = sys.maxsize if max_nbytes is None or mmap_mode is None else max_nbytes
        self._mmap_mode = mmap_mode or "r"
        self._is_local = is_local
        self._is_in_files = temp_folder is not None or mmap_mode in _WRITABLE
        self._parent = temp_folder
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._stand_ins: dict[int, tuple[weakref.ref[Any], Any]] = {}
        self._lock = threading.RLock()

    def begin(self) -> None:
        """Look at all arrays anew: another call of `Parallel` begins, and they may have changed."""
        with self._lock:
            self._stand_ins.clear()

    def reducers(self) -> Reducers | None:
        """Return what the pickler shall do with arrays; None where there is no numpy."""
        numpy = sys.modules.get("numpy")
        return None if numpy is None else {numpy.ndarray: self._reduce, numpy.memmap: self._reduce_mapped}

    def close(self) -> None:
        """Remove the files."""
        with self._lock:
            self._stand_ins.clear()
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None

    def _reduce_mapped(self, array: Any) -> Any:
        mapped = _get_backing_memmap(array)
        names_file = isinstance(mapped, type(array)) and getattr(mapped, "filename", None) is not None
        if names_file and (self._is_local or mapped.mode in _WRITABLE):
            return _reduce_memmap_backed(array, mapped)
        return self._shared(array, array.view(_numpy().ndarray))

    def _reduce(self, array: Any) -> Any:
        return self._shared(array, array)

    def _shared(self, array: Any, plain: Any) -> Any:
        """Return how to pickle an array. `plain`: the same as no more than an array."""
        if array.dtype.hasobject or array.nbytes < min(LEAST_BYTES, self._max_nbytes + 1):
            return plain.__reduce_ex__(5)
        if array.nbytes <= self._max_nbytes:
            return self._copied(array, plain)
        if self._is_in_files:
            return joblib.load, (self._stand_in(array, plain, self._written), self._mmap_mode)
        return _seen_as(self._mmap_mode), (self._stand_in(array, plain, self._kept),)

    def _copied(self, array: Any, plain: Any) -> Any:
        """Let an array that comes again travel once, as it is now: it is compared with what has travelled."""
        with self._lock:
            if self._known(array) is None:
                self._note(array, ())
                return plain.__reduce_ex__(5)
            kept = self._kept(plain)
            self._note(array, kept)
        return _seen_as("c"), (kept,)

    def _stand_in(self, array: Any, plain: Any, make: Callable[[Any], Any]) -> Any:
        """Return what stands for an array in this call of `Parallel`."""
        with self._lock:
            stand_in = self._known(array)
            if stand_in is None:
                stand_in = make(plain)
                self._note(array, stand_in)
            return stand_in

    def _known(self, array: Any) -> Any:
        reference, stand_in = self._stand_ins.get(id(array), (None, None))
        return stand_in if reference is not None and reference() is array else None

    def _note(self, array: Any, stand_in: Any) -> None:
        key, known = id(array), self._stand_ins
        known[key] = weakref.ref(array, lambda gone: _forget(known, key, gone)), stand_in
        if isinstance(stand_in, Kept):
            RETAINED.note(array, stand_in)

    def _kept(self, array: Any) -> Kept[Any]:
        # In one piece, or its bytes could not be mapped; nothing is copied where it is.
        kept: Kept[Any] = put(array if array.flags.forc else _numpy().ascontiguousarray(array))
        return kept

    def _written(self, array: Any) -> str:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="envpack-joblib-", dir=self._parent)
        path = os.path.join(self._folder.name, f"{uuid.uuid4().hex}.pkl")
        joblib.dump(array, path)
        return path


def _forget(stand_ins: dict[int, tuple[weakref.ref[Any], Any]], name: int, gone: weakref.ref[Any]) -> None:
    if name in stand_ins and stand_ins[name][0] is gone:
        del stand_ins[name]


def _seen_as(mmap_mode: str) -> Callable[[Any], Any]:
    """Return what makes of a kept array what the call gets, of the standard library and numpy alone."""
    if mmap_mode == "c":
        return operator.methodcaller("copy")
    return operator.methodcaller("view", _numpy().memmap)


def _numpy() -> Any:
    """Return numpy, which joblib does not need: where there are arrays, it is there."""
    return sys.modules["numpy"]
