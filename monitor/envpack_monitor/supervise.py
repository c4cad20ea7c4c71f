"""One command and everything that it starts: spawned, watched, ended, measured, by a process that has no other child.

The supervising process is a subreaper, so every orphan of the tree becomes its child: it is waited for, its CPU counts,
and none survives. The peak of the whole tree comes from a memory cgroup where one can be made (`cgroup`). Without one
(`proc`) the tree is looked at every few milliseconds; only for a command that never had a child the kernel's own peak
is exact.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from envpack_monitor import tree
from envpack_monitor.cgroup import Cgroup
from envpack_monitor.errors import CommandNotFoundError, LimitExceeded, MechanismError
from envpack_monitor.folders import FolderSize
from envpack_monitor.limits import Limits

Mechanism = Literal["auto", "cgroup", "proc"]
Stream = int | IO[Any] | None

LOOK_S = 0.025
"""How often a tree with limits, or without a cgroup, is looked at once it has run for a while."""
_FIRST_LOOK_S = 0.002
_SLACK_KIB = 1024
"""Two readings of the same peak may differ by this much: the kernel adds up its counters late."""
_REAP_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be run and how.

    Args:
        argv: the command and its arguments.
        limits: what ends it early.
        category: who is named in errors.
        mechanism: how the peak is measured.
        folder: whose growth is measured.
        cwd: where it runs.
        env: its environment variables; those of the caller by default.
        stdin: as for `subprocess.Popen`, but no pipes.
        stdout: likewise.
        stderr: likewise.
    """

    argv: tuple[str, ...]
    limits: Limits
    category: str
    mechanism: Mechanism = "auto"
    folder: Path | None = None
    cwd: Path | None = None
    env: dict[str, str] | None = None
    stdin: Stream = None
    stdout: Stream = None
    stderr: Stream = None


@dataclass(slots=True)
class Report:
    """How the command ended.

    Args:
        figures: fields of `Usage`.
        status: the wait status of its first process.
        mechanism: how the peak was measured.
        error: the limit that was exceeded.
        left_behind: processes that were still alive when the first one ended, and were killed.
    """

    figures: dict[str, Any]
    status: int
    mechanism: str
    error: LimitExceeded | None = None
    left_behind: int = 0


def supervise(order: Order) -> Report:
    """Run a command to its end and return how that went.

    Args:
        order: what to run. The calling process must have no other child.

    Raises:
        CommandNotFoundError: there is no such command.
        MechanismError: a cgroup was asked for and cannot be had.
    """
    tree.become_subreaper()
    group = _group(order.mechanism)
    with group or nullcontext():
        if group is not None and order.limits.memory_bytes is not None:
            group.limit_memory(order.limits.memory_bytes)
        return _Supervision(order, group).run()


def _group(mechanism: Mechanism) -> Cgroup | None:
    if mechanism == "proc":
        return None
    try:
        return Cgroup()
    except MechanismError:
        if mechanism == "cgroup":
            raise
        return None


@dataclass(slots=True)
class _Supervision:
    """One run."""

    order: Order
    group: Cgroup | None
    pid: int = 0
    start: float = 0.0
    error: LimitExceeded | None = None
    sampled_bytes: int = 0
    processes_max: int = 1
    largest_kib: int = 0
    reaped: int = 0
    before: resource.struct_rusage = field(default_factory=lambda: resource.getrusage(resource.RUSAGE_CHILDREN))

    def run(self) -> Report:
        """Spawn, watch, end and measure."""
        order = self.order
        disk = FolderSize(order.folder) if order.folder is not None else None
        io_before, started_at = _children_io(), time.time()
        floor_kib = tree.peak_kib(os.getpid()) + _SLACK_KIB
        self.start = time.perf_counter()
        self._spawn()
        self._watch(disk)
        alone = not tree.has_waited_for_children(self.pid)
        status = self._reap_first()
        wall_s = time.perf_counter() - self.start
        left_behind = self._end_rest()
        figures = {"started_at": started_at, "wall_s": wall_s, **self._rusage(), **self._io_since(io_before)}
        figures |= self._memory(floor_kib, alone and self.reaped == 1)
        if disk is not None:
            figures["disk_bytes"] = disk.growth(look=True)
        self._check_at_end(figures)
        return Report(figures, status, "cgroup" if self.group else "proc", self.error, left_behind)

    def _spawn(self) -> None:
        order, parent = self.order, os.getpid()

        def prepare() -> None:
            if self.group is not None:
                self.group.join()
            tree.die_with_parent(parent)

        tree.prepare()
        try:
            process = subprocess.Popen(
                order.argv,
                cwd=order.cwd,
                env=order.env,
                stdin=order.stdin,
                stdout=order.stdout,
                stderr=order.stderr,
                preexec_fn=prepare,
            )
        except OSError as error:
            if order.cwd is not None and str(error.filename) == str(order.cwd):
                raise CommandNotFoundError(f"no such folder to run in: {order.cwd}") from error
            hint = "check the spelling and PATH" if isinstance(error, FileNotFoundError) else ""
            raise CommandNotFoundError(f"command {order.argv[0]!r}: {error.strerror}", hint) from error
        self.pid = process.pid
        # It is waited for here, with its usage; Popen must not do it again, nor complain that nobody did.
        process.returncode = 0

    def _watch(self, disk: FolderSize | None) -> None:
        """Return when the first process has ended, or a limit was exceeded and everything killed."""
        pidfd = os.pidfd_open(self.pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        pause_s = _FIRST_LOOK_S
        try:
            while not poll.poll(self._until_wall_limit(pause_s) * 1e3):
                pause_s = min(pause_s * 1.3, LOOK_S)
                self._reap_orphans()
                self._look(disk)
                if self.error is not None:
                    self._kill()
                    poll.poll(_REAP_DEADLINE_S * 1e3)
                    return
        except KeyboardInterrupt:
            # A terminal sends it to the command too. It may want to end in its own way.
            poll.poll(_REAP_DEADLINE_S * 1e3)
            self._kill()
            raise
        finally:
            os.close(pidfd)

    def _until_wall_limit(self, pause_s: float) -> float:
        if self.order.limits.wall_s is None:
            return pause_s
        return min(pause_s, max(0.001, self.start + self.order.limits.wall_s - time.perf_counter()))

    def _look(self, disk: FolderSize | None) -> None:
        pids = self.group.pids() if self.group is not None else tree.descendants(os.getpid())
        now = tree.sample(pids)
        self.processes_max = max(self.processes_max, now.processes)
        measured: dict[str, float | None] = {
            "wall_s": time.perf_counter() - self.start,
            "processes": now.processes,
            "cpu_s": now.cpu_s + self._cpu_of_reaped(),
            "disk_bytes": disk.growth() if disk is not None else None,
        }
        if self.group is None:
            measured["memory_bytes"] = self._memory_now(pids, now)
        self._note(measured)
        if self.error is None and self.group is not None:
            self._note_out_of_memory(self.group)

    def _memory_now(self, pids: list[int], now: tree.TreeSample) -> int:
        """Return the memory of the tree; of a single process its peak so far."""
        memory_bytes = now.memory_bytes
        if now.processes == 1:
            memory_bytes = max(memory_bytes, *(tree.peak_kib(pid) * 1024 for pid in pids))
        elif memory_bytes > self.sampled_bytes:
            memory_bytes = tree.shared_out_bytes(pids) or memory_bytes
        self.sampled_bytes = max(self.sampled_bytes, memory_bytes)
        return memory_bytes

    def _note(self, measured: dict[str, float | None]) -> None:
        for resource_name, allowed, value in self.order.limits.exceeded_by(**measured):
            self.error = LimitExceeded(resource_name, allowed, value, self.order.category, self.pid)
            return

    def _note_out_of_memory(self, group: Cgroup) -> None:
        allowed = self.order.limits.memory_bytes
        if allowed is not None and group.out_of_memory_kills():
            measured = max(group.peak_bytes(), allowed)
            self.error = LimitExceeded("memory", allowed, measured, self.order.category, self.pid)

    def _check_at_end(self, figures: dict[str, Any]) -> None:
        """Find what was too short to be caught while it happened."""
        if self.error is None and self.group is not None:
            self._note_out_of_memory(self.group)
        if self.error is None:
            measured = {
                "cpu_s": figures["cpu_user_s"] + figures["cpu_system_s"],
                "wall_s": figures["wall_s"],
                "disk_bytes": figures.get("disk_bytes"),
                # The kernel has kept a group at its limit, page cache and all; the cache is no excess.
                "memory_bytes": figures["peak_memory_bytes"] if self.group is None else None,
            }
            self._note(measured)
        if self.error is not None:
            figures["limit_exceeded"] = self.error.resource

    def _kill(self) -> int:
        killed = tree.kill_tree(os.getpid(), spare_root=True)
        if self.group is not None:
            self.group.kill()
        return killed

    def _reap_first(self) -> int:
        _, status, rusage = os.wait4(self.pid, 0)
        self._count_reaped(rusage)
        return status

    def _reap_orphans(self) -> None:
        """Wait for dead orphans; the first process is left alone, its number must stay its own."""
        for pid in tree.children(os.getpid()):
            if pid != self.pid:
                reaped, _, rusage = os.wait4(pid, os.WNOHANG)
                if reaped:
                    self._count_reaped(rusage)

    def _end_rest(self) -> int:
        """Kill what the first process left behind, and wait for all of it; return how many there were."""
        left_behind = 0
        deadline = time.monotonic() + _REAP_DEADLINE_S
        while time.monotonic() < deadline:
            left_behind += self._kill()
            try:
                reaped, _, rusage = os.wait4(-1, 0)
            except ChildProcessError:
                break
            if reaped:
                self._count_reaped(rusage)
        return left_behind

    def _count_reaped(self, rusage: resource.struct_rusage) -> None:
        self.reaped += 1
        self.largest_kib = max(self.largest_kib, rusage.ru_maxrss)

    def _cpu_of_reaped(self) -> float:
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        return now.ru_utime + now.ru_stime - self.before.ru_utime - self.before.ru_stime

    def _rusage(self) -> dict[str, Any]:
        now, before = resource.getrusage(resource.RUSAGE_CHILDREN), self.before
        return {
            "cpu_user_s": now.ru_utime - before.ru_utime,
            "cpu_system_s": now.ru_stime - before.ru_stime,
            "voluntary_switches": now.ru_nvcsw - before.ru_nvcsw,
            "involuntary_switches": now.ru_nivcsw - before.ru_nivcsw,
            "minor_faults": now.ru_minflt - before.ru_minflt,
            "major_faults": now.ru_majflt - before.ru_majflt,
            "processes_max": self.processes_max,
        }

    def _io_since(self, before: tuple[int, int]) -> dict[str, int]:
        now = _children_io()
        # To join its group the command's process wrote its own number, before it became the command.
        joining = len(str(self.pid)) if self.group is not None else 0
        return {"bytes_read": max(0, now[0] - before[0]), "bytes_written": max(0, now[1] - before[1] - joining)}

    def _memory(self, floor_kib: int, alone: bool) -> dict[str, Any]:
        """Return the peak of the tree and the quality of all figures."""
        peak_bytes, quality = self.sampled_bytes, f"sampled({LOOK_S})"
        if self.group is not None:
            peak_bytes, quality = self.group.peak_and_quality()
        elif self.largest_kib > floor_kib and (self.largest_kib + _SLACK_KIB) * 1024 >= self.sampled_bytes:
            # Below the floor it may be the size of this process, from which the command was forked.
            peak_bytes = max(peak_bytes, self.largest_kib * 1024)
            quality = "exact" if alone else quality
        elif not self.sampled_bytes:
            # Over before anybody looked, and smaller than the floor.
            peak_bytes, quality = self.largest_kib * 1024, "upper bound" if alone else "unknown"
        words = [] if quality == "exact" else [f"peak_memory_bytes: {quality}"]
        words.append(f"processes_max: sampled({LOOK_S})")
        if self.order.folder is not None:
            words.append(f"disk_bytes: sampled({LOOK_S})")
        return {"peak_memory_bytes": peak_bytes, "quality": "; ".join(["exact", *words])}


def _children_io() -> tuple[int, int]:
    """Return the bytes that the children waited for so far have read and written.

    The kernel adds them to those of the process; what its own threads did is told separately.
    """
    whole = _read_io("/proc/self/io")
    own = [_read_io(f"/proc/self/task/{thread}/io") for thread in os.listdir("/proc/self/task")]
    return whole[0] - sum(read for read, _ in own), whole[1] - sum(written for _, written in own)


def _read_io(path: str) -> tuple[int, int]:
    try:
        words = Path(path).read_bytes().split(None, 4)
    except OSError:
        return 0, 0
    return int(words[1]), int(words[3])


def forward_termination() -> None:
    """Turn SIGTERM into an exception, so that the tree is ended before this process is."""

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
