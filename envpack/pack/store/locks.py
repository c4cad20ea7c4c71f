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
from contextlib import contextmanager, suppress
from pathlib import Path

from envpack.errors import StoreError
from envpack.pack.store.sharing import share_lock

LOCK_TIMEOUT_S = 600.0


@contextmanager
def locked(file: Path, timeout_s: float = LOCK_TIMEOUT_S, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock.

    Args:
        file: the lock file; it is made, and stays until a collection finds it of no use.
        timeout_s: how long to wait for another owner.
        shared: whether others may hold it, too, who ask for it in the same way.

    Raises:
        StoreError: the other owner did not let go in time.
    """
    descriptor = _lock_at(file, timeout_s, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        # Explicitly: a child forked by another thread may hold a copy of the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def open_lock(file: Path) -> int:
    """Open a lock file, made where it is not there, for everybody who may write to its store."""
    while True:
        # Not to be made in the same call: kernels refuse that for the files of others in sticky folders.
        with suppress(FileNotFoundError):
            return os.open(file, os.O_RDWR | os.O_CLOEXEC)
        with suppress(FileExistsError):
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            share_lock(descriptor, file.parent)
            return descriptor


@contextmanager
def temporary_folder(parent: Path, prefix: str = "") -> Iterator[Path]:
    """Make a folder that is removed at the end, and by `sweep` when its owner died before.

    What it held and shall stay is renamed away before the end.

    Args:
        parent: where to make it.
        prefix: how its name begins.
    """
    name, descriptor = own_new_lock(parent, prefix)
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
        if not (try_lock(descriptor) and is_at(descriptor, parent / lock_name)):
            return False
        remove_tree(parent / lock_name.removesuffix(".lock"))
        os.unlink(parent / lock_name)
        return True
    except OSError:
        return False  # what cannot be removed now harms nobody, and is tried again by the next one
    finally:
        os.close(descriptor)


def own_new_lock(parent: Path, prefix: str = "") -> tuple[str, int]:
    """Make and lock a lock file of a new name; return the name without `.lock`, and the descriptor.

    A sweeper may take it away between the two, then another one is made.
    """
    while True:
        name = f"{prefix}{secrets.token_hex(8)}"
        descriptor = open_lock(parent / f"{name}.lock")
        if try_lock(descriptor) and is_at(descriptor, parent / f"{name}.lock"):
            return name, descriptor
        os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Tell whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def try_lock(descriptor: int, operation: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file if nobody else has; tell whether that was so."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_lock(descriptor: int, file: Path, operation: int = fcntl.LOCK_EX, timeout_s: float = LOCK_TIMEOUT_S) -> None:
    """Lock an open file as soon as nobody else has.

    In a thread, which a signal or a poll would do worse: one sleeps in the kernel, the other has a deadline.

    Raises:
        StoreError: the other owner did not let go in time.
    """
    granted = threading.Event()
    given_up = threading.Event()
    own = os.dup(descriptor)

    def wait() -> None:
        fcntl.flock(own, operation)
        if given_up.is_set():
            fcntl.flock(own, fcntl.LOCK_UN)
        granted.set()
        os.close(own)

    threading.Thread(target=wait, name="envpack-lock", daemon=True).start()
    if not granted.wait(timeout_s):
        given_up.set()
        raise StoreError(f"waited {timeout_s:g} s for {str(file)!r}", "another process holds it; see who with fuser")


def _lock_at(file: Path, timeout_s: float, operation: int) -> int:
    """Open and lock the file of that name; one that a collection removed meanwhile does not count."""
    while True:
        descriptor = open_lock(file)
        try:
            if not try_lock(descriptor, operation):
                wait_lock(descriptor, file, operation, timeout_s)
        except BaseException:
            os.close(descriptor)
            raise
        if is_at(descriptor, file):
            return descriptor
        os.close(descriptor)
