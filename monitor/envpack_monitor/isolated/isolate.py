"""One call in a child process: what it changes stays there, what kills it kills only it, and limits end its whole tree.

```
 caller                                             child (own session, subreaper, marked)
   fork, or a fresh interpreter ───────────────────▶ bracket, call, bracket
   poll pipe + pidfd, every 25 ms the limits         end what the call left behind
   read parts ◀───── figures, kind of end, value ──  write parts, _exit
   wait4: status and usage
   unclean end: kill all that bears the mark
```

Guarantees: the caller never waits for more than the child's life. A result of any size, an exception with its
traceback, `SystemExit`, `os._exit` and a signal come back as what they are. When the call is over, however it ended, no
process of its tree is left. If the caller dies, the child is killed.
"""

from __future__ import annotations

import marshal
import os
import pickle
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from envpack_monitor.errors import LimitExceeded, ProcessExited, ProcessKilled, RemoteTraceback, ResultNotPicklable
from envpack_monitor.isolated import forked, inner
from envpack_monitor.isolated.parts import PartReader
from envpack_monitor.limits import Limits, measured_fields
from envpack_monitor.trees import tree
from envpack_monitor.trees.folders import FolderSize
from envpack_monitor.trees.kills import Kills
from envpack_monitor.trees.marks import Mark, new_mark

Method = Literal["fork", "spawn"]

LOOK_S = 0.025
"""How often the tree is looked at while a limit has to be watched."""


@dataclass(slots=True)
class Outcome:
    """How an isolated call ended.

    Args:
        figures: fields of `Usage`.
        result: what it returned.
        error: what the caller has to raise, or `None`.
    """

    figures: dict[str, Any]
    result: Any = None
    error: BaseException | None = None


def run_isolated(
    function: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    *,
    limits: Limits | None = None,
    category: str = "",
    method: Method = "fork",
    folder: str | os.PathLike[str] | None = None,
) -> Outcome:
    """Call `function(*args, **kwargs)` in a child process and return how that ended.

    Args:
        function: anything callable.
        args: positional arguments.
        kwargs: named arguments.
        limits: what ends the call early; its wall time begins with the call, not with the start of an interpreter.
        category: who is named in errors.
        method: `fork` starts with everything that is loaded here, and nothing need be picklable but the result.
            `spawn` starts a fresh interpreter; the function and its arguments travel as a pickle.
        folder: whose growth is measured; needed for a disk limit.

    Raises:
        FormatError: a disk limit without a folder.
        CallNotPicklable: the function or its arguments cannot travel to a fresh interpreter.
    """
    disk = FolderSize.needed_for(limits, folder)
    mark, kills = new_mark(), Kills()
    started_at, start = time.time(), time.perf_counter()
    if method == "fork":
        pid, pipe = _fork(function, args, kwargs or {}, mark, is_watched=limits is not None)
    else:
        from envpack_monitor.isolated.spawn import start_fresh

        pid, pipe = start_fresh(function, args, kwargs or {}, mark, is_watched=limits is not None)
    watch = _Watch(pid, pipe, limits, category, start if method == "fork" else None, disk, kills)
    is_over = False
    try:
        watch.until_done()
        is_over = watch.is_complete
    finally:
        os.close(pipe)
        if not is_over:
            tree.kill_tree(pid)
        _, status, rusage = os.wait4(pid, 0)
        if not is_over:
            mark.end_bearers()
    figures = {"started_at": started_at, "wall_s": time.perf_counter() - start}
    return watch.outcome(figures, status, rusage)


@dataclass(slots=True)
class _Watch:
    """The caller's side while the child runs."""

    pid: int
    pipe: int
    limits: Limits | None
    category: str
    start: float | None
    disk: FolderSize | None
    kills: Kills
    error: LimitExceeded | None = None
    sampled: dict[str, int] = field(default_factory=dict)
    _reader: PartReader = field(init=False)

    def __post_init__(self) -> None:
        self._reader = PartReader(self.pipe, inner.PARTS + (self.start is None))

    @property
    def is_complete(self) -> bool:
        """All that the child had to say has come."""
        return self._reader.is_complete

    def until_done(self) -> None:
        """Return when the parts are complete, the child is dead, or a limit was exceeded."""
        os.set_blocking(self.pipe, False)
        pidfd = os.pidfd_open(self.pid)
        poll = select.poll()
        poll.register(self.pipe, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        try:
            while not self.is_complete:
                ready = {fd for fd, _ in poll.poll(self._timeout_ms())}
                if self.pipe in ready and not self._reader.read():
                    poll.unregister(self.pipe)
                self._note_begin()
                if pidfd in ready:
                    self._reader.read()
                    return
                if self.limits is not None and self._is_exceeded(self.limits):
                    return
        finally:
            os.close(pidfd)

    def outcome(self, figures: dict[str, Any], status: int, rusage: Any) -> Outcome:
        """Judge what has come and how the child ended."""
        if self.error is None and self.is_complete:
            outcome = self._unpack(figures)
        else:
            _add_rusage(figures, rusage)
            outcome = Outcome(figures, error=self.error or self._death(figures, status))
        self._add_samples(outcome.figures)
        if self.error is None and self.limits is not None and not isinstance(outcome.error, ProcessKilled):
            # What was too short to be caught while it happened stands in the exact figures.
            for excess in self.limits.exceeded_by(**measured_fields(outcome.figures)):
                outcome.error = self.error = LimitExceeded(*excess, self.category, self.pid)
                break
        if self.error is not None:
            outcome.figures["limit_exceeded"] = self.error.resource
        return outcome

    def _note_begin(self) -> None:
        """A fresh interpreter says when it is about to call; only then does the time begin."""
        if self.start is None and self._reader.parts:
            self.start = time.perf_counter()

    @property
    def _has_ended(self) -> bool:
        """The call itself is over; what it gave back is on its way."""
        return len(self._reader.parts) > self._reader.expected - inner.PARTS

    def _timeout_ms(self) -> float | None:
        if self.limits is None:
            return None
        if self._needs_samples(self.limits):
            return LOOK_S * 1e3
        if self.start is None or self.limits.wall_s is None:
            return None
        return max(0.0, self.start + self.limits.wall_s - time.perf_counter()) * 1e3 + 1

    @staticmethod
    def _needs_samples(limits: Limits) -> bool:
        return any(
            each is not None for each in (limits.memory_bytes, limits.cpu_s, limits.processes, limits.disk_bytes)
        )

    def _is_exceeded(self, limits: Limits) -> bool:
        if self.start is None:
            return False
        measured: dict[str, float | None] = {"wall_s": time.perf_counter() - self.start}
        if self._needs_samples(limits) and not self._has_ended:
            measured |= self._look()
        for resource, allowed, value in limits.exceeded_by(**measured):
            self.error = LimitExceeded(resource, allowed, value, self.category, self.pid)
            return True
        return False

    def _look(self) -> dict[str, float | None]:
        pids = [self.pid, *tree.descendants(self.pid)]
        now = tree.sample(pids)
        memory_bytes = now.memory_bytes
        if now.processes > 1 and memory_bytes > self.sampled.get("peak_memory_bytes", 0):
            memory_bytes = tree.shared_out_bytes(pids) or memory_bytes
        found = {"peak_memory_bytes": memory_bytes, "processes_max": now.processes, "threads_max": now.threads}
        for name, value in found.items():
            self.sampled[name] = max(self.sampled.get(name, 1), value)
        disk_bytes = self.disk.growth() if self.disk is not None else None
        return {
            "memory_bytes": memory_bytes,
            "cpu_s": now.cpu_s,
            "processes": now.processes,
            "disk_bytes": disk_bytes,
        }

    def _unpack(self, figures: dict[str, Any]) -> Outcome:
        own, end, payload = self._reader.parts[-inner.PARTS :]
        kind, text = marshal.loads(end)
        found = marshal.loads(own)
        outcome = Outcome(figures | (found if isinstance(found, dict) else forked.figures(found)))
        if kind == "plain":
            outcome.result = marshal.loads(payload)
            return outcome
        try:
            value = pickle.loads(payload)
        except Exception as error:
            # Whatever a class of the user's does when it is loaded: the call itself has ended.
            kind, value = "error", ResultNotPicklable(f"what {self.category!r} gave back cannot be loaded: {error!r}")
        if kind == "result":
            outcome.result = value
        else:
            outcome.error = value
            if text:
                outcome.error.__cause__ = RemoteTraceback(text)
        return outcome

    def _death(self, figures: dict[str, Any], status: int) -> BaseException:
        if os.WIFSIGNALED(status):
            figures["signal"] = os.WTERMSIG(status)
            out_of_memory = figures["signal"] == signal.SIGKILL and self.kills.by_kernel() > 0
            return ProcessKilled(figures["signal"], self.category, is_out_of_memory=out_of_memory)
        figures["exit_status"] = os.waitstatus_to_exitcode(status)
        return ProcessExited(figures["exit_status"], self.category)

    def _add_samples(self, figures: dict[str, Any]) -> None:
        """Let what was seen of the tree complete a peak that covers only its first process."""
        words = [figures["quality"]]
        if self.sampled.get("peak_memory_bytes", 0) <= figures.get("peak_memory_bytes", 0):
            self.sampled.pop("peak_memory_bytes", None)
        else:
            words = [word for word in words[0].split("; ") if not word.startswith("peak_memory_bytes:")]
        figures |= self.sampled
        words += [f"{name}: sampled({LOOK_S})" for name in self.sampled]
        if self.disk is not None:
            figures["disk_bytes"] = self.disk.growth(look=True)
            words.append(f"disk_bytes: sampled({LOOK_S})")
        figures["quality"] = "; ".join(words)


def _fork(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], mark: Mark, *, is_watched: bool
) -> tuple[int, int]:
    """Fork the child; return its number and the end of the pipe that it writes to."""
    tree.prepare()
    for stream in (sys.stdout, sys.stderr):
        # What is buffered now would be written twice: here, and by the child.
        if stream is not None:
            stream.flush()
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    pid = _plain_fork()
    if pid == 0:
        try:
            os.close(read_end)
            os.setsid()
            inner.settle(parent, mark)
            signal.set_wakeup_fd(-1)
            inner.run_to_end(write_end, forked.ForkedBracket(), function, args, kwargs, is_watched=is_watched)
        finally:
            os._exit(70)
    os.close(write_end)
    return pid, read_end


def _plain_fork() -> int:
    # One thread at a time: filters of warnings are everybody's, and filelock refuses a fork while another thread forks.
    with _forking[0]:
        if sys.version_info >= (3, 12):
            with warnings.catch_warnings():
                # Python warns when threads run, such as the history's writer. The child runs one function and leaves.
                warnings.simplefilter("ignore", DeprecationWarning)
                return os.fork()
        return os.fork()


def _renew_lock() -> None:
    """Have another lock in a child: whoever may have held this one is not there."""
    _forking[0] = threading.Lock()


_forking = [threading.Lock()]
os.register_at_fork(after_in_child=_renew_lock)


def _add_rusage(figures: dict[str, Any], rusage: Any) -> None:
    """Add what the kernel knows of a child that could not speak for itself any more."""
    figures |= {
        "cpu_user_s": rusage.ru_utime,
        "cpu_system_s": rusage.ru_stime,
        "peak_memory_bytes": rusage.ru_maxrss * 1024,
        "voluntary_switches": rusage.ru_nvcsw,
        "involuntary_switches": rusage.ru_nivcsw,
        "minor_faults": rusage.ru_minflt,
        "major_faults": rusage.ru_majflt,
        # It begins with the pages of the parent and may be that of one of its own children.
        "quality": "exact; peak_memory_bytes: upper bound",
    }
