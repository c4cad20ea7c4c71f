"""What the code object of a function imports and which globals it uses, read from its instructions."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator

_GLOBAL_OPERATIONS = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME"})


def imported_modules(code: types.CodeType, package: str) -> Iterator[str]:
    """Give the modules that a code object and those inside it import.

    Args:
        code: the code.
        package: the package that relative imports start from.
    """
    for one in codes(code):
        instructions = list(dis.get_instructions(one))
        for position, instruction in enumerate(instructions):
            if instruction.opname == "IMPORT_NAME" and isinstance(instruction.argval, str):
                level = instructions[position - 2].argval if position >= 2 else 0
                base = _absolute(instruction.argval, level if isinstance(level, int) else 0, package)
                yield base
                for following in instructions[position + 1 :]:
                    if following.opname == "IMPORT_FROM":
                        yield f"{base}.{following.argval}"
                    elif following.opname not in ("STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF", "COPY"):
                        break


def global_names(code: types.CodeType) -> set[str]:
    """Return the names that a code object and those inside it look up among the globals of their module."""
    return {
        instruction.argval
        for one in codes(code)
        for instruction in dis.get_instructions(one)
        if instruction.opname in _GLOBAL_OPERATIONS
    }


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Give a code object and all that are nested in it."""
    pending = [code]
    while pending:
        one = pending.pop()
        yield one
        pending += [constant for constant in one.co_consts if isinstance(constant, types.CodeType)]


def _absolute(name: str, level: int, package: str) -> str:
    if not level:
        return name
    parts = package.split(".") if package else []
    kept = parts[: len(parts) - (level - 1)]
    return ".".join([*kept, *([name] if name else [])])
