"""An environment that holds some distributions of another one and nothing else, made of links.

A virtual environment of the same base interpreter, in which every file that a distribution's RECORD lists is linked to
where it lies; a folder inside a package that holds nothing else is linked as a whole. Console scripts are copied, so
that they start the interpreter of the replica.

Of an environment of conda everything is there that is no module of Python: libraries and data of other packages, which
its modules find by where they are themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Optional

from envpack.discover.environment.distributions import DistributionIndex
from envpack.discover.environment.interpreter import Interpreter
from envpack.discover.environment.metadata import InstalledDistribution

_MAX_SHEBANG = 1024

Tree = dict[str, Optional["Tree"]]  # None: a file


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
    if os.path.isdir(os.path.join(interpreter.prefix, "conda-meta")):
        _link_others(interpreter.prefix, folder, os.path.basename(os.path.dirname(site)))
    for name in names:
        distribution = index.get(name)
        if distribution is not None:
            inside, outside = _files(distribution)
            _link_tree(distribution.location, site, inside, 0)
            for path in outside:
                relative = os.path.relpath(path, interpreter.prefix)
                if not relative.startswith(os.pardir + os.sep):
                    _link(path, os.path.join(folder, relative), python)
    return python


def _link_others(prefix: str, folder: str, modules: str) -> None:
    """Link what an environment of conda holds besides its commands and the folder of its modules."""
    own = {"bin", "lib", "pyvenv.cfg", "conda-meta", os.path.join("lib", modules)}
    for below in ("", "lib"):
        for name in os.listdir(os.path.join(prefix, below)):
            if os.path.join(below, name) not in own:
                _link(os.path.join(prefix, below, name), os.path.join(folder, below, name), "")


def _files(distribution: InstalledDistribution) -> tuple[Tree, list[str]]:
    """Return the files of a distribution below its location as a tree, and the paths of the others."""
    files: Iterable[str] = distribution.files
    if distribution.conda_record:
        from envpack.discover.environment.conda import site_files

        # What conda put there may be more than what the package says of itself.
        below = site_files(distribution.conda_record, distribution.location)
        files = {*files, *(os.path.normpath(os.path.join(distribution.location, name)) for name in below)}
    if not files:
        # No list of files (old egg-info, Debian): what it says is importable, and its metadata.
        beside = [os.path.join(distribution.location, name) for name in distribution.top_level]
        found = [path for name in beside for path in (name, f"{name}.py") if os.path.exists(path)]
        files = [*found, distribution.metadata]
    inside: Tree = {}
    outside = []
    start = distribution.location.rstrip(os.sep) + os.sep
    for path in sorted(files):
        if not path.startswith(start):
            outside.append(path)
            continue
        *folders, name = path[len(start) :].split(os.sep)
        node = inside
        for part in folders:
            inner = node.get(part)
            if inner is None:
                inner = node[part] = {}
            node = inner
        node[name] = None
    return inside, outside


def _link_tree(source: str, place: str, tree: Tree, depth: int) -> None:
    for name, inner in tree.items():
        path, target = os.path.join(source, name), os.path.join(place, name)
        if inner is None:
            _link(path, target, "")
        elif depth and _is_whole(path, inner):
            # Not at the top: `package/../other` must stay inside the replica.
            _link(path, target, "")
        else:
            os.makedirs(target, exist_ok=True)
            _link_tree(path, target, inner, depth + 1)


def _is_whole(folder: str, tree: Tree) -> bool:
    """Whether everything in a folder is listed, but for what Python has compiled there."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == "__pycache__" or entry.name.endswith(".pyc"):
                    continue
                if entry.name not in tree:
                    return False
                inner = tree[entry.name]
                if inner is not None and not _is_whole(entry.path, inner):
                    return False
    except OSError:
        return False
    return True


def _link(path: str, place: str, python: str) -> None:
    if os.path.lexists(place) or not os.path.lexists(path):
        return  # listed, but not there
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if python and os.path.dirname(place) == os.path.dirname(python) and _copy_command(path, place, python):
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
