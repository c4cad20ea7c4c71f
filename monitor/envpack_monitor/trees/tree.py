"""Process trees: who belongs to one, what it uses now, and how to end all of it.

A process whose parent dies is adopted by the nearest *subreaper* above it. Where the root of a tree is one, no
descendant can leave the tree, whatever daemon it wants to become; so `kill_tree` leaves no survivor.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_P_ALL = 0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SWEEPS = 1000
"""A tree that still grows after so many sweeps is killed as far as it was seen."""


@dataclass(frozen=True, slots=True)
class TreeSample:
    """What some processes use at one moment.

    Args:
        memory_bytes: resident memory of all; pages that several of them share count several times.
        cpu_s: processor seconds of all since each began, with the children that each has waited for.
        processes: how many are alive.
        threads: how many threads they have together.
    """

    memory_bytes: int
    cpu_s: float
    processes: int
    threads: int


def descendants(pid: int) -> list[int]:
    """Return the processes below `pid`, parents before children, dead ones that nobody has waited for included."""
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children(queue.pop())
        found += below
        queue += below
    return found


def children(pid: int) -> list[int]:
    """Return the children of `pid`, dead ones that nobody has waited for included."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [int(child) for thread in threads for child in read(f"/proc/{pid}/task/{thread}/children").split()]


def has_waited_for_children(pid: int) -> bool:
    """Tell whether a process has ever waited for a child, while it is alive or not yet waited for itself.

    Every process takes page faults, and those of children that were waited for are kept apart.
    """
    words = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return len(words) < 9 or int(words[8]) > 0


def peak_kib(pid: int) -> int:
    """Return the largest resident memory of a living process so far (VmHWM), 0 if it is dead."""
    return peak_in(read(f"/proc/{pid}/status"))


def peak_in(status: bytes) -> int:
    """Return the peak that the text of a process's `status` tells, in KiB; 0 for that of a dead one."""
    at = status.find(b"VmHWM:")
    return int(status[at + 6 : status.index(b"kB", at)]) if at >= 0 else 0


def sample(pids: Iterable[int]) -> TreeSample:
    """Return what the processes that are still alive use now."""
    memory_bytes, cpu_s, processes, threads = 0, 0.0, 0, 0
    for pid in pids:
        text = read(f"/proc/{pid}/stat")
        # The name, in brackets, may hold anything; what follows the last bracket are single words.
        words = text.rpartition(b")")[2].split()
        if words and words[0] not in (b"Z", b"X"):
            processes += 1
            cpu_s += sum(map(int, words[11:15])) / TICKS_PER_S
            threads += int(words[17])
            memory_bytes += int(words[21]) * _PAGE_BYTES
    return TreeSample(memory_bytes, cpu_s, processes, threads)


def shared_out_bytes(pids: Iterable[int]) -> int | None:
    """Return the resident memory with shared pages shared out (PSS), or `None` where the kernel does not tell.

    Exact for a tree, but it takes milliseconds for a large process.
    """
    total = 0
    for pid in pids:
        text = read(f"/proc/{pid}/smaps_rollup")
        at = text.find(b"\nPss:")
        if at < 0:
            if read(f"/proc/{pid}/stat"):
                return None
            continue
        total += int(text[at + 5 : text.index(b"kB", at)]) * 1024
    return total


def is_alive(pid: int) -> bool:
    """Tell whether a process runs, which a dead one that nobody has waited for does not."""
    return read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[:1] not in ([], [b"Z"], [b"X"])


def read(path: str) -> bytes:
    """Return a file of /proc; nothing if it is gone or not ours to read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(fd)


def name_of(pid: int) -> str:
    """Return the name of the program that a process runs."""
    return read(f"/proc/{pid}/comm").decode(errors="replace").strip() or str(pid)


def bytes_moved(pid: int) -> tuple[int, int] | None:
    """Return the bytes that a process has read and written so far, with the children that it has waited for.

    `None` if it is dead or not ours to ask.
    """
    words = read(f"/proc/{pid}/io").split(None, 4)
    return (int(words[1]), int(words[3])) if len(words) > 3 else None


def kill_tree(root: int, *, spare_root: bool = False) -> int:
    """Kill a process and all below it.

    All are stopped before any is killed, so that none can start another one meanwhile.

    Args:
        root: a child of the caller (or the caller itself, to be spared), so that its number cannot be reused.
        spare_root: kill only what is below it.

    Returns:
        How many processes below the root were alive.
    """
    stopped: set[int] = set()
    if not spare_root:
        _send(root, signal.SIGSTOP)
    for _ in range(_SWEEPS):
        new = [pid for pid in descendants(root) if pid not in stopped and is_alive(pid)]
        if not new:
            break
        for pid in new:
            _send(pid, signal.SIGSTOP)
        stopped.update(new)
    for pid in stopped:
        _send(pid, signal.SIGKILL)
    if not spare_root:
        _send(root, signal.SIGKILL)
    return len(stopped)


def become_subreaper() -> None:
    """Let orphans below this process become its own children."""
    _prctl()(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Let orphans below this process become its own children for as long as this lasts."""
    before = is_subreaper()
    become_subreaper()
    try:
        yield
    finally:
        _prctl()(_PR_SET_CHILD_SUBREAPER, before, 0, 0, 0)


def is_subreaper() -> bool:
    """Tell whether orphans below this process become its own children."""
    answer = ctypes.c_int()
    _prctl()(_PR_GET_CHILD_SUBREAPER, ctypes.addressof(answer), 0, 0, 0)
    return bool(answer.value)


def die_with_parent(parent: int, with_signal: int = signal.SIGKILL) -> None:
    """Let this process get a signal when its parent dies; if the parent is dead already, end at once.

    Args:
        parent: the number of the process that forked this one.
        with_signal: the signal.
    """
    _prctl()(_PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + with_signal)


def has_children() -> bool:
    """Tell whether this process has a child, dead ones that it has not waited for included."""
    # That there is none would be an exception of `os.waitid`, and an exception costs more than all the rest.
    return bool(_waitid()(_P_ALL, 0, None, os.WEXITED | os.WNOHANG | os.WNOWAIT) == 0)


def prepare() -> None:
    """Load what the functions above need, so that a forked child need not."""
    _prctl()
    _waitid()


@functools.cache
def _prctl() -> ctypes._NamedFuncPointer:
    prctl = ctypes.CDLL(None).prctl
    prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
    return prctl


@functools.cache
def _waitid() -> ctypes._NamedFuncPointer:
    waitid = ctypes.CDLL(None).waitid
    waitid.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_void_p, ctypes.c_int]
    return waitid


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
