"""What a supervisor is told to run, and what it tells of how that went."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from envpack_monitor.errors import LimitExceeded
from envpack_monitor.limits import Limits

Mechanism = Literal["auto", "cgroup", "proc"]
Stream = int | IO[Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be run and how.

    Args:
        argv: the command and its arguments.
        limits: what ends it early.
        category: who is named in errors.
        folder: whose growth is measured.
        cwd: where it runs.
        env: its environment variables; those of the caller by default.
        stdin: as for `subprocess.Popen`, but no pipes.
        stdout: likewise.
        stderr: likewise.
        series: the file of a time series.
        interval_s: seconds between its rows.
        shared_out: look at memory with shared pages shared out too.
    """

    argv: tuple[str, ...]
    limits: Limits
    category: str
    folder: Path | None = None
    cwd: Path | None = None
    env: dict[str, str] | None = None
    stdin: Stream = None
    stdout: Stream = None
    stderr: Stream = None
    series: Path | None = None
    interval_s: float = 0.1
    shared_out: bool = False


@dataclass(slots=True)
class Report:
    """How the command ended.

    Args:
        figures: fields of `Usage`.
        status: the wait status of its first process.
        mechanism: how the peak was measured.
        error: the limit that was exceeded.
        left_behind: processes that were still alive when the first one ended, and were killed.
        is_out_of_memory: the kernel killed a process of it for want of memory.
    """

    figures: dict[str, Any]
    status: int
    mechanism: str
    error: LimitExceeded | None = None
    left_behind: int = 0
    is_out_of_memory: bool = False
