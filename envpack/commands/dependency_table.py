"""The answer of `envpack analyze` as a table: what each function needs, how big it is, why, and what was not decided.

Plain text, at most as wide as asked wherever names and paths allow it: they are never cut. A row begins with name,
version, size and role; what does not fit beside them continues below.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from envpack.commands.output import size_text

if TYPE_CHECKING:
    from envpack.discover import Dependencies, Distribution, Evidence, FunctionDependencies

_ORDER = {"direct": 0, "hidden": 1, "optional": 2, "transitive": 3}
_LEAST_REASON = 24  # columns; with fewer left beside the rest, or too few for a long name, reasons go below
_INDENT = " " * 6

Title = Callable[[str], str]


def render(found: Dependencies, *, width: int, title: Title = str) -> str:
    """Return the answer as text.

    Args:
        found: the answer.
        width: columns that a line may take.
        title: how a heading is marked; a terminal may show it bold.
    """
    table = _Table(found, width)
    lines = [f"{found.target}: Python {found.python}, {found.platform}", *table.base()]
    for function in found.functions:
        lines += ["", title(f"{function.name or 'whole script'} needs"), *table.section(function)]
    if len(found.functions) > 1:
        lines += ["", title(f"all {len(found.functions)} together"), *table.total(found.distributions, found)]
    if found.verified:
        lines += ["", "verified: it ran with nothing but this answer"]
    if found.unresolved:
        lines += ["", title("could not decide"), *table.undecided()]
    return "".join(f"{line.rstrip()}\n" for line in lines)


class _Table:
    """Lays out the rows of one answer, all in the same columns."""

    def __init__(self, found: Dependencies, width: int) -> None:
        self._found = found
        self._width = max(width, 40)
        self._distributions = {item.name: item for item in found.distributions}
        self._imports = dict(zip(found.local_files, found.local_evidence, strict=False))
        self._short = _Paths(found)
        cells = [_cells(item) for item in found.distributions]
        # One long name among many must not push every reason to the next line.
        widest = (self._width * 7 // 20, 14, 8)
        self._columns = [
            min(most, max((len(row[position]) for row in cells), default=0)) for position, most in enumerate(widest)
        ]

    def base(self) -> Iterator[str]:
        """Say what the paths below are relative to, if not to the folder that the command stands in."""
        if self._short.base:
            yield f"paths are relative to {self._short.base}"

    def section(self, function: FunctionDependencies) -> Iterator[str]:
        """Give the lines about one function: its distributions, its local files, and how much that is."""
        needed = [self._distributions[name] for name in function.distributions]
        rows = [(item, *_reason(item, function, self._short)) for item in needed]
        for item, role, reason in sorted(rows, key=lambda row: (_ORDER[row[1]], row[0].name)):
            yield from self._row(_cells(item), role, reason)
        for path in function.local_files:
            yield from self._local_file(path)
        if any(item.kind == "source" and not item.module for item in function.unresolved):
            yield "  not known: it cannot be read, see below"
        elif needed or function.local_files:
            yield from self.total(needed, function, {item.name for item, role, _ in rows if role == "optional"})
        else:
            yield "  only the standard library"

    def total(
        self,
        items: Iterable[Distribution],
        files: FunctionDependencies | Dependencies,
        optional: set[str] | None = None,
    ) -> list[str]:
        """Say how many distributions and local files there are, and how big the distributions."""
        items = list(items)
        names = {item.name for item in items if item.role == "optional"} if optional is None else optional
        parts = [f"{_count(len(items), 'distribution')}, {size_text(sum(item.size_bytes for item in items))}"]
        if names:
            size = sum(item.size_bytes for item in items if item.name in names)
            parts.append(f"{len(names)} of them optional, {size_text(size)}")
        if files.local_files:
            parts.append(_count(len(files.local_files), "local file"))
        return self._folded(f"total: {'; '.join(parts)}", "  ")

    def undecided(self) -> Iterator[str]:
        """Give the lines about what could not be decided: where, what, and what to pass."""
        for item in self._found.unresolved:
            place = f"{self._short(item.file)}:{item.line}" if item.line else self._short(item.file)
            what = f"{item.module or 'an import'} ({item.kind})" if item.module or item.kind != "source" else "not read"
            first, *others = item.hint.splitlines() or [""]
            yield from self._folded(f"{place}: {what}: {first}", "  ")
            # A line of source and the caret under it stay as they are.
            yield from (f"  {line}" for line in others)

    def _row(self, cells: tuple[str, str, str], role: str, reason: str) -> Iterator[str]:
        name, version, size = cells
        names, versions, sizes = self._columns
        after = f"  {version:<{versions}}  {size:>{sizes}}  "
        if len(name) > names and len(name) + len(after) + _LEAST_REASON + 2 > self._width:
            yield f"  {name}"
            name = ""
        beside = f"  {name:<{names}}{after}"
        # Who requires it says enough: the word "transitive" would only take room.
        head = f"{beside}{role:<8}  " if role != "transitive" else beside
        left = self._width - len(head)
        longest = max(map(len, reason.split()), default=0)
        if len(reason) > left and (left < _LEAST_REASON or longest > left):
            yield head
            yield from self._folded(reason, _INDENT)
            return
        first, *others = _wrap(reason, left) or [""]
        yield head + first
        yield from (" " * len(head) + line for line in others)

    def _local_file(self, path: str) -> Iterator[str]:
        why = self._imports.get(path)
        because = f"  {why.module} at {self._short(why.file)}:{why.line}" if why is not None and why.line else ""
        yield from self._folded(f"local file  {self._short(path)}{because}", "  ")

    def _folded(self, text: str, indent: str) -> list[str]:
        return _wrap(text, self._width, indent)


def _wrap(text: str, width: int, first: str = "") -> list[str]:
    below = _INDENT if first else ""
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=below, break_long_words=False, break_on_hyphens=False
    )


class _Paths:
    """Shortens paths: relative to the working folder, or to that of the targets if they lie elsewhere."""

    def __init__(self, found: Dependencies) -> None:
        self.base = _base(found)
        self._from = self.base or os.getcwd()
        self._known: dict[str, str] = {}

    def __call__(self, path: str) -> str:
        if path not in self._known:
            relative = os.path.relpath(path, self._from) if os.path.isabs(path) else path
            self._known[path] = path if relative.startswith("..") else relative
        return self._known[path]


def _base(found: Dependencies) -> str:
    """Return the folder that all targets lie in; empty if the working folder holds them."""
    places = {item.file for function in found.functions for item in function.evidence if item.kind != "included"}
    places |= {item.file for item in found.unresolved if item.kind != "requirement"}
    folders = {os.path.dirname(path) for path in (*places, *found.local_files) if os.path.isabs(path)}
    if not folders or all(_is_inside(folder, os.getcwd()) for folder in folders):
        return ""
    common = os.path.commonpath(folders)
    return common if common.count(os.sep) > 1 else ""


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _cells(item: Distribution) -> tuple[str, str, str]:
    return item.name, item.version, size_text(item.size_bytes)


def _reason(item: Distribution, function: FunctionDependencies, short: Callable[[str], str]) -> tuple[str, str]:
    """Return role and reason of a distribution, as this function has them."""
    own = set(function.evidence)
    evidence = [one for one in item.evidence if one in own]
    by = [name for name in item.required_by if name in function.distributions]
    more = f" and {len(evidence) - 1} more" if len(evidence) > 1 else ""
    kinds = {one.kind for one in evidence}
    if kinds - {"optional", "hidden"}:
        return "direct", _place(evidence[0], short) + more
    if kinds and not (by and item.role == "transitive"):
        return "hidden" if "hidden" in kinds else "optional", _place(evidence[0], short) + more
    return "optional" if item.role == "optional" else "transitive", f"required by {', '.join(by)}"


def _place(one: Evidence, short: Callable[[str], str]) -> str:
    if one.kind == "included":
        return "asked for"
    # A plain import is the rule; what is less sure than that is said.
    kind = "" if one.kind == "static" else f" ({one.kind})"
    place = f"at {short(one.file)}:{one.line}" if one.line else f"in {short(one.file)}"
    return f"{one.module} {place}{kind}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
