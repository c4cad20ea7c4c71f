"""One memory cgroup for one process tree: the kernel's own peak and the kernel's own limit, version 1 and version 2.

A group is made below the one that the caller is in, and removed at the end. Its peak counts what the tree had in
memory at once, shared pages once, no process too short-lived; it also counts the page cache of the files that the tree
touched first.
"""

from __future__ import annotations

import functools
import os
import secrets
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from envpack_monitor.errors import MechanismError

REMOVE_DEADLINE_S = 5.0
_CACHE_OF_NOTE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Names:
    """The files of one version."""

    limit: str
    peak: str
    usage: str
    events: str
    cache: tuple[bytes, ...]


_VERSION_1 = _Names(
    "memory.limit_in_bytes",
    "memory.max_usage_in_bytes",
    "memory.usage_in_bytes",
    "memory.oom_control",
    (b"total_inactive_file", b"total_active_file"),
)
_VERSION_2 = _Names("memory.max", "memory.peak", "memory.current", "memory.events", (b"inactive_file", b"active_file"))


class Cgroup:
    """A group that exists while its `with` block runs; at the end all that is left in it is killed.

    Raises:
        MechanismError: the kernel or its rights do not allow one.
    """

    def __init__(self) -> None:
        parent, self._names = _parent()
        self.folder = parent / f"envpack-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            self.folder.mkdir()
        except OSError as error:
            raise MechanismError(f"no cgroup can be made in {parent}: {error.strerror}") from error
        if not (self.folder / self._names.peak).exists():
            self.folder.rmdir()
            raise MechanismError(
                f"no memory peak in the cgroups of {parent}", "the controller is off or the kernel old"
            )

    def __enter__(self) -> Cgroup:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        deadline = time.monotonic() + REMOVE_DEADLINE_S
        while True:
            try:
                self.folder.rmdir()
                return
            except OSError:
                # Killed processes leave their group a moment later.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)

    def join(self) -> None:
        """Put the calling process into the group; what it starts from now on is in it too."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def limit_memory(self, limit_bytes: int) -> None:
        """Let the kernel kill in the group when it needs more."""
        (self.folder / self._names.limit).write_text(str(limit_bytes))

    def pids(self) -> list[int]:
        """Return the processes of the group."""
        return [int(pid) for pid in self._read("cgroup.procs").split()]

    def usage_bytes(self) -> int:
        """Return the memory charged to the group now, page cache included."""
        return int(self._read(self._names.usage))

    def peak_bytes(self) -> int:
        """Return the largest memory charged to the group so far, page cache included."""
        return int(self._read(self._names.peak))

    def cache_bytes(self) -> int:
        """Return how much of the memory charged now is page cache of files."""
        words = self._read("memory.stat").split()
        return sum(int(words[words.index(name) + 1]) for name in self._names.cache if name in words)

    def peak_and_quality(self) -> tuple[int, str]:
        """Return the peak without page cache, as far as it can be told apart, and how good that is."""
        peak, cache = self.peak_bytes(), self.cache_bytes()
        return max(peak - cache, 0), "exact" if cache < _CACHE_OF_NOTE_BYTES else "upper bound"

    def out_of_memory_kills(self) -> int:
        """Return how many processes of the group the kernel has killed because the group was at its limit."""
        words = self._read(self._names.events).split()
        return int(words[words.index(b"oom_kill") + 1]) if b"oom_kill" in words else 0

    def kill(self) -> int:
        """Kill all processes of the group until none is left; return how many there were at first."""
        first = self.pids()
        deadline = time.monotonic() + REMOVE_DEADLINE_S
        pids = first
        while pids and time.monotonic() < deadline:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)
            pids = self.pids()
        return len(first)

    def _read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@functools.cache
def _parent() -> tuple[Path, _Names]:
    """Return the folder of the group that this process is in, with the names of its version."""
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    for _, place, kind, options, *_ in mounts:
        if kind == "cgroup" and "memory" in options.split(","):
            controllers = next((names for names in own if "memory" in names.split(",")), None)
            if controllers is not None:
                return _inside(Path(place), own[controllers]), _VERSION_1
    for _, place, kind, *_ in mounts:
        if kind == "cgroup2" and "" in own:
            folder = _inside(Path(place), own[""])
            if "memory" in (folder / "cgroup.subtree_control").read_text().split():
                return folder, _VERSION_2
    raise MechanismError("no memory cgroup controller is mounted or handed down", "mechanism='proc' needs none")


def _inside(mount: Path, path: str) -> Path:
    """Return a group's folder; in a container the mount may begin at the group itself."""
    folder = mount / path.lstrip("/")
    return folder if folder.is_dir() else mount
