"""Runs commands on what looks like another machine: no network, no pip, and nothing of the client's files.

Started by a base interpreter in mount, network and process namespaces of its own, as `python -I bare.py REQUEST`, with
`machine.py` on the other side. The request is a JSON file; so is the report.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

_MS_BIND, _MS_REC = 4096, 16384
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str | None, flags: int = 0) -> None:
    """Call mount(2): the command resolves names, and what is kept has none any more."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    if _libc.mount(*words, ctypes.c_ulong(flags), None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def hide(hidden: list[str], kept: list[str]) -> None:
    """Put an empty folder over each hidden one, and what is kept back to where it was."""
    held = {path: os.open(path, os.O_PATH | os.O_DIRECTORY) for path in kept}
    for folder in sorted({os.path.realpath(folder) for folder in hidden}):
        if os.path.isdir(folder):
            mount("tmpfs", folder, "tmpfs")
    for path, descriptor in held.items():
        os.makedirs(path, exist_ok=True)
        mount(f"/proc/self/fd/{descriptor}", path, None, _MS_BIND | _MS_REC)


def left(hidden: list[str], kept: list[str]) -> list[str]:
    """Return the files that are still in hidden folders, besides what is kept."""
    found = []
    for top in hidden:
        for folder, folders, files in os.walk(top):
            folders[:] = [name for name in folders if f"{folder}/{name}" not in kept]
            found += [f"{folder}/{name}" for name in files]
    return found


def can_reach_network() -> bool:
    """Tell whether a datagram has any way out, even to this machine itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for address in ("127.0.0.1", "192.0.2.1"):
            try:
                sender.connect((address, 9))
            except OSError:
                continue
            return True
    return False


def base_site_packages() -> list[str]:
    """Return where the machine's own Python keeps distributions: the environment must do without them, and pip."""
    return [*{sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}, "/usr/lib/python3/dist-packages"]


def run(command: list[str], folder: str) -> dict[str, Any]:
    environ = {"PATH": "/usr/bin:/bin", "HOME": f"{folder}/home", "LANG": "C.UTF-8", "ENVPACK_STORE": f"{folder}/store"}
    os.makedirs(environ["HOME"], exist_ok=True)
    done = subprocess.run(command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def main(request_file: str) -> None:
    request = json.loads(Path(request_file).read_text())
    kept = [sys.base_prefix, request["folder"]]
    hide(request["hidden"], kept)
    hide(base_site_packages(), [])
    report = {
        "left": left(request["hidden"], kept),
        "can_reach_network": can_reach_network(),
        "has_pip": importlib.util.find_spec("pip") is not None,
        "runs": [run(command, request["folder"]) for command in request["commands"]],
    }
    Path(request["report"]).write_text(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])
