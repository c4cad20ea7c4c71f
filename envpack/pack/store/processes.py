"""Which environments the processes of this machine run from, as the kernel shows them.

The name of an environment's folder (32 and 8 hexadecimal digits) is looked for in what each process was started with,
in its variables, its folder, its program and the files that it has mapped. So a process is seen that was started as
`.../bin/python`, or through a variable such as `VIRTUAL_ENV` or `PATH`, or that has loaded a library from there, also
where the store has another path (a container, a link). Of other users' processes only the command line can be seen.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

_NAME = re.compile(rb"[0-9a-f]{32}-[0-9a-f]{8}(?![0-9a-f])")


def running_environments(proc: str = "/proc") -> dict[str, int]:
    """Return the names of environments that processes run from, each with the id of one of them.

    Args:
        proc: where the kernel shows its processes; empty, the answer is empty, too.
    """
    found: dict[str, int] = {}
    with suppress(FileNotFoundError):
        for pid in os.listdir(proc):
            if pid.isdigit():
                for name in set(_NAME.findall(_shown(f"{proc}/{pid}"))):
                    found.setdefault(name.decode(), int(pid))
    return found


def _shown(folder: str) -> bytes:
    parts = []
    for name in ("cmdline", "environ", "maps"):
        # Ended meanwhile, or another user's.
        with suppress(OSError), open(f"{folder}/{name}", "rb") as stream:
            parts.append(stream.read())
    for name in ("cwd", "exe"):
        with suppress(OSError):
            parts.append(os.fsencode(os.readlink(f"{folder}/{name}")))
    return b"\0".join(parts)
