"""Which modules a function will import for certain, so that a context process can do it before the first call.

| function | imported when it is loaded, or called |
|---|---|
| sent by its name | its own module |
| sent by value | modules that it, or functions that travel with it, name or capture, or that own what goes by name |
| either | absolute `import` statements that stand first in its body, before anything else is done |

A module that a condition, a loop or a call stands before is left out: nothing is imported that the call would not
import. What cannot be imported is left to the call, which tells why.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

from envpack_executor.manager.state import Imports
from envpack_executor.pickling import taken_along, travels_by_name

MOST_IMPORTS = 64
# Instructions of which import statements consist, and that do nothing else.
_STATEMENT = frozenset(
    {
        *("RESUME", "NOP", "CACHE", "EXTENDED_ARG", "COPY_FREE_VARS", "MAKE_CELL"),
        *("LOAD_CONST", "LOAD_SMALL_INT", "IMPORT_NAME", "IMPORT_FROM"),
        *("STORE_FAST", "STORE_DEREF", "STORE_GLOBAL", "POP_TOP", "SWAP"),
    }
)


def imports_of(function: Any, by_value: str | None, is_forked: bool = False) -> Imports:
    """Return what a call of `function` imports before it does anything else.

    Args:
        function: any callable; only of plain functions more is known than their module.
        by_value: name of the module whose functions travel by value.
        is_forked: its calls run in children of the process. What they import themselves may start threads, beside
            which no further child could be made; so that is left to them.
    """
    plain = getattr(function, "__func__", function)
    found: dict[tuple[str, tuple[str, ...]], None] = {}
    if travels_by_name(function, by_value):
        found[function.__module__, ()] = None
    elif isinstance(plain, types.FunctionType):
        found.update(dict.fromkeys((name, ()) for name in _named_modules(plain, by_value)))
    if isinstance(plain, types.FunctionType) and not is_forked:
        found.update(dict.fromkeys(_first_imports(plain.__code__)))
    return tuple(found)[:MOST_IMPORTS]


def _named_modules(function: types.FunctionType, by_value: str | None) -> Iterator[str]:
    """Yield the modules that a process imports when it loads a function that travels by value."""
    waiting, known = [function], {function}
    while waiting:
        for value in taken_along(waiting.pop()):
            if isinstance(value, types.ModuleType):
                yield value.__name__
            elif isinstance(value, types.FunctionType | type) and travels_by_name(value, by_value):
                yield value.__module__
            elif isinstance(value, types.FunctionType) and value not in known:
                known.add(value)
                waiting.append(value)


def _first_imports(code: types.CodeType) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the absolute imports with which the body of a function begins."""
    from opcode import opmap

    if opmap["IMPORT_NAME"] not in code.co_code[::2]:
        return
    from dis import get_instructions

    constants: list[Any] = []
    for instruction in get_instructions(code):
        if instruction.opname not in _STATEMENT:
            return
        if instruction.opname in ("LOAD_CONST", "LOAD_SMALL_INT"):
            constants.append(instruction.argval)
        elif instruction.opname == "IMPORT_NAME":
            level, names = constants[-2:]
            if level == 0:
                yield instruction.argval, tuple(names or ())
