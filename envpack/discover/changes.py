"""What differs between two answers about the same target: pure, for people and for checks of a project."""

from __future__ import annotations

from collections.abc import Iterator

from envpack.discover.dependencies import Dependencies, Distribution


def changes(old: Dependencies, new: Dependencies) -> tuple[str, ...]:
    """Return one line per difference: `+` for what is new, `-` for what is gone, `~` for what has changed.

    Evidence is not compared: a line that only moved changes nothing of what is needed.
    """
    return (
        *_python(old, new),
        *_functions(old, new),
        *_distributions(old, new),
        *_files(old, new),
        *_undecided(old, new),
    )


def _python(old: Dependencies, new: Dependencies) -> Iterator[str]:
    if old.python != new.python:
        yield f"~ Python {old.python} -> {new.python}"
    if old.platform != new.platform:
        yield f"~ platform {old.platform} -> {new.platform}"


def _functions(old: Dependencies, new: Dependencies) -> Iterator[str]:
    before = {item.name: set(item.distributions) for item in old.functions}
    after = {item.name: set(item.distributions) for item in new.functions}
    for name in sorted(before.keys() ^ after.keys()):
        yield f"{'+' if name in after else '-'} {f'function {name}' if name else 'whole script'}"
    # Of one function alone the distributions of the answer are its own.
    for name in sorted(before.keys() & after.keys()) if len(before) + len(after) > 2 else ():
        for needed in sorted(before[name] ^ after[name]):
            yield f"{'+' if needed in after[name] else '-'} {name or 'whole script'} needs {needed}"


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
            if (was.source, was.url) != (now.source, now.url):
                yield f"~ {name} from {_origin(was)} -> {_origin(now)}"
            if was.extras != now.extras:
                yield f"~ {name}[{','.join(was.extras)}] -> {name}[{','.join(now.extras)}]"


def _origin(item: Distribution) -> str:
    return f"{item.source} {item.url}".rstrip()


def _files(old: Dependencies, new: Dependencies) -> Iterator[str]:
    before, after = set(old.local_files), set(new.local_files)
    for path in sorted(before ^ after):
        yield f"{'+' if path in after else '-'} local file {path}"


def _undecided(old: Dependencies, new: Dependencies) -> Iterator[str]:
    before, after = ({(item.module, item.file, item.kind) for item in one.unresolved} for one in (old, new))
    for module, file, kind in sorted(before ^ after):
        sign = "+" if (module, file, kind) in after else "-"
        yield f"{sign} could not decide: {module or 'an import'} ({kind}) in {file}"
