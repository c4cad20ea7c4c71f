"""`Usage`: what one call, block or command used, and how good each figure is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from envpack_monitor.fields import read_fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one call used; `None` where nobody measured.

    Args:
        category: which calls this one is like; a function's module and qualified name by default.
        started_at: seconds since the epoch.
        wall_s: seconds from the start to the end; of a generator, the seconds spent inside it.
        cpu_user_s: processor seconds in user code, children that were waited for included.
        cpu_system_s: processor seconds in the kernel, likewise. The sum of both is exact, their split is the kernel's
            estimate.
        memory_before_bytes: resident memory when the call began.
        peak_memory_bytes: the largest resident memory while the call ran, what was there before included.
        bytes_read: bytes that read system calls returned, the page cache's included; mapped files do not count.
        bytes_written: bytes given to write system calls.
        voluntary_switches: context switches because the call waited.
        involuntary_switches: context switches because somebody else's turn had come.
        minor_faults: page faults served from memory.
        major_faults: page faults that read from a disk.
        shared_out_bytes: the largest memory seen with shared pages shared out among those who have them (PSS).
        disk_bytes: by how much the measured folder was larger, at most.
        gpu_memory_bytes: the largest memory in use on all GPUs together.
        processes_max: the largest number of processes alive at once.
        processes_total: how many processes there were, the first one included.
        threads_max: the largest number of threads alive at once, of all processes together.
        exit_status: of a command or an isolated call that ended its process.
        signal: the number of the signal that ended it.
        exception: the name of the class of the exception that the call raised.
        limit_exceeded: the resource whose limit was exceeded.
        quality: see `quality_of`.
        calls: 1, or n where this is the exact aggregate of n calls: sums, and the largest peak.
        peak_times: seconds from the start to the moment at which a figure was largest, by the name of its field, for
            those that were looked at while the call ran.
        features: numbers known before the call that may explain its usage.
    """

    schema: ClassVar[int] = 1

    category: str = ""
    started_at: float = 0.0
    wall_s: float
    cpu_user_s: float | None = None
    cpu_system_s: float | None = None
    memory_before_bytes: int | None = None
    peak_memory_bytes: int | None = None
    bytes_read: int | None = None
    bytes_written: int | None = None
    voluntary_switches: int | None = None
    involuntary_switches: int | None = None
    minor_faults: int | None = None
    major_faults: int | None = None
    shared_out_bytes: int | None = None
    disk_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    processes_max: int | None = None
    processes_total: int | None = None
    threads_max: int | None = None
    exit_status: int | None = None
    signal: int | None = None
    exception: str | None = None
    limit_exceeded: str | None = None
    quality: str = "exact"
    calls: int = 1
    peak_times: dict[str, float] = field(default_factory=dict, hash=False)
    features: dict[str, float] = field(default_factory=dict, hash=False)

    @property
    def cpu_s(self) -> float | None:
        """Processor seconds, user and system."""
        if self.cpu_user_s is None or self.cpu_system_s is None:
            return None
        return self.cpu_user_s + self.cpu_system_s

    @property
    def cores(self) -> float | None:
        """Processor seconds per second: how many cores were busy on average."""
        return None if self.cpu_s is None or self.wall_s <= 0 else self.cpu_s / self.wall_s

    @property
    def memory_difference_bytes(self) -> int | None:
        """How far the peak rose above what was resident before; 0 when the call found room in an already grown heap."""
        if self.peak_memory_bytes is None or self.memory_before_bytes is None:
            return None
        return self.peak_memory_bytes - self.memory_before_bytes

    def quality_of(self, figure: str) -> str:
        """Return how good a figure is.

        Args:
            figure: the name of a field.

        Returns:
            `exact`; `upper bound` (something else in the process may have used a part of it); `lower bound`;
            `sampled(SECONDS)` (looked at once per interval, so it may be too low); or `unknown`.
        """
        if getattr(self, figure) is None:
            return "unknown"
        default, *exceptions = self.quality.split("; ")
        return dict(exception.split(": ", 1) for exception in exceptions).get(figure, default)

    def to_dict(self) -> dict[str, Any]:
        """Return an object that JSON can hold; what nobody measured is left out."""
        values = {name: getattr(self, name) for name in FIELDS}
        return {"schema": self.schema, **{name: value for name, value in values.items() if value is not None}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Usage:
        """Return the usage that `to_dict` or `Bracket.stop` described.

        Raises:
            FormatError: a field is missing, unknown or of a wrong type.
        """
        return read_fields(cls, data, "usage")


FIELDS = tuple(each.name for each in fields(Usage))
"""The names of all fields, in the order of their declaration."""
