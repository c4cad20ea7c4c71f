"""`run_command`: a command and everything that it starts, measured and limited as one."""

from __future__ import annotations

import contextlib
import os
import signal as signals
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envpack_monitor.errors import FormatError, LimitExceeded, MechanismError
from envpack_monitor.isolated.isolate import run_isolated
from envpack_monitor.limits import Limits
from envpack_monitor.trees import tree
from envpack_monitor.trees.cgroup import POOL, Cgroup
from envpack_monitor.trees.order import Mechanism, Order, Report, Stream
from envpack_monitor.trees.series import INTERVAL_S, Series
from envpack_monitor.trees.supervise import supervise, termination_as_exception
from envpack_monitor.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """How a command ended and what it used.

    Args:
        argv: the command.
        usage: of the whole process tree.
        exit_code: what its first process returned; negative is the number of the signal that ended it.
        mechanism: `cgroup` or `proc`: how the peak was measured.
        error: the limit that was exceeded, or `None`.
        left_behind: processes that were still alive when the first one ended; they were killed.
        is_out_of_memory: the kernel killed a process of it for want of memory: surely with a cgroup; without one, the
            first process died of SIGKILL while the kernel killed somebody on this machine.
    """

    argv: tuple[str, ...]
    usage: Usage
    exit_code: int
    mechanism: str
    error: LimitExceeded | None = None
    left_behind: int = 0
    is_out_of_memory: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return an object that JSON can hold."""
        return {
            "schema": 1,
            "argv": list(self.argv),
            "exit_code": self.exit_code,
            "mechanism": self.mechanism,
            "left_behind": self.left_behind,
            "is_out_of_memory": self.is_out_of_memory,
            "error": str(self.error) if self.error else None,
            "usage": self.usage.to_dict(),
        }


def run_command(
    argv: Sequence[str | os.PathLike[str]],
    *,
    limits: Limits | None = None,
    category: str | None = None,
    features: Mapping[str, float] | None = None,
    mechanism: Mechanism = "auto",
    folder: str | os.PathLike[str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    history: bool = True,
    series: str | os.PathLike[str] | None = None,
    interval_s: float = INTERVAL_S,
    shared_out: bool = False,
    is_alone: bool = False,
) -> CommandResult:
    """Run a command, measure its whole process tree and end all of it when a limit is exceeded.

    Args:
        argv: the command and its arguments; no shell is involved.
        limits: how much it may use.
        category: which runs are alike; the name of the command by default.
        features: numbers that may explain the usage.
        mechanism: `cgroup`, `proc`, or `auto` for the first if the kernel allows it.
        folder: a folder whose growth is measured; needed for a disk limit.
        cwd: where the command runs.
        env: its environment variables; those of the caller by default.
        stdin: as for `subprocess.run`, but pipes are not offered.
        stdout: likewise.
        stderr: likewise.
        history: whether the usage goes into the history.
        series: a file that gets a time series while the command runs: `.csv` or `.jsonl`.
        interval_s: seconds between its rows.
        shared_out: measure memory with shared pages shared out too; it takes milliseconds for each large process.
        is_alone: the caller does not mind to adopt orphans, as a command-line tool; it supervises by itself then.
            Otherwise a forked child does, and so it does where the caller has another child process: whatever a
            supervisor has below it is of the command, and ends with it.

    Returns:
        What it used; an exceeded limit stands in `error` and is not raised.

    Raises:
        CommandNotFoundError: there is no such command.
        MechanismError: a cgroup was asked for and cannot be had.
        FormatError: a disk limit without a folder, or a pipe for a stream.
    """
    words = tuple(os.fspath(word) for word in argv)
    order = Order(
        argv=words,
        limits=limits or Limits(),
        category=category or Path(words[0]).name,
        folder=Path(folder) if folder is not None else None,
        cwd=Path(cwd) if cwd is not None else None,
        env=dict(env) if env is not None else None,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        series=Path(series) if series is not None else None,
        interval_s=interval_s,
        shared_out=shared_out,
    )
    _check(order)
    with group_for(mechanism) as group:
        if is_alone and not tree.has_children():
            with termination_as_exception():
                report = supervise(order, group)
        else:
            report = _supervise_in_child(order, group)
    return _result(order, report, features or {}, history)


def _check(order: Order) -> None:
    """Raise what is wrong with an order, before anything is started or written."""
    if order.limits.disk_bytes is not None and order.folder is None:
        raise FormatError("limits: disk needs a folder to measure", "folder=...")
    if subprocess.PIPE in (order.stdin, order.stdout, order.stderr):
        raise FormatError("run_command: a pipe has no reader here", "pass an open file")
    if order.series is not None:
        # Its form is told by its name, and checked where it is made; the file itself is opened later.
        Series(order.series, order.interval_s)


@contextlib.contextmanager
def group_for(mechanism: Mechanism) -> Iterator[Cgroup | None]:
    """Lend a cgroup of this process's pool, or `None` where none is wanted or, with `auto`, to be had.

    Raises:
        MechanismError: a cgroup was asked for and cannot be had.
    """
    group = None
    if mechanism != "proc":
        try:
            group = POOL.take()
        except MechanismError:
            if mechanism == "cgroup":
                raise
    try:
        yield group
    finally:
        if group is not None:
            POOL.give(group)


def _supervise_in_child(order: Order, group: Cgroup | None) -> Report:
    outcome = run_isolated(_supervise, (order, group), category=order.category)
    if outcome.error is not None:
        raise outcome.error
    report: Report = outcome.result
    return report


def _supervise(order: Order, group: Cgroup | None) -> Report:
    # If the caller dies, there is still the whole tree to end; so the supervisor is asked to leave, not killed.
    with termination_as_exception():
        tree.die_with_parent(os.getppid(), signals.SIGTERM)
        return supervise(order, group)


def _result(order: Order, report: Report, features: Mapping[str, float], history: bool) -> CommandResult:
    exit_code = os.waitstatus_to_exitcode(report.status)
    figures = report.figures | {"category": order.category, "features": dict(features)}
    figures["signal" if exit_code < 0 else "exit_status"] = abs(exit_code)
    usage = Usage(**figures)
    if history:
        from envpack_monitor.history.recorder import default_writer

        if (writer := default_writer()) is not None:
            writer.put(usage)
    return CommandResult(
        argv=order.argv,
        usage=usage,
        exit_code=exit_code,
        mechanism=report.mechanism,
        error=report.error,
        left_behind=report.left_behind,
        is_out_of_memory=report.is_out_of_memory,
    )


def signal_name(number: int) -> str:
    """Return the name of a signal, as `SIGKILL`."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
