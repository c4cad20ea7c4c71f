"""The table of `envpack history show`: a column per figure that was measured, each value with its quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envpack_monitor.usage import Usage

_COLUMNS = (
    ("wall", "wall_s"),
    ("cpu", "cpu_s"),
    ("cores", "cores"),
    ("peak", "peak_memory_bytes"),
    ("peak at", "peak_at"),
    ("above before", "memory_difference_bytes"),
    ("shared out", "shared_out_bytes"),
    ("gpu", "gpu_memory_bytes"),
    ("disk", "disk_bytes"),
    ("read", "bytes_read"),
    ("written", "bytes_written"),
    ("processes", "processes"),
    ("threads", "threads_max"),
)
_TELLS_QUALITY = ("peak_memory_bytes", "shared_out_bytes", "gpu_memory_bytes", "disk_bytes")
_ALWAYS = ("wall_s", "cpu_s", "peak_memory_bytes", "bytes_read", "bytes_written")


def table_of(calls: Sequence[Usage]) -> tuple[list[str], list[list[str]]]:
    """Return the heads and the rows; of most figures only where one of the calls has them."""
    columns: list[tuple[str, Callable[[Usage], str]]] = [("started", lambda call: moment(call.started_at))]
    if any(call.calls > 1 for call in calls):
        columns.append(("calls", lambda call: str(call.calls)))
    for head, name in _COLUMNS:
        if name in _ALWAYS or any(_figure(call, name) is not None for call in calls):
            columns.append((head, _shown(name)))
    columns.append(("end", _end))
    return [head for head, _ in columns], [[show(call) for _, show in columns] for call in calls]


def moment(at_s: float) -> str:
    """Return a time of day in this machine's zone."""
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))


def _shown(name: str) -> Callable[[Usage], str]:
    from envpack_monitor.plots.charts import format_value

    def show(call: Usage) -> str:
        value = _figure(call, name)
        if value is None or isinstance(value, str):
            return value or "-"
        text = format_value("time_s" if name == "peak_at" else name, value)
        quality = call.quality_of(name) if name in _TELLS_QUALITY else "exact"
        return text if quality == "exact" else f"{text} ({quality})"

    return show


def _figure(call: Usage, name: str) -> float | str | None:
    if name == "peak_at":
        return call.peak_times.get("peak_memory_bytes")
    if name == "processes":
        return _processes(call)
    value: float | None = getattr(call, name)
    return value


def _processes(call: Usage) -> str | None:
    if call.processes_max is None:
        return None if call.processes_total is None else f"{call.processes_total} in all"
    total = "" if call.processes_total is None else f" of {call.processes_total}"
    return f"{call.processes_max}{total}"


def _end(call: Usage) -> str:
    if call.limit_exceeded is not None:
        return f"{call.limit_exceeded} limit"
    if call.exception is not None:
        return call.exception
    if call.signal is not None:
        return f"signal {call.signal}"
    return f"status {call.exit_status}" if call.exit_status else "done"
