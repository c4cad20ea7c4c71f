"""One call in a forked child: what it changes stays there, what kills it kills only it, and limits end its whole tree.

```
 caller                                             child (own session, subreaper)
   fork ───────────────────────────────────────────▶ bracket, call, bracket
   poll pipe + pidfd, every 25 ms the limits         end what the call left behind
   read frame ◀── lengths, figures, result ────────  write frame, _exit
   wait4: status and usage
```

Guarantees: the caller never waits for more than the child's life. A result of any size, an exception with its
traceback, `SystemExit`, `os._exit` and a signal come back as what they are. When the limit of a resource is exceeded,
no process of the tree survives. If the caller dies, the child is killed.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import select
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from envpack_monitor import tree
from envpack_monitor.bracket import Bracket
from envpack_monitor.errors import LimitExceeded, ProcessExited, ProcessKilled, RemoteTraceback, ResultNotPicklable
from envpack_monitor.limits import Limits, measured_fields

LOOK_S = 0.025
"""How often the tree is looked at while a limit has to be watched."""

_HEADER = struct.Struct("<QQ")
_CHUNK_BYTES = 1 << 20


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
) -> Outcome:
    """Call `function(*args, **kwargs)` in a forked child and return how that ended.

    Args:
        function: anything callable; neither it nor its arguments need to be picklable.
        args: positional arguments.
        kwargs: named arguments.
        limits: what ends the call early.
        category: who is named in errors.
    """
    tree.prepare()
    for stream in (sys.stdout, sys.stderr):
        # What is buffered now would be written twice: here, and by the child.
        if stream is not None:
            stream.flush()
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    _widen(write_end)
    started_at, start, parent = time.time(), time.perf_counter(), os.getpid()
    pid = _fork()
    if pid == 0:
        os.close(read_end)
        _run_child(parent, write_end, function, args, kwargs or {})
    os.close(write_end)
    watch = _Watch(pid, read_end, limits, category, start)
    try:
        watch.until_done()
    except BaseException:
        tree.kill_tree(pid)
        raise
    finally:
        os.close(read_end)
        status, rusage = _reap(pid)
    figures = {"started_at": started_at, "wall_s": time.perf_counter() - start, "processes_max": watch.processes_max}
    return watch.outcome(figures, status, rusage)


@dataclass(slots=True)
class _Watch:
    """The caller's side while the child runs."""

    pid: int
    read_end: int
    limits: Limits | None
    category: str
    start: float
    error: LimitExceeded | None = None
    sampled_bytes: int = 0
    processes_max: int | None = None
    _frame: bytearray = field(default_factory=bytearray)

    def until_done(self) -> None:
        """Return when the frame is complete, the child is dead, or a limit was exceeded and the tree killed."""
        os.set_blocking(self.read_end, False)
        pidfd = os.pidfd_open(self.pid)
        poll = select.poll()
        poll.register(self.read_end, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        try:
            while not self._is_complete():
                ready = {fd for fd, _ in poll.poll(self._timeout_ms())}
                if self.read_end in ready and not self._read():
                    poll.unregister(self.read_end)
                if pidfd in ready:
                    self._read()
                    return
                if self.limits is not None and self._is_exceeded(self.limits):
                    return
        finally:
            os.close(pidfd)

    def outcome(self, figures: dict[str, Any], status: int, rusage: Any) -> Outcome:
        """Judge what has come and how the child ended."""
        if self.error is None and self._is_complete():
            outcome = self._unpack(figures)
        else:
            _add_rusage(figures, rusage)
            outcome = Outcome(figures, error=self.error or self._death(figures, status))
        self._add_sample(outcome.figures)
        if outcome.error is None and self.limits is not None:
            # What was too short to be caught while it happened stands in the exact figures.
            for excess in self.limits.exceeded_by(**measured_fields(outcome.figures)):
                outcome.error = self.error = LimitExceeded(*excess, self.category, self.pid)
                break
        if self.error is not None:
            outcome.figures["limit_exceeded"] = self.error.resource
        return outcome

    def _timeout_ms(self) -> float | None:
        if self.limits is None:
            return None
        if self._needs_samples(self.limits):
            return LOOK_S * 1e3
        assert self.limits.wall_s is not None
        return max(0.0, self.start + self.limits.wall_s - time.perf_counter()) * 1e3 + 1

    @staticmethod
    def _needs_samples(limits: Limits) -> bool:
        return any(limit is not None for limit in (limits.memory_bytes, limits.cpu_s, limits.processes))

    def _is_exceeded(self, limits: Limits) -> bool:
        measured: dict[str, float | None] = {"wall_s": time.perf_counter() - self.start}
        if self._needs_samples(limits):
            pids = [self.pid, *tree.descendants(self.pid)]
            now = tree.sample(pids)
            memory_bytes = now.memory_bytes
            if now.processes > 1 and memory_bytes > max(self.sampled_bytes, 0):
                memory_bytes = tree.shared_out_bytes(pids) or memory_bytes
            self.sampled_bytes = max(self.sampled_bytes, memory_bytes)
            self.processes_max = max(self.processes_max or 1, now.processes)
            measured |= {"memory_bytes": memory_bytes, "cpu_s": now.cpu_s, "processes": now.processes}
        for resource, allowed, value in limits.exceeded_by(**measured):
            tree.kill_tree(self.pid)
            self.error = LimitExceeded(resource, allowed, value, self.category, self.pid)
            return True
        return False

    def _read(self) -> bool:
        """Take what has arrived; return whether more may come."""
        try:
            while chunk := os.read(self.read_end, _CHUNK_BYTES):
                self._frame += chunk
            return False
        except BlockingIOError:
            return True

    def _is_complete(self) -> bool:
        if len(self._frame) < _HEADER.size:
            return False
        missing: int = _HEADER.size + sum(_HEADER.unpack_from(self._frame)) - len(self._frame)
        return missing <= 0

    def _unpack(self, figures: dict[str, Any]) -> Outcome:
        length, _ = _HEADER.unpack_from(self._frame)
        view = memoryview(self._frame)[_HEADER.size :]
        kind, inner, text = pickle.loads(view[:length])
        outcome = Outcome({**figures, **inner})
        try:
            value = pickle.loads(view[length:])
        except Exception as error:
            # Whatever a class of the user's does when it is loaded: the call itself has ended.
            kind, value = "error", ResultNotPicklable(f"what {self.category!r} gave back cannot be loaded: {error!r}")
        if kind == "result":
            outcome.result = value
        else:
            outcome.error = value
            outcome.error.__cause__ = RemoteTraceback(text)
        return outcome

    def _death(self, figures: dict[str, Any], status: int) -> BaseException:
        if os.WIFSIGNALED(status):
            figures["signal"] = os.WTERMSIG(status)
            return ProcessKilled(os.WTERMSIG(status), self.category)
        figures["exit_status"] = os.waitstatus_to_exitcode(status)
        return ProcessExited(figures["exit_status"], self.category)

    def _add_sample(self, figures: dict[str, Any]) -> None:
        """Let the samples of the tree complete a peak that covers only its first process."""
        if self.sampled_bytes > figures.get("peak_memory_bytes", 0):
            figures["peak_memory_bytes"] = self.sampled_bytes
            figures["quality"] = f"exact; peak_memory_bytes: sampled({LOOK_S})"
        if self.processes_max is not None:
            figures["quality"] += f"; processes_max: sampled({LOOK_S})"


def _run_child(
    parent: int, write_end: int, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> NoReturn:
    status = 70
    try:
        os.setsid()
        tree.die_with_parent(parent)
        tree.become_subreaper()
        signal.set_wakeup_fd(-1)
        frame = _call(function, args, kwargs)
        tree.kill_tree(os.getpid(), spare_root=True)
        _flush_all()
        _write(write_end, frame)
        status = 0
    except BaseException:
        # Nobody above this frame may run: it belongs to the caller's program.
        traceback.print_exc()
    finally:
        os._exit(status)


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[bytes]:
    bracket = Bracket()
    kind, text = "result", ""
    bracket.start()
    try:
        value = function(*args, **kwargs)
        figures = bracket.stop()
    except BaseException as error:
        figures = bracket.stop()
        kind, value, text = "error", error, "".join(traceback.format_exception(error))
    try:
        payload = _dumps(value)
    except Exception as error:
        what = f"the {kind} of type {type(value).__name__!r} cannot be pickled"
        kind, payload = "error", pickle.dumps(ResultNotPicklable(f"{what}: {error}"))
    head = pickle.dumps((kind, figures, text))
    return [_HEADER.pack(len(head), len(payload)), head, payload]


def _dumps(value: Any) -> bytes:
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        # Functions and classes made at run time need more.
        try:
            import cloudpickle
        except ImportError:
            raise error from None
        data: bytes = cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        return data


def _write(fd: int, parts: list[bytes]) -> None:
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(fd, view) :]


def _flush_all() -> None:
    from envpack_monitor.recorder import flush_default

    flush_default()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _widen(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _CHUNK_BYTES)
    except OSError:
        # A user may own only so much buffer; the pipe works as it is.
        pass


def _fork() -> int:
    if sys.version_info >= (3, 12):
        with warnings.catch_warnings():
            # Python warns when threads run, and the history's writer is one. The child runs one function and leaves.
            warnings.simplefilter("ignore", DeprecationWarning)
            return os.fork()
    return os.fork()


def _reap(pid: int) -> tuple[int, Any]:
    # The leader's number stands for its group until it is waited for.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    tree.kill_group(pid)
    _, status, rusage = os.wait4(pid, 0)
    return status, rusage


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
