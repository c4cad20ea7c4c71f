"""Every environment variable that `envpack_executor` reads, and those it sets for the processes it starts.

| variable | meaning | default |
|---|---|---|
| `ENVPACK_EVENTS` | file for the event log of every executor, see `ContextExecutor(events=)` | unset: none |
| `ENVPACK_PROFILE` | file of what every executor is told that its program leaves out, see `profile` | unset: none |
| `ENVPACK_RUNS` | folder for what the jobs of `ProviderNodes` need, on a file system that all nodes see | \
`$XDG_STATE_HOME/envpack/runs`, else `~/.local/state/envpack/runs` |

The store (`ENVPACK_STORE`) and the history (`ENVPACK_HISTORY`) belong to the packages that own them. It sets, where the
user has not:

| variables | value in a context process |
|---|---|
| `OMP_NUM_THREADS`, `OPENBLAS_NUM_THREADS`, `MKL_NUM_THREADS`, | cores of the node / slots, |
| `NUMEXPR_NUM_THREADS`, `BLIS_NUM_THREADS` | at least 1 |

And, always, where the node offers GPUs: `CUDA_VISIBLE_DEVICES` and `HIP_VISIBLE_DEVICES`, the devices of the process;
none for one whose calls ask for none. `ENVPACK_PROFILE` is taken away there: an executor that a call makes is its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLIS_NUM_THREADS",
)


# HIP takes the second before the first. `ROCR_VISIBLE_DEVICES` is left alone: it is another, outer selection, within
# which those of HIP are counted.
DEVICE_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


def events_path() -> str | None:
    """Return the file of the event log; None where none shall be kept."""
    return os.environ.get("ENVPACK_EVENTS") or None


def profile_path() -> Path | None:
    """Return the file of the profile; None where there is none."""
    explicit = os.environ.get("ENVPACK_PROFILE")
    return Path(explicit).expanduser().absolute() if explicit else None


def runs_folder() -> Path:
    """Return the folder with one for each run; it may not exist yet."""
    if explicit := os.environ.get("ENVPACK_RUNS"):
        return Path(explicit).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser().absolute() / "envpack" / "runs"


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def usable_memory() -> int:
    """Return the bytes of memory that calls may have here: what this machine has, and its control groups allow.

    A tenth of it is left to this process, to the system, and to calls that take more before anybody has seen it.
    """
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 9 * min([physical, *_group_limits()]) // 10


def _group_limits() -> list[int]:
    """Return the limits of all control groups that this process is in, as far as they can be read."""
    from envpack_monitor.trees.cgroup_files import VERSION_1, VERSION_2, places

    limits = []
    try:
        found = places(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    except OSError:
        return []
    for place in found:
        name = (VERSION_1 if place.version == 1 else VERSION_2).limit
        for folder in (place.folder, *place.folder.parents):
            try:
                limits.append(int((folder / name).read_text()))
            except (OSError, ValueError):
                continue  # another controller's hierarchy, above the mount, or without a limit
    return [limit for limit in limits if limit > 0]


def child_environ(environ: Mapping[str, str], threads: int, devices: tuple[int, ...] | None = None) -> dict[str, str]:
    """Return the environment variables of a context process.

    Args:
        environ: the variables of the process that starts it.
        threads: cores that each context process may fill.
        devices: indices of the GPUs that it may use, among those that the process which starts it may use; None for
            no say.
    """
    child = {**dict.fromkeys(THREAD_VARIABLES, str(threads)), **environ}
    child.pop("ENVPACK_PROFILE", None)
    if devices is not None:
        for name in DEVICE_VARIABLES:
            child[name] = ",".join(_device(environ, name, device) for device in devices)
    return child


def _device(environ: Mapping[str, str], name: str, index: int) -> str:
    """Return what the variable `name` must say for a device: its index, or what a scheduler has called it."""
    ours = environ.get(name) or environ.get(DEVICE_VARIABLES[0]) or ""
    names = [each.strip() for each in ours.split(",") if each.strip()]
    return names[index] if index < len(names) else str(index)
