"""Where this process's cgroups are, and what their files say. Pure: texts in, values out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LEAF = "envpack-leaf-"
"""How a group begins that this software has moved itself into, so that its parent may have groups with controllers."""


@dataclass(frozen=True, slots=True)
class Place:
    """The group that a process is in, in one hierarchy.

    Args:
        version: 1 or 2.
        controllers: those of the hierarchy (version 1); empty for version 2, whose groups say it themselves.
        folder: where the group's files are.
    """

    version: int
    controllers: frozenset[str]
    folder: Path


@dataclass(frozen=True, slots=True)
class Names:
    """The files of one version, and the words in them."""

    limit: str
    no_limit: str
    swap_limit: str
    peak: str
    usage: str
    events: str
    cache: tuple[str, ...]


VERSION_1 = Names(
    limit="memory.limit_in_bytes",
    no_limit="-1",
    swap_limit="memory.memsw.limit_in_bytes",
    peak="memory.max_usage_in_bytes",
    usage="memory.usage_in_bytes",
    events="memory.oom_control",
    cache=("total_inactive_file", "total_active_file"),
)
VERSION_2 = Names(
    limit="memory.max",
    no_limit="max",
    swap_limit="memory.swap.max",
    peak="memory.peak",
    usage="memory.current",
    events="memory.events",
    cache=("inactive_file", "active_file"),
)


def places(own: str, mounts: str) -> list[Place]:
    """Return the groups of a process in all hierarchies that are mounted.

    Args:
        own: the text of `/proc/PID/cgroup`.
        mounts: the text of `/proc/PID/mountinfo`.
    """
    groups = [line.split(":", 2) for line in own.splitlines() if line.count(":") >= 2]
    found = []
    for root, mount, kind, options in _mounts(mounts):
        for _, controllers, path in groups:
            names = frozenset(filter(None, controllers.split(",")))
            if kind == "cgroup2" and not names:
                found.append(Place(2, names, _inside(mount, root, path)))
            elif kind == "cgroup" and names and names <= options:
                found.append(Place(1, names, _inside(mount, root, path)))
    return found


def numbers(text: bytes) -> dict[str, int]:
    """Return the lines `NAME NUMBER` of a file such as `memory.stat`; other lines are left out."""
    found = {}
    for line in text.decode(errors="replace").splitlines():
        name, _, value = line.partition(" ")
        if value.isdecimal():
            found[name] = int(value)
    return found


def words(text: bytes) -> frozenset[str]:
    """Return the words of a file such as `cgroup.controllers`."""
    return frozenset(text.decode(errors="replace").split())


def cpu_s(text: bytes, version: int) -> float | None:
    """Return the processor seconds that `cpuacct.usage` (version 1) or `cpu.stat` (version 2) tells."""
    if version == 1:
        return int(text) / 1e9 if text.strip().isdigit() else None
    microseconds = numbers(text).get("usage_usec")
    return None if microseconds is None else microseconds / 1e6


def _mounts(text: str) -> Iterable[tuple[str, Path, str, frozenset[str]]]:
    """Yield (root inside the file system, mount point, type, super options) of every line of `mountinfo`."""
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if separator and len(fields) >= 5 and len(rest) >= 3:
            options = frozenset(option.removeprefix("name=") for option in rest[2].split(","))
            names = frozenset(option for option in rest[2].split(",") if option.startswith("name="))
            yield _plain(fields[3]), Path(_plain(fields[4])), rest[0], options | names


def _inside(mount: Path, root: str, path: str) -> Path:
    """Return the folder of a group, given what part of the hierarchy is mounted.

    In a container the mount begins at the container's own group. The path is told from the reader's cgroup namespace:
    with one of its own it is relative to that root; without, it begins with the root as the host sees it.
    """
    if root != "/" and (path == root or path.startswith(root.rstrip("/") + "/")):
        path = path[len(root.rstrip("/")) :]
    elif "/.." in path:
        # It lies outside of what this namespace shows.
        return mount
    return mount / path.lstrip("/")


def _plain(field: str) -> str:
    """Return a field of `mountinfo` without its escapes, `\\040` for a space."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
