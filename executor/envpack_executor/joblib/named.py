"""What a pickle names: the classes, functions and modules that must be there where it is loaded."""

from __future__ import annotations

import pickletools
import sys
from typing import Any

from envpack_executor.process.frames import VALUES

_STRINGS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
_REMEMBERED = frozenset({"BINGET", "LONG_BINGET"})
# What comes to each process with our own code.
_BROUGHT = frozenset({VALUES})
# How cloudpickle names a module that a function sent by value uses: a call of this with its name.
_IMPORT = ("cloudpickle.cloudpickle", "subimport")


def named_in(stream: bytes) -> dict[str, Any]:
    """Return what a pickle names, by `module:name`, as this process has it; what it does not have is left out.

    Args:
        stream: made by a pickler of protocol 4 or later in this process. Nothing of it is executed.
    """
    found: dict[str, Any] = {}
    strings: list[str] = []  # that were pushed, last one last
    memo: list[str | None] = []
    top: str | None = None
    argument: Any
    was_import = False
    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name == "MEMOIZE":
            memo.append(top)
            continue
        if name in _STRINGS or name in _REMEMBERED:
            top = str(argument) if name in _STRINGS else memo[int(argument)]
            if top is not None:
                strings.append(top)
                if was_import:
                    _note(found, top, "")
            was_import = False
            continue
        top = None
        if name == "STACK_GLOBAL":
            module, attribute = strings[-2:]
            was_import = (module, attribute) == _IMPORT
            _note(found, module, attribute)
    return found


def _note(found: dict[str, Any], module: str, attribute: str) -> None:
    value: Any = sys.modules.get(module)
    if value is None or module in sys.builtin_module_names or module == "__main__" or module in _BROUGHT:
        return
    for part in attribute.split(".") if attribute else ():
        value = getattr(value, part, None)
    if value is None:
        return
    found[f"{module}:{attribute}"] = value
