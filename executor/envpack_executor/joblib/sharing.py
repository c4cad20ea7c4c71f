"""What outlives a `Parallel` call: the executor with its warm processes, and the arrays that the next one may need."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from typing import Any

from envpack_executor import settings
from envpack_executor.executor import ContextExecutor
from envpack_executor.values.blobs import BLOBS
from envpack_executor.values.references import Kept

# As loky does it.
IDLE_TIMEOUT_S = 300.0
# The share of the machine's memory in which arrays are kept that no call needs at the moment.
_RETAINED_SHARE = 8
# Smaller ones are kept as large arguments are: the indices of folds are made anew for each search, and are the same.
_SMALL_BYTES = 1 << 24


def has_slots_of_ours(options: dict[str, Any]) -> bool:
    """Tell whether nobody else says how many calls run at once."""
    return settings.profile_path() is None and not {"max_workers", "nodes"} & set(options)


class SharedExecutor:
    """One executor for all `Parallel` calls of this process that ask for the same; made when the first one does."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._executor: ContextExecutor | None = None
        self._options: dict[str, Any] = {}
        self._slots = 0
        self._users: weakref.WeakKeyDictionary[ContextExecutor, int] = weakref.WeakKeyDictionary()

    def take(self, n_jobs: int, options: dict[str, Any]) -> ContextExecutor:
        """Return an executor with at least so many slots.

        Another one than before is made where that has too few, was made with other options, or has broken since; the
        former ends when whoever uses it has given it back.

        Args:
            n_jobs: how many batches shall run at once.
            options: of `ContextExecutor`.
        """
        with self._lock:
            former = self._executor
            is_small = n_jobs > self._slots and has_slots_of_ours(options)
            if former is None or not former._gate.is_open or is_small or options != self._options:
                self._slots = max(n_jobs, settings.usable_cores())
                self._executor, self._options = self._made(options), options
                if former is not None and not self._users.get(former):
                    former.shutdown(wait=False)
            assert self._executor is not None
            self._users[self._executor] = self._users.get(self._executor, 0) + 1
            return self._executor

    def _made(self, options: dict[str, Any]) -> ContextExecutor:
        if settings.profile_path() is not None:
            return ContextExecutor(**options)  # what is left out is for the profile to say
        workers = {"max_workers": self._slots} if has_slots_of_ours(options) else {}
        return ContextExecutor(**{"idle_timeout_s": IDLE_TIMEOUT_S, **workers, **options})

    def give_back(self, executor: ContextExecutor) -> None:
        """Say that one user of an executor does not need it any more. One that was not taken here is not concerned."""
        with self._lock:
            if executor not in self._users:
                return
            self._users[executor] -= 1
            if executor is not self._executor and not self._users[executor]:
                executor.shutdown(wait=False)

    def forget(self) -> None:
        """Leave the executor to the process that has made it: in a fork of that, its thread is not there."""
        _of_parents.append((self._executor, self._users))
        self._begin()  # with another lock: whoever held that one is not there either

    def close(self) -> None:
        """End the executor; the next call makes another."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()


class Retained:
    """Arrays that stay on the nodes between `Parallel` calls, for as long as the user has them and there is room."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[weakref.ref[Any], Kept[Any]]] = OrderedDict()
        self._most_bytes = settings.usable_memory() // _RETAINED_SHARE
        self._lock = threading.RLock()

    def note(self, array: Any, kept: Kept[Any]) -> None:
        """Keep what stands for `array`; what was used longest ago goes when it is too much."""
        key = id(array)
        if kept.size_bytes < _SMALL_BYTES:
            BLOBS.note_use(kept._blob)
        with self._lock:
            self._kept[key] = weakref.ref(array, lambda gone: self._forget(key, gone)), kept
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and self._bytes() > self._most_bytes:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._kept.clear()

    def _bytes(self) -> int:
        return sum(kept.size_bytes for _, kept in self._kept.values())

    def _forget(self, key: int, gone: weakref.ref[Any]) -> None:
        with self._lock:
            if key in self._kept and self._kept[key][0] is gone:
                del self._kept[key]


SHARED = SharedExecutor()
RETAINED = Retained()
# Never freed: what would end with them is the parent's.
_of_parents: list[Any] = []
os.register_at_fork(after_in_child=SHARED.forget)


def shutdown() -> None:
    """End the processes that `Parallel` calls share, and let go of the arrays that wait for the next one.

    Nothing needs it: the processes end by themselves when they had nothing to do for 300 s, and with the program.
    """
    SHARED.close()
    RETAINED.clear()
