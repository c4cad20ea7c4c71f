"""An environment that holds some distributions of another one and nothing else, made of links.

A virtual environment of the same base interpreter, in which every file that a distribution's RECORD lists is linked to
where it lies. Console scripts are copied, so that they start the interpreter of the replica.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from envpack.discover.distributions import DistributionIndex, InstalledDistribution
from envpack.discover.interpreter import Interpreter

_MAX_SHEBANG = 1024


def make_replica(folder: str, interpreter: Interpreter, index: DistributionIndex, names: Iterable[str]) -> str:
    """Make a replica and return the path of its interpreter.

    Args:
        folder: where to make it; it must not exist.
        interpreter: the interpreter whose environment is replicated.
        index: the distributions of that environment.
        names: those to take.
    """
    major, minor, _ = interpreter.version_info
    site = os.path.join(folder, "lib", f"python{major}.{minor}", "site-packages")
    commands = os.path.join(folder, "bin")
    os.makedirs(site)
    os.makedirs(commands)
    python = os.path.join(commands, "python")
    os.symlink(interpreter.base_executable, python)
    for alias in ("python3", f"python{major}.{minor}"):
        os.symlink("python", os.path.join(commands, alias))
    home = os.path.dirname(interpreter.base_executable)
    with open(os.path.join(folder, "pyvenv.cfg"), "w", encoding="utf-8") as file:
        file.write(f"home = {home}\ninclude-system-site-packages = false\nversion = {interpreter.version}\n")
    for name in names:
        distribution = index.get(name)
        if distribution is not None:
            for path in _files(distribution):
                _link(path, _place(path, distribution, interpreter, folder, site), python)
    return python


def _files(distribution: InstalledDistribution) -> Iterable[str]:
    if distribution.files:
        return sorted(distribution.files)
    # No list of files (old egg-info, Debian): what it says is importable, and its metadata.
    beside = {name: os.path.join(distribution.location, name) for name in distribution.top_level}
    found = [path for name in beside.values() for path in (name, f"{name}.py") if os.path.exists(path)]
    return sorted([*found, distribution.metadata])


def _place(path: str, distribution: InstalledDistribution, interpreter: Interpreter, folder: str, site: str) -> str:
    """Return where a file of a distribution goes: like the original, seen from its site-packages or its prefix."""
    relative = os.path.relpath(path, distribution.location)
    if not relative.startswith(os.pardir + os.sep):
        return os.path.join(site, relative)
    relative = os.path.relpath(path, interpreter.prefix)
    return "" if relative.startswith(os.pardir + os.sep) else os.path.join(folder, relative)


def _link(path: str, place: str, python: str) -> None:
    if not place or os.path.lexists(place) or not os.path.lexists(path):
        return  # listed, but not there: what `verify` of a pack reports
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if os.path.dirname(place) == os.path.dirname(python) and _copy_command(path, place, python):
        return
    os.symlink(path, place)


def _copy_command(path: str, place: str, python: str) -> bool:
    """Copy a script of Python with its interpreter replaced; return whether it was one."""
    with open(path, "rb") as file:
        head = file.read(_MAX_SHEBANG)
        first, newline, rest = head.partition(b"\n")
        if not (first.startswith(b"#!") and b"python" in first and newline):
            return False
        content = b"#!" + os.fsencode(python) + b"\n" + rest + file.read()
    with open(place, "wb") as copy:
        copy.write(content)
    os.chmod(place, 0o755)
    return True
