"""What differs between two answers about the same target: pure, for people and for checks of a project."""

from __future__ import annotations

from collections.abc import Iterator

from envpack.discover.dependencies import Dependencies


def changes(old: Dependencies, new: Dependencies) -> tuple[str, ...]:
    """Return one line per difference: `+` for what is new, `-` for what is gone, `~` for what has changed.

    Evidence is not compared: a line that only moved changes nothing of what is needed.
    """
    return (*_python(old, new), *_distributions(old, new), *_files(old, new), *_undecided(old, new))


def _python(old: Dependencies, new: Dependencies) -> Iterator[str]:
    if old.python != new.python:
        yield f"~ Python {old.python} -> {new.python}"
    if old.platform != new.platform:
        yield f"~ platform {old.platform} -> {new.platform}"


def _distributions(old: Dependencies, new: Dependencies) -> Iterator[str]:
    before = {item.name: item for item in old.distributions}
    after = {item.name: item for item in new.distributions}
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        if was is None and now is not None:
            yield f"+ {name} {now.version} ({now.role})"
        elif was is not None and now is None:
            yield f"- {name} {was.version} ({was.role})"
        elif was is not None and now is not None:
            if was.version != now.version:
                yield f"~ {name} {was.version} -> {now.version}"
            if was.role != now.role:
                yield f"~ {name} ({was.role}) -> ({now.role})"


def _files(old: Dependencies, new: Dependencies) -> Iterator[str]:
    before, after = set(old.local_files), set(new.local_files)
    for path in sorted(before ^ after):
        yield f"{'+' if path in after else '-'} local file {path}"


def _undecided(old: Dependencies, new: Dependencies) -> Iterator[str]:
    before, after = ({(item.module, item.file, item.kind) for item in one.unresolved} for one in (old, new))
    for module, file, kind in sorted(before ^ after):
        sign = "+" if (module, file, kind) in after else "-"
        yield f"{sign} could not decide: {module or 'an import'} ({kind}) in {file}"
