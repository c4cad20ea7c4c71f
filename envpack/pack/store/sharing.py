"""A store of several users: one group, whose members add to it and cannot take away what is another's.

The folder of a shared store belongs to the group and hands it on (setgid); the folders in it are sticky as well, so
that only the owner of a file, or root, removes it. What is put there is readable for the group whatever the umask.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

FOLDERS = ("blobs", "layers", "locks", "tmp", "manifests", "environments", "index", "uses")

_SHARED = stat.S_ISGID | stat.S_IWGRP


def is_shared(folder: str | os.PathLike[str]) -> bool:
    """Tell whether what is made in a folder is to be made for its group; false where there is none."""
    try:
        return os.stat(folder).st_mode & _SHARED == _SHARED
    except OSError:
        return False


def share_store(root: Path, group: int | None) -> None:
    """Make the folders of a store, or change those that are there, so that a group can use it.

    Args:
        root: the store; what it holds already becomes readable for the group.
        group: id of the group; None for the one that the folder has.

    Raises:
        OSError: the folder cannot be made, or is another user's.
    """
    root.mkdir(parents=True, exist_ok=True)
    for folder in (root, *(root / name for name in FOLDERS)):
        folder.mkdir(exist_ok=True)
        for place, _, names in os.walk(folder) if folder != root else [(str(root), [], [])]:
            for path in (place, *(os.path.join(place, name) for name in names)):
                if group is not None:
                    os.chown(path, -1, group, follow_symlinks=False)
                _open_to_group(path)
        # After the owner: changing that takes the setgid bit away.
        os.chmod(folder, 0o2770 if folder == root else 0o3770)
    for lock in (root / "locks").iterdir():
        os.chmod(lock, 0o660)


def make_folder(folder: Path) -> None:
    """Make a folder of a store, and the store, as its siblings are; it may be there."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        return
    if is_shared(folder.parent):
        os.chmod(folder, 0o3770)


def share_tree(folder: Path, root: Path) -> None:
    """Let the group read what was made for a shared store, where the umask kept it out.

    Args:
        folder: what was made, not in its place yet.
        root: the store.
    """
    if not is_shared(root) or os.stat(folder).st_mode & 0o050 == 0o050:
        return
    for place, _, names in os.walk(folder):
        _open_to_group(place)
        for name in names:
            _open_to_group(os.path.join(place, name))


def share_lock(descriptor: int, folder: Path) -> None:
    """Let the group hold a lock that was made in a shared folder: that takes permission to write."""
    if is_shared(folder):
        os.fchmod(descriptor, 0o660)


def _open_to_group(path: str) -> None:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return
    wanted = mode | (0o050 if mode & 0o100 else 0o040)
    if wanted != mode:
        os.chmod(path, stat.S_IMODE(wanted))
