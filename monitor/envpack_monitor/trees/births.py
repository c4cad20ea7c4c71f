"""Every process and thread of a tree from its birth to its end, as the kernel tells it, without rights and polls.

The kernel's performance events can report nothing but forks and exits, of the calling thread and all that comes below
it: a ring of records per processor. Where it is allowed (`/proc/sys/kernel/perf_event_paranoid` at most 2, no filter
of a container against it), no process is too short to be counted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import struct
import time
from dataclasses import dataclass
from typing import Self

from envpack_monitor.errors import MechanismError

MOST_PROCESSORS = 64
"""Every fork copies one event per processor; beyond so many this costs more than it tells."""

_SYSCALLS = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "ppc64le": 319, "s390x": 331}
_RING_PAGES = 16
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_DATA_AT = 1024
_SOFTWARE, _DUMMY = 1, 9
_INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR, _TASK, _USE_CLOCK = 1 << 1, 1 << 5, 1 << 6, 1 << 13, 1 << 25
_CLOEXEC = 8
_EXIT, _FORK, _LOST = 4, 7, 2
_HEAD = struct.Struct("<IHH")
_BODY = struct.Struct("<IIIIQ")


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """The birth or the end of one thread; a process is born and ends with its first and last one.

    Args:
        time_s: on the clock of `time.monotonic`.
        is_birth: it began; otherwise it ended.
        pid: its process.
        parent: the process that began it.
        tid: its own number.
    """

    time_s: float
    is_birth: bool
    pid: int
    parent: int
    tid: int


class Births:
    """The births and ends below the calling thread, from the moment at which this object is made.

    Attributes:
        is_complete: nothing was lost so far because a ring was full.

    Raises:
        MechanismError: the kernel does not allow it; the message says why.
    """

    def __init__(self) -> None:
        self.is_complete = True
        self._rings: list[mmap.mmap] = []
        self._fds: list[int] = []
        self._held: list[Event] = []
        processors = os.cpu_count() or 1
        if processors > MOST_PROCESSORS:
            raise MechanismError(f"births are not watched on more than {MOST_PROCESSORS} processors: {processors}")
        try:
            for processor in range(processors):
                self._open(processor)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, is_last: bool = False) -> list[Event]:
        """Return what has happened, in order; what came while this looked is kept for the next time.

        Args:
            is_last: there is no next time.
        """
        until_s = time.monotonic()
        for ring in self._rings:
            self._drain(ring)
        self._held.sort()
        count = len(self._held) if is_last else sum(event.time_s <= until_s for event in self._held)
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def close(self) -> None:
        """Stop."""
        for ring in self._rings:
            ring.close()
        for fd in self._fds:
            os.close(fd)
        self._rings, self._fds = [], []

    def _open(self, processor: int) -> None:
        try:
            fd = _perf_event_open(processor)
        except OSError as error:
            if error.errno == errno.ENODEV:
                # Switched off.
                return
            why = "perf_event_paranoid is above 2, or a container forbids it"
            raise MechanismError(f"the kernel does not tell of births: {error.strerror}", why) from error
        self._fds.append(fd)
        try:
            self._rings.append(mmap.mmap(fd, (1 + _RING_PAGES) * _PAGE_BYTES))
        except OSError as error:
            raise MechanismError(
                f"no room for the records of births: {error.strerror}", "perf_event_mlock_kb"
            ) from error

    def _drain(self, ring: mmap.mmap) -> None:
        size = _RING_PAGES * _PAGE_BYTES
        head, tail = struct.unpack_from("<QQ", ring, _DATA_AT)
        while tail < head:
            kind, _, length = _HEAD.unpack(_at(ring, tail % size, _HEAD.size))
            if kind in (_FORK, _EXIT):
                body = _at(ring, (tail + _HEAD.size) % size, _BODY.size)
                pid, parent, tid, _, at_ns = _BODY.unpack(body)
                self._held.append(Event(at_ns / 1e9, kind == _FORK, pid, parent, tid))
            elif kind == _LOST:
                self.is_complete = False
            tail += length
        struct.pack_into("<Q", ring, _DATA_AT + 8, tail)


def _at(ring: mmap.mmap, offset: int, length: int) -> bytes:
    """Return bytes of the ring's data, whose end is followed by its beginning."""
    size = _RING_PAGES * _PAGE_BYTES
    data = ring[_PAGE_BYTES + offset : _PAGE_BYTES + min(offset + length, size)]
    return data + ring[_PAGE_BYTES : _PAGE_BYTES + length - len(data)]


def _perf_event_open(processor: int) -> int:
    number = _SYSCALLS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, "not known for this processor")
    attributes = ctypes.create_string_buffer(128)
    flags = _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HYPERVISOR | _TASK | _USE_CLOCK
    struct.pack_into("<IIQ", attributes, 0, _SOFTWARE, 128, _DUMMY)
    struct.pack_into("<Q", attributes, 40, flags)
    struct.pack_into("<i", attributes, 92, time.CLOCK_MONOTONIC)
    library = ctypes.CDLL(None, use_errno=True)
    fd = library.syscall(ctypes.c_long(number), attributes, 0, processor, -1, ctypes.c_ulong(_CLOEXEC))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(fd)


def why_not() -> str:
    """Return why births cannot be watched here, or an empty text."""
    try:
        with contextlib.closing(Births()):
            return ""
    except MechanismError as error:
        return str(error)
