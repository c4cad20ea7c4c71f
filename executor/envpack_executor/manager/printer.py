"""Where the client sees what its calls print, on whichever machine they run.

| `ContextExecutor(output=...)` | what a call prints |
|---|---|
| `"inherit"` | appears where its worker's own output does; nothing comes here |
| `"stream"` | appears in `sys.stdout` and `sys.stderr` of the client |
| a function | is given to it |
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Literal

from envpack_executor.manager.state import ProcessRecord

_log = logging.getLogger(__name__)

OnPrint = Callable[[str, str, str], object]
"""Takes the category of the call, `stdout` or `stderr`, and the text."""
OutputChoice = OnPrint | Literal["inherit", "stream"]


def printer(choice: OutputChoice) -> OnPrint | None:
    """Return who takes what calls print; None where it is not wanted here.

    Raises:
        ValueError: the choice is unknown.
    """
    if choice == "inherit":
        return None
    if choice == "stream":
        return _show
    if callable(choice):
        return choice
    raise ValueError(f"output is {choice!r}, expected 'inherit', 'stream' or a function")


def tell(on_print: OnPrint, process: ProcessRecord, pieces: list[tuple[str, int, str]]) -> None:
    """Hand on what calls of a process have printed; who takes it may fail without harm to anybody else.

    Args:
        on_print: takes it.
        process: theirs.
        pieces: see `messages.ProcessPrinted`.
    """
    for stream, number, text in pieces:
        try:
            on_print(_category(process, number), stream, text)
        except Exception:
            _log.exception("while what a call printed was shown")


def _category(process: ProcessRecord, number: int) -> str:
    """Return the category of a call; between calls, as in a set-up, the name of the context."""
    index = number - process.first
    calls = process.outstanding
    return calls[index].function.category if 0 <= index < len(calls) else process.context.name


def _show(category: str, stream: str, text: str) -> None:
    target = getattr(sys, stream)
    if target is not None:
        target.write(text)
        target.flush()
