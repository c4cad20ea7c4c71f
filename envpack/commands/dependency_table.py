"""The answer of `envpack analyze` as a table: what each function needs, why, and what could not be decided."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from envpack.discover import Dependencies, Distribution, FunctionDependencies


def render(found: Dependencies, *, is_terminal: bool) -> str:
    """Return the answer as text; a terminal gets its width and bold titles, a pipe neither colour nor folded lines."""
    import io

    from rich.console import Console

    text = io.StringIO()
    # Without a terminal nothing is cut or folded: a line of a pipe is a line of the answer.
    console = Console(file=text, force_terminal=is_terminal, width=None if is_terminal else 10_000, highlight=False)
    console.print(f"{found.target}: Python {found.python}, {found.platform}", markup=False)
    for function in found.functions:
        console.print()
        console.print(f"{function.name or 'whole script'} needs", style="bold", markup=False)
        _print_distributions(console, function, found)
        imports = dict(zip(found.local_files, found.local_evidence, strict=False))
        for path in function.local_files:
            why = imports.get(path)
            because = f"  {why.module} at {_short(why.file)}:{why.line}" if why is not None and why.line else ""
            console.print(f"  local file  {_short(path)}{because}", markup=False)
    if found.verified:
        console.print("\nverified: it ran with nothing but this answer", markup=False)
    _print_undecided(console, found)
    return "".join(line.rstrip() + "\n" for line in text.getvalue().splitlines())


def _print_distributions(console: Console, function: FunctionDependencies, found: Dependencies) -> None:
    from rich.table import Table
    from rich.text import Text

    order = {"direct": 0, "hidden": 1, "optional": 2, "transitive": 3}
    rows = [_row(item, function) for item in found.distributions if item.name in function.distributions]
    if not rows:
        console.print("  only the standard library")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    for row in sorted(rows, key=lambda one: (order[one[2]], one)):
        table.add_row("", *map(Text, row))
    console.print(table)


def _row(item: Distribution, function: FunctionDependencies) -> tuple[str, str, str, str]:
    """Return name, version, role and reason of a distribution, as this function has them."""
    evidence = [one for one in item.evidence if one.kind in ("included", "declared") or one.module in function.modules]
    if not evidence:
        role = "optional" if item.role == "optional" else "transitive"
        by = [name for name in item.required_by if name in function.distributions]
        return item.name, item.version, role, f"required by {', '.join(by)}"
    first = evidence[0]
    if first.kind == "included":
        return item.name, item.version, item.role, "asked for"
    more = f" and {len(evidence) - 1} more" if len(evidence) > 1 else ""
    reason = f"{first.module} at {_short(first.file)}:{first.line} ({first.kind}){more}"
    return item.name, item.version, item.role, reason


def _print_undecided(console: Console, found: Dependencies) -> None:
    if not found.unresolved:
        return
    console.print()
    console.print("could not decide", style="bold")
    for item in found.unresolved:
        place = f"{_short(item.file)}:{item.line}" if item.line else _short(item.file)
        console.print(f"  {place}: {item.module or 'an import'} ({item.kind}): {item.hint}", markup=False)


def _short(path: str) -> str:
    """Return a path relative to the working folder where it lies in it."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
