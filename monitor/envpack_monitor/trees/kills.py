"""Out-of-memory kills by the kernel, told apart from any other SIGKILL.

Where the tree has a memory cgroup of its own, the group counts its kills. Without one there is the machine's counter:
that it has risen while the tree was running, and a process of it died of SIGKILL, makes it likely, not certain.
"""

from __future__ import annotations

from envpack_monitor.trees import tree


class Kills:
    """The machine's out-of-memory kills since this object was made."""

    def __init__(self) -> None:
        self._before = _oom_kills()

    def by_kernel(self) -> int:
        """Return how many there were on this machine."""
        return _oom_kills() - self._before


def _oom_kills() -> int:
    """Return the counter since boot; 0 where the kernel, before 4.13, has none."""
    text = tree.read("/proc/vmstat")
    at = text.find(b"\noom_kill ")
    return int(text[at + 10 :].split(None, 1)[0]) if at >= 0 else 0
