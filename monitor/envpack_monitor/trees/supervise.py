"""One command and everything that it starts: spawned, watched, ended, measured, by a process that has no other child.

The supervising process is a subreaper, so every orphan of the tree becomes its child: it is waited for, its CPU counts,
and none survives. The peak of the whole tree comes from a memory cgroup where one can be made (`cgroup`). Without one
(`proc`) the kernel's own peak is exact for a command that never had a child; of a tree it is bounded from above by who
was alive at the same time (`births`, `lives`), or, where the kernel does not tell that, sampled.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from envpack_monitor.errors import CommandNotFoundError, LimitExceeded, MechanismError
from envpack_monitor.limits import Limits, measured_fields
from envpack_monitor.trees import tree
from envpack_monitor.trees.account import SLACK_KIB, Account
from envpack_monitor.trees.births import Births
from envpack_monitor.trees.cgroup import Cgroup
from envpack_monitor.trees.folders import FolderSize
from envpack_monitor.trees.kills import Kills
from envpack_monitor.trees.looks import Looks, Pace, Sight
from envpack_monitor.trees.nvml import gpus
from envpack_monitor.trees.order import Order, Report
from envpack_monitor.trees.series import Series

_REAP_DEADLINE_S = 10.0


def supervise(order: Order, group: Cgroup | None) -> Report:
    """Run a command to its end and return how that went.

    Args:
        order: what to run. The calling process must have no other child.
        group: the cgroup to run it in, which nobody else uses; or none, to look at `/proc` only.

    Raises:
        CommandNotFoundError: there is no such command.
        FormatError: the file of the series cannot be written.
    """
    if group is not None:
        group.begin(order.limits.memory_bytes)
    with contextlib.ExitStack() as stack:
        stack.enter_context(tree.adopting_orphans())
        series = stack.enter_context(Series(order.series, order.interval_s)) if order.series is not None else None
        births = None
        with contextlib.suppress(MechanismError):
            births = stack.enter_context(Births())
        return _Supervision(order, group, series, births).run()


@dataclass(slots=True)
class _Supervision:
    """One run."""

    order: Order
    group: Cgroup | None
    series: Series | None
    births: Births | None
    kills: Kills = field(default_factory=Kills)
    start: float = field(default_factory=time.perf_counter)
    pid: int = 0
    error: LimitExceeded | None = None
    disk: FolderSize | None = field(init=False)
    looks: Looks = field(init=False)
    account: Account = field(init=False)
    pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self.disk = FolderSize(self.order.folder) if self.order.folder is not None else None
        self.pace = Pace(is_limited=self.order.limits != Limits())
        self.start = time.perf_counter()
        self.looks = self._looks()
        self.account = Account(self.start, self.looks, self.group, self.births)
        if self.group is None and self.births is not None:
            self.looks.lives = self.account.lives

    def run(self) -> Report:
        """Spawn, watch, end and measure; whatever comes in between, nothing of the tree is left."""
        started_at = time.time()
        self._spawn()
        try:
            self._watch()
        except BaseException:
            self._end_rest()
            raise
        is_single = not tree.has_waited_for_children(self.pid)
        status = self._reap_first()
        wall_s = time.perf_counter() - self.start
        left_behind = self._end_rest()
        self.account.take_births(is_last=True)
        is_single = is_single and self.account.reaped == 1
        figures = {"started_at": started_at, "wall_s": wall_s} | self.account.figures(is_single, self.pace.longest_s)
        if self.disk is not None:
            figures["disk_bytes"] = self.disk.growth(look=True)
        self._check_at_end(figures)
        if self.series is not None:
            self.series.add(*_last_sight(figures), is_last=True)
        mechanism = "cgroup" if self.group else "proc"
        return Report(figures, status, mechanism, self.error, left_behind, self._is_out_of_memory(status))

    def _looks(self) -> Looks:
        group, is_series = self.group, self.series is not None
        return Looks(
            pids=group.pids if group is not None else lambda: tree.descendants(os.getpid()),
            start=self.start,
            group=group,
            disk=self.disk,
            gpus=gpus(),
            with_shared_out=self.order.shared_out,
            with_io=is_series,
            with_memory=is_series,
        )

    def _spawn(self) -> None:
        order, parent = self.order, os.getpid()
        sizes, size_to = os.pipe2(os.O_CLOEXEC)

        def prepare() -> None:
            if self.group is not None:
                self.group.join()
            tree.die_with_parent(parent)
            # What the command begins with is a copy of this process; some readings never fall below its size.
            os.write(size_to, tree.read("/proc/self/status"))

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
            status = os.read(sizes, 1 << 16)
        except OSError as error:
            if order.cwd is not None and str(error.filename) == str(order.cwd):
                raise CommandNotFoundError(f"no such folder to run in: {order.cwd}") from error
            hint = "check the spelling and PATH" if isinstance(error, FileNotFoundError) else ""
            raise CommandNotFoundError(f"command {order.argv[0]!r}: {error.strerror}", hint) from error
        finally:
            os.close(sizes)
            os.close(size_to)
        self.pid = process.pid
        joined = self.group.join_bytes(self.pid) if self.group is not None else 0
        self.account.own_bytes = len(status), len(status) + joined
        self.account.floor_kib = tree.peak_in(status) + SLACK_KIB
        # It is waited for here, with its usage; Popen must not do it again, nor complain that nobody did.
        process.returncode = 0

    def _watch(self) -> None:
        """Return when the first process has ended, or a limit was exceeded and everything killed."""
        pidfd = os.pidfd_open(self.pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        pause_s = self.pace.next_s(0.0)
        try:
            while not poll.poll(self._until_due_s(pause_s) * 1e3):
                looked_at = time.perf_counter()
                self._reap_orphans()
                self._look()
                if self.error is not None:
                    self._kill()
                    poll.poll(_REAP_DEADLINE_S * 1e3)
                    return
                pause_s = self.pace.next_s(time.perf_counter() - looked_at)
        except KeyboardInterrupt:
            # A terminal sends it to the command too. It may want to end in its own way.
            poll.poll(_REAP_DEADLINE_S * 1e3)
            raise
        finally:
            os.close(pidfd)

    def _until_due_s(self, pause_s: float) -> float:
        """Return how long to wait: until the next look, the next row of the series or the end of the wall time."""
        so_far_s = time.perf_counter() - self.start
        if self.series is not None:
            pause_s = min(pause_s, max(0.001, self.series.until_due_s(so_far_s)))
        if self.order.limits.wall_s is not None:
            pause_s = min(pause_s, max(0.001, self.order.limits.wall_s - so_far_s))
        return pause_s

    def _look(self) -> None:
        self.account.take_births()
        sight = self.looks.look()
        cpu_s = sight.cpu_s + self.account.cpu_of_reaped_s()
        if self.series is not None:
            self.series.add(sight, cpu_s)
        self._note(
            {
                "wall_s": sight.time_s,
                "processes": sight.processes,
                "cpu_s": cpu_s,
                "disk_bytes": sight.disk_bytes,
                # A group is held by the kernel.
                "memory_bytes": sight.memory_bytes if self.group is None else None,
            }
        )
        if self.error is None and self.group is not None:
            self._note_out_of_memory(self.group)

    def _note(self, measured: dict[str, float | None]) -> None:
        for resource, allowed, value in self.order.limits.exceeded_by(**measured):
            self.error = LimitExceeded(resource, allowed, value, self.order.category, self.pid)
            return

    def _note_out_of_memory(self, group: Cgroup) -> None:
        allowed = self.order.limits.memory_bytes
        if allowed is not None and group.out_of_memory_kills():
            measured = max(group.peak_bytes(), allowed)
            self.error = LimitExceeded("memory", allowed, measured, self.order.category, self.pid)

    def _is_out_of_memory(self, status: int) -> bool:
        """Tell whether the kernel killed for want of memory; without a group only that it killed somebody meanwhile."""
        if self.group is not None and self.group.out_of_memory_kills():
            return True
        is_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        return is_killed and self.error is None and self.kills.by_kernel() > 0

    def _check_at_end(self, figures: dict[str, Any]) -> None:
        """Find what was too short to be caught while it happened."""
        if self.error is None and self.group is not None:
            self._note_out_of_memory(self.group)
        if self.error is None:
            # The kernel has kept a group at its limit, page cache and all; the cache is no excess.
            memory_bytes = self.account.surely_used_bytes(figures) if self.group is None else None
            self._note(measured_fields(figures) | {"memory_bytes": memory_bytes})
        if self.error is not None:
            figures["limit_exceeded"] = self.error.resource

    def _kill(self) -> int:
        killed = tree.kill_tree(os.getpid(), spare_root=True)
        if self.group is not None:
            self.group.kill()
        return killed

    def _reap_first(self) -> int:
        _, status, rusage = os.wait4(self.pid, 0)
        self.account.count(rusage)
        return status

    def _reap_orphans(self) -> None:
        """Wait for dead orphans; the first process is left alone, its number must stay its own."""
        for pid in tree.children(os.getpid()):
            if pid != self.pid:
                reaped, _, rusage = os.wait4(pid, os.WNOHANG)
                if reaped:
                    self.account.count(rusage)

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
                self.account.count(rusage)
        return left_behind


def _last_sight(figures: dict[str, Any]) -> tuple[Sight, float]:
    """Return the row of a series that says how it ended: nothing runs any more."""
    moved = figures["bytes_read"], figures["bytes_written"]
    cpu_s = figures["cpu_user_s"] + figures["cpu_system_s"]
    return Sight(figures["wall_s"], 0, 0.0, 0, 0, figures.get("disk_bytes"), *moved), cpu_s


@contextlib.contextmanager
def termination_as_exception() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into `SystemExit`, so that the tree is ended before this process is.

    A program sets up signals in its main thread only; in any other this does nothing.
    """

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
