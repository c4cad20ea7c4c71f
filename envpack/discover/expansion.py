"""What is meant by several targets, a folder or a pattern: one file after another, each with the name it goes by.

The name is the path as it was given or found: `scripts/a.py`, or `scripts/a.py:function`. Folders that hold no code of
the user's are passed over: hidden ones, virtual environments, `__pycache__`, `node_modules`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from envpack.discover.target import split_target
from envpack.errors import TargetNotFoundError
from envpack.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Target = str | os.PathLike[str] | Callable[..., "Any"]

SUFFIXES = (".py", ".ipynb")
_PASSED_OVER = frozenset({"__pycache__", "node_modules"})
_ENVIRONMENT_MARKS = ("pyvenv.cfg", "conda-meta")


@dataclass(frozen=True, slots=True)
class Member:
    """One of several targets.

    Attributes:
        target: a function, or what can be asked about alone: `path`, `path:function`, `-m module`.
        is_found: whether the caller did not name it, but a folder or pattern that holds it.
        problem: why it cannot be asked about, for a folder that is closed to us.
    """

    target: str | Callable[..., Any]
    is_found: bool = False
    problem: str = ""


def is_several(target: object) -> bool:
    """Whether a single target stands for several files: a folder that is no package, or a pattern."""
    if not isinstance(target, str | os.PathLike):
        return False
    path = split_target(os.fspath(target))[0]
    return _is_plain_folder(path) or _is_pattern(path)


def expand(targets: Iterable[Target]) -> tuple[Member, ...]:
    """Return the members of some targets in their order, each once.

    Raises:
        TargetNotFoundError: a path is not there, a folder holds no Python file, a pattern matches none; all are named.
    """
    members: dict[object, Member] = {}
    problems: list[str] = []
    for target in targets:
        try:
            for member in _members(target):
                members.setdefault(_identity(member), member)
        except TargetNotFoundError as error:
            problems.append(error.message)
    if problems:
        raise TargetNotFoundError("; ".join(problems), "name Python files, notebooks or folders that hold some")
    return tuple(members.values())


def python_files(folder: str) -> tuple[list[str], list[str]]:
    """Return the Python files and notebooks below a folder, sorted, and the folders that cannot be read."""
    closed: list[str] = []
    found: list[str] = []
    for place, folders, files in os.walk(folder, onerror=lambda error: closed.append(str(error.filename))):
        folders[:] = sorted(name for name in folders if not _is_passed_over(os.path.join(place, name)))
        found += [os.path.join(place, name) for name in sorted(files) if name.endswith(SUFFIXES)]
    return found, closed


def _members(target: Target) -> Iterator[Member]:
    if not isinstance(target, str | os.PathLike):
        yield Member(target)
        return
    text = os.fspath(target)
    if text.startswith("-m "):
        yield Member(text)
        return
    path, name = _named(text)
    if _is_plain_folder(path):
        files, closed = python_files(path)
        if name or not (files or closed):
            raise TargetNotFoundError(f"function {name!r} of a folder: {path!r}" if name else _empty(path))
        yield from (Member(os.path.normpath(file), is_found=True) for file in files)
        yield from (Member(os.path.normpath(folder), True, "the folder cannot be read") for folder in closed)
    elif os.path.exists(path):
        yield Member(f"{os.path.normpath(path)}:{name}" if name else os.path.normpath(path))
    elif _is_pattern(path):
        yield from _matches(path, name)
    else:
        raise TargetNotFoundError(f"no such file: {path!r}")


def _matches(pattern: str, name: str) -> Iterator[Member]:
    import glob

    found = [path for path in sorted(glob.glob(pattern, recursive=True)) if path.endswith(SUFFIXES)]
    # `**` would also lead into environments.
    files = [path for path in found if os.path.isfile(path) and not _is_inside_passed_over(path, pattern)]
    if not files:
        raise TargetNotFoundError(f"no Python file matches {pattern!r}")
    for path in files:
        yield Member(f"{os.path.normpath(path)}:{name}" if name else os.path.normpath(path), is_found=True)


def _named(text: str) -> tuple[str, str]:
    """Split a target like `split_target`, keeping the path as it was written."""
    name = split_target(text)[1]
    return os.path.expanduser(text.removesuffix(f":{name}") if name else text), name


def _empty(folder: str) -> str:
    return f"no Python file in the folder {folder!r}"


def _identity(member: Member) -> object:
    if not isinstance(member.target, str):
        return id(member.target)
    return split_target(member.target)


def _is_plain_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.isfile(os.path.join(path, "__init__.py"))


def _is_pattern(path: str) -> bool:
    return _has_magic(path) and not os.path.exists(path)


def _has_magic(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _is_passed_over(folder: str) -> bool:
    name = os.path.basename(folder)
    if name.startswith(".") or name in _PASSED_OVER:
        return True
    return any(os.path.exists(os.path.join(folder, mark)) for mark in _ENVIRONMENT_MARKS)


def _is_inside_passed_over(path: str, pattern: str) -> bool:
    """Whether a folder between the fixed beginning of a pattern and a file that it matched is passed over."""
    fixed = len(_fixed(pattern.split(os.sep)))
    parts = path.split(os.sep)
    return any(_is_passed_over(os.sep.join(parts[:length])) for length in range(fixed + 1, len(parts)))


def _fixed(parts: Sequence[str]) -> Sequence[str]:
    magic = next((position for position, part in enumerate(parts) if _has_magic(part)), len(parts))
    return parts[:magic]
