"""Which ways of measuring this machine allows, why or why not, and what each is good for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from envpack_monitor.errors import MechanismError
from envpack_monitor.trees import births, tree
from envpack_monitor.trees.cgroup import POOL, Cgroup, parents
from envpack_monitor.trees.looks import LOOK_S
from envpack_monitor.trees.nvml import gpus


@dataclass(frozen=True, slots=True)
class MechanismReport:
    """One way of measuring, on this machine.

    Args:
        name: what it is called.
        used_for: what is measured by it.
        is_available: the kernel and the rights of this process allow it.
        detail: where and how; or why not.
        figures: the quality of each figure that it gives.
    """

    name: str
    used_for: str
    is_available: bool
    detail: str
    figures: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return an object that JSON can hold."""
        return asdict(self)


def explain() -> list[MechanismReport]:
    """Return every way of measuring, in the order in which they are preferred, as it was found by trying."""
    return [probe() for probe in _PROBES]


def chosen(reports: list[MechanismReport]) -> dict[str, str]:
    """Return what `auto` takes, by what is measured."""
    found: dict[str, str] = {}
    for report in reports:
        if report.is_available:
            found.setdefault(report.used_for, report.name)
    return found


def _bracket() -> MechanismReport:
    figures = {
        "wall": "exact",
        "cpu": "exact",
        "peak memory": "exact; upper bound where calls of other threads overlap; lower bound where it had children",
        "bytes, faults, switches": "exact",
    }
    try:
        fd = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"5")
        finally:
            os.close(fd)
    except OSError as error:
        figures["peak memory"] = "exact where it rose above all before, otherwise upper bound"
        return _report("bracket", _CALLS, False, f"/proc/self/clear_refs: {error.strerror}: no peak is reset", figures)
    return _report("bracket", _CALLS, True, "the peak is reset by /proc/self/clear_refs", figures)


def _cgroup() -> MechanismReport:
    figures = {
        "peak memory": "exact, shared pages once; upper bound where page cache of files was charged",
        "cpu": "exact",
        "memory limit": "kept by the kernel, which tells its own kills",
    }
    try:
        place, accounting = parents()
        group = POOL.take()
    except (MechanismError, OSError) as error:
        return _report("cgroup", _COMMANDS, False, str(error), figures)
    try:
        detail = _words_on(group, place.version)
        if accounting is not None:
            detail += f", cpu in {accounting.folder}"
        return _report("cgroup", _COMMANDS, True, f"{detail}; below {place.folder}", figures)
    finally:
        POOL.give(group)


def _words_on(group: Cgroup, version: int) -> str:
    words = [f"version {version}"]
    words.append("the peak can be reset" if group.can_reset else "the peak cannot be reset: a new group each time")
    if (group.folder / "cgroup.kill").exists():
        words.append("killed at once")
    return ", ".join(words)


def _subreaper() -> MechanismReport:
    figures = {
        "cpu": "exact, where parents wait for their children",
        "peak memory": "exact for a process without children (the kernel's own mark, read when it is waited for)",
        "bytes, faults, switches": "exact, where parents wait for their children",
    }
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        why = "this kernel does not list the children of a process (CONFIG_PROC_CHILDREN)"
        return _report("subreaper", _COMMANDS, False, why, figures)
    detail = "orphans come to the supervisor; what is left at the end is killed"
    return _report("subreaper", _COMMANDS, True, detail, figures)


def _births() -> MechanismReport:
    figures = {
        "processes, threads": "exact, at once and in total",
        "peak memory of a tree without a cgroup": "upper bound: who was alive together, times the largest",
    }
    why_not = births.why_not()
    return _report("births", "processes and threads", not why_not, why_not or "perf events of forks and exits", figures)


def _shared_out() -> MechanismReport:
    is_available = tree.shared_out_bytes([os.getpid()]) is not None
    detail = "" if is_available else "no /proc/PID/smaps_rollup: the sum of resident memory is taken instead"
    figures = {"peak memory of a tree without a cgroup and births": f"sampled({LOOK_S})"}
    figures["shared-out memory (--shared-out)"] = f"sampled({LOOK_S})"
    return _report("pss", "trees while they run", is_available, detail or "/proc/PID/smaps_rollup", figures)


def _nvml() -> MechanismReport:
    found = gpus()
    detail = "no NVIDIA driver answers" if found is None else f"{len(found)} GPUs"
    return _report("nvml", "GPU memory", found is not None, detail, {"gpu memory": f"sampled({LOOK_S})"})


def _report(name: str, used_for: str, is_available: bool, detail: str, figures: dict[str, str]) -> MechanismReport:
    return MechanismReport(name, used_for, is_available, detail, figures)


_CALLS = "calls in a process"
_COMMANDS = "commands"
_PROBES: tuple[Callable[[], MechanismReport], ...] = (_bracket, _cgroup, _subreaper, _births, _shared_out, _nvml)
