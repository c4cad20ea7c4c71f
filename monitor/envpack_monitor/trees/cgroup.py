"""One cgroup for one process tree: the kernel's own peak and the kernel's own limit, version 1 and version 2.

A group is made below the one that the caller is in. Its peak counts what the tree had in memory at once, shared pages
once, no process too short-lived; it also counts the page cache of the files that the tree touched first. A group is
used again where this leaves nothing behind: the second command of a process finds one ready.

Version 2 hands a controller down only from groups without processes. Where the caller is alone in its group, and may,
it moves itself into a leaf beside those that it makes.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import secrets
import signal
import time
from pathlib import Path

from envpack_monitor.errors import MechanismError
from envpack_monitor.trees import cgroup_files as files
from envpack_monitor.trees.cgroup_files import LEAF, VERSION_1, VERSION_2, Place

REMOVE_DEADLINE_S = 5.0
CACHE_OF_NOTE_BYTES = 1 << 20
_CLEAN_BYTES = 1 << 20
"""A group that has more than this charged when it is empty is not used again."""


class Cgroup:
    """A group of one's own, in the memory hierarchy and, where it is another one, in that of CPU accounting.

    Args:
        parent: the group below which it is made.
        accounting: the group of version 1 below which CPU is counted, if there is one.

    Attributes:
        folder: where the memory's files are.

    Raises:
        MechanismError: the kernel or its rights do not allow one.
    """

    def __init__(self, parent: Place, accounting: Place | None = None) -> None:
        self._names = VERSION_1 if parent.version == 1 else VERSION_2
        self._version = parent.version
        name = f"envpack-{os.getpid()}-{secrets.token_hex(4)}"
        self.folder = _make(parent.folder / name)
        self._accounting = self.folder if parent.version == 2 else None
        if not (self.folder / self._names.peak).exists():
            self.folder.rmdir()
            raise MechanismError(
                f"no {self._names.peak} in the cgroups of {parent.folder}",
                "the controller is not handed down, or the kernel is older than 5.19",
            )
        if accounting is not None:
            with contextlib.suppress(MechanismError):
                self._accounting = _make(accounting.folder / name)
        # From kernel 6.12 on, a peak that is reset through a descriptor is read through the same one.
        self._peak_fd = self._open_peak()
        self._kills_before, self._cpu_before_s = 0, 0.0
        self._limit_bytes: int | None = None

    def begin(self, limit_bytes: int | None = None) -> None:
        """Forget what was, and let the kernel kill in the group when it needs more than the limit."""
        self._reset_peak()
        self._kills_before += self.out_of_memory_kills()
        self._cpu_before_s += self.cpu_s() or 0.0
        if limit_bytes != self._limit_bytes:
            self._limit(limit_bytes)

    def join(self) -> None:
        """Put the calling process into the group; what it starts from now on is in it too."""
        own = str(os.getpid())
        for folder in filter(None, {self.folder, self._accounting}):
            (folder / "cgroup.procs").write_text(own)

    def join_bytes(self, pid: int) -> int:
        """Return how many bytes `join` writes in a process."""
        return len(str(pid)) * len({self.folder, self._accounting} - {None})

    def pids(self) -> list[int]:
        """Return the processes of the group."""
        return [int(pid) for pid in self._read("cgroup.procs").split()]

    def usage_bytes(self) -> int:
        """Return the memory charged to the group now, page cache included."""
        return int(self._read(self._names.usage))

    def peak_bytes(self) -> int:
        """Return the largest memory charged to the group since it began, page cache included."""
        return int(os.pread(self._peak_fd, 64, 0))

    def cache_bytes(self) -> int:
        """Return how much of the memory charged now is page cache of files."""
        found = files.numbers(self._read("memory.stat"))
        return sum(found.get(name, 0) for name in self._names.cache)

    def peak_and_quality(self) -> tuple[int, str]:
        """Return the peak without page cache, as far as it can be told apart, and how good that is."""
        peak, cache = self.peak_bytes(), self.cache_bytes()
        return max(peak - cache, 0), "exact" if cache < CACHE_OF_NOTE_BYTES else "upper bound"

    def cpu_s(self) -> float | None:
        """Return the processor seconds of all that was in the group since it began; `None` if nobody counts them."""
        if self._accounting is None:
            return None
        name = "cpuacct.usage" if self._version == 1 else "cpu.stat"
        found = files.cpu_s((self._accounting / name).read_bytes(), self._version)
        return None if found is None else found - self._cpu_before_s

    def out_of_memory_kills(self) -> int:
        """Return how many processes of the group the kernel has killed for want of memory since it began."""
        return files.numbers(self._read(self._names.events)).get("oom_kill", 0) - self._kills_before

    def kill(self) -> int:
        """Kill all processes of the group until none is left; return how many there were at first."""
        first = self.pids()
        deadline = time.monotonic() + REMOVE_DEADLINE_S
        pids = first
        while pids and time.monotonic() < deadline:
            self._kill_once(pids)
            time.sleep(0.001)
            pids = self.pids()
        return len(first)

    @property
    def is_clean(self) -> bool:
        """Nothing is left that the next one would be charged with."""
        return self.folder.is_dir() and not self.pids() and self.usage_bytes() < _CLEAN_BYTES

    def remove(self) -> None:
        """Kill what is left and remove the group."""
        self.kill()
        os.close(self._peak_fd)
        for folder in filter(None, {self.folder, self._accounting}):
            _remove(folder)

    def _kill_once(self, pids: list[int]) -> None:
        try:
            # From kernel 5.14 on: all at once, and none can fork away. Not the file of another system: no O_CREAT.
            fd = os.open(self.folder / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return
        with open(fd, "w") as file:
            file.write("1")

    def _limit(self, limit_bytes: int | None) -> None:
        """Set the limit of memory, and forbid to go into swap instead, where that is counted."""
        value = self._names.no_limit if limit_bytes is None else str(limit_bytes)
        memory, swap = self.folder / self._names.limit, self.folder / self._names.swap_limit
        if self._version == 2:
            memory.write_text(value)
            if swap.exists():
                swap.write_text("max" if limit_bytes is None else "0")
        else:
            # The limit with swap must never be below that without: out of the way first.
            if swap.exists():
                swap.write_text(self._names.no_limit)
            memory.write_text(value)
            if swap.exists():
                swap.write_text(value)
        self._limit_bytes = limit_bytes

    def _open_peak(self) -> int:
        path = self.folder / self._names.peak
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            # Before 6.12 it can only be read, in version 2: such a group is good for one command.
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _reset_peak(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._peak_fd, b"0")

    @property
    def can_reset(self) -> bool:
        """Its peak can be set back, so that it can be used again."""
        try:
            os.write(self._peak_fd, b"0")
        except OSError:
            return False
        return True

    def _read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


class Pool:
    """The idle groups of this process: one per slot in which a command runs."""

    def __init__(self) -> None:
        self._idle: list[Cgroup] = []
        self._pid = os.getpid()

    def take(self) -> Cgroup:
        """Return a group that nobody uses.

        Raises:
            MechanismError: none can be had; the message says why.
        """
        if self._pid != os.getpid():
            # Those that were copied by a fork are the parent's.
            self._idle, self._pid = [], os.getpid()
        with contextlib.suppress(IndexError):
            # Several threads may take and give.
            while not (group := self._idle.pop()).is_clean:
                self._drop(group)
            return group
        return Cgroup(*parents())

    def give(self, group: Cgroup) -> None:
        """Take a group back; what is left in it is killed."""
        group.kill()
        if group.is_clean and group.can_reset:
            self._idle.append(group)
        else:
            self._drop(group)

    def clear(self) -> None:
        """Remove the idle groups of this process."""
        if self._pid == os.getpid():
            while self._idle:
                self._drop(self._idle.pop())

    @staticmethod
    def _drop(group: Cgroup) -> None:
        with contextlib.suppress(FileNotFoundError):
            group.remove()


POOL = Pool()
atexit.register(POOL.clear)


@functools.cache
def parents() -> tuple[Place, Place | None]:
    """Return below which groups this process makes its own: for memory, and for CPU if that is another hierarchy.

    Raises:
        MechanismError: no memory controller is mounted or handed down.
    """
    found = files.places(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    memory = parent_of(found)
    _remove_abandoned(memory.folder)
    accounting = next((each for each in found if "cpuacct" in each.controllers), None)
    return memory, accounting if memory.version == 1 and accounting != memory else None


def parent_of(found: list[Place]) -> Place:
    """Return the first group among some below which one with a memory controller can be made.

    Raises:
        MechanismError: there is none; the message says why.
    """
    reasons = []
    for place in sorted(found, key=lambda each: each.version):
        if "memory" in place.controllers and place.folder.is_dir():
            return place
        if place.version == 2:
            try:
                return Place(2, place.controllers, hand_down(place.folder))
            except MechanismError as error:
                reasons.append(str(error))
    raise MechanismError("; ".join(reasons) or "no memory cgroup is mounted", "mechanism='proc' needs none")


def hand_down(folder: Path) -> Path:
    """See that a group of version 2 hands the memory controller down; return it, or the one above its leaf.

    Args:
        folder: the group that this process is in.

    Raises:
        MechanismError: it cannot; the message says why.
    """
    if folder.name.startswith(LEAF):
        folder = folder.parent
    if "memory" not in files.words(_read_or_nothing(folder / "cgroup.controllers")):
        raise MechanismError(f"the memory controller is not handed down to {folder}")
    if "memory" in files.words(_read_or_nothing(folder / "cgroup.subtree_control")):
        return folder
    pids = [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
    if pids and pids != [os.getpid()]:
        others = len(pids) - (os.getpid() in pids)
        raise MechanismError(f"{others} other processes are in {folder}, which therefore cannot hand down its memory")
    try:
        if pids:
            leaf = folder / f"{LEAF}{os.getpid()}"
            leaf.mkdir(exist_ok=True)
            (leaf / "cgroup.procs").write_text(str(os.getpid()))
        (folder / "cgroup.subtree_control").write_text("+memory")
    except OSError as error:
        raise MechanismError(f"{folder} does not hand down its memory controller: {error.strerror}") from error
    return folder


def _make(folder: Path) -> Path:
    try:
        folder.mkdir()
    except OSError as error:
        raise MechanismError(f"no cgroup can be made in {folder.parent}: {error.strerror}") from error
    return folder


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + REMOVE_DEADLINE_S
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            # Killed processes leave their group a moment later.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)


def _remove_abandoned(parent: Path) -> None:
    """Remove the groups of processes that were killed before they could do it; the kernel keeps those in use."""
    for folder in parent.glob("envpack-*-*"):
        pid = folder.name.split("-")[1]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


def _read_or_nothing(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
