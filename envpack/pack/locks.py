"""Locks and temporary folders of a store that survive any death of their owner.

Both stand on `flock`, which the kernel releases when the last process that holds the file goes, however it goes. A
temporary folder belongs to whoever holds the lock file of the same name; one without owner is anybody's to remove.
Locks are per open file, so threads of one process exclude each other as processes do.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envpack.errors import StoreError

LOCK_TIMEOUT_S = 600.0


@contextmanager
def locked(file: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold an exclusive lock.

    Args:
        file: the lock file; it is made, and stays.
        timeout_s: how long to wait for another owner.

    Raises:
        StoreError: the other owner did not let go in time.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if not _try_lock(descriptor):
            _wait_lock(descriptor, file, timeout_s)
        yield
    finally:
        # Explicitly: a child forked by another thread may hold a copy of the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


@contextmanager
def temporary_folder(parent: Path, prefix: str = "") -> Iterator[Path]:
    """Make a folder that is removed at the end, and by `sweep` when its owner died before.

    What it held and shall stay is renamed away before the end.

    Args:
        parent: where to make it.
        prefix: how its name begins.
    """
    name, descriptor = _own_new_name(parent, prefix)
    folder = parent / name
    try:
        folder.mkdir(0o700)
        yield folder
    finally:
        remove_tree(folder)
        os.unlink(parent / f"{name}.lock")
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def sweep(parent: Path, prefix: str = "") -> int:
    """Remove the temporary folders whose owner is gone and return how many there were."""
    names = [name for name in os.listdir(parent) if name.startswith(prefix) and name.endswith(".lock")]
    return sum(_sweep_one(parent, name) for name in names)


def remove_tree(folder: Path) -> None:
    """Remove a folder and what is in it; it may be gone already."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        # Somebody made its folders read-only, or removed it at the same time; say what is wrong if it still is there.
        for place, _, _ in os.walk(folder):
            os.chmod(place, 0o700)
        shutil.rmtree(folder)


def _sweep_one(parent: Path, lock_name: str) -> bool:
    try:
        descriptor = os.open(parent / lock_name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False  # removed meanwhile by its owner, or another user's: not ours to remove
    try:
        if not (_try_lock(descriptor) and _is_at(descriptor, parent / lock_name)):
            return False
        remove_tree(parent / lock_name.removesuffix(".lock"))
        os.unlink(parent / lock_name)
        return True
    except OSError:
        return False  # what cannot be removed now harms nobody, and is tried again by the next one
    finally:
        os.close(descriptor)


def _own_new_name(parent: Path, prefix: str) -> tuple[str, int]:
    """Make and lock a lock file; a sweeper may take it away between the two, then another one is made."""
    while True:
        name = f"{prefix}{secrets.token_hex(8)}"
        descriptor = os.open(parent / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if _try_lock(descriptor) and _is_at(descriptor, parent / f"{name}.lock"):
            return name, descriptor
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_lock(descriptor: int, file: Path, timeout_s: float) -> None:
    """Wait in a thread, which a signal or a poll would do worse: one sleeps in the kernel, the other has a deadline."""
    granted = threading.Event()
    given_up = threading.Event()
    own = os.dup(descriptor)

    def wait() -> None:
        fcntl.flock(own, fcntl.LOCK_EX)
        if given_up.is_set():
            fcntl.flock(own, fcntl.LOCK_UN)
        granted.set()
        os.close(own)

    threading.Thread(target=wait, name="envpack-lock", daemon=True).start()
    if not granted.wait(timeout_s):
        given_up.set()
        raise StoreError(f"waited {timeout_s:g} s for {str(file)!r}", "another process holds it; see who with fuser")
