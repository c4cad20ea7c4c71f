"""What `history replay` and `history pack` share: where calls come from, the size of the node, the line of progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envpack_monitor.allocation import Allocation
    from envpack_monitor.predict.trace import Trace


def load_trace(source: str) -> Trace:
    """Return the calls of a trace, or of a category of the history.

    Args:
        source: a file if it is there or looks like one (`.csv`, a slash), else a category.

    Raises:
        FormatError: the file cannot be read or holds no call whose needs are known.
        UnknownCategoryError: there is no such category.
    """
    from pathlib import Path

    from envpack_monitor.commands.output import note
    from envpack_monitor.errors import FormatError
    from envpack_monitor.predict.trace import read_trace

    path = Path(source)
    if not (path.is_file() or path.suffix.lower() == ".csv" or "/" in source):
        return _remembered(source)
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            trace = read_trace(lines, source)
    except OSError as error:
        raise FormatError(f"cannot read {source}: {error.strerror}", "name a CSV file, or a category") from error
    if not trace.calls:
        raise FormatError(f"{source}: no call with a peak and a wall time", "peak_mb and wall_s must not all be empty")
    if trace.left_out:
        note(f"envpack: {source}: {trace.left_out} calls without a peak or a wall time left out")
    return trace


def node_for(needed_bytes: int, memory_text: str, cores: float = 1.0) -> Allocation:
    """Return a node; if it has to be larger than was said, a note says so.

    Args:
        needed_bytes: what it must hold.
        memory_text: what it has at least, such as `128GB`.
        cores: of the node.

    Raises:
        FormatError: the text is not a size.
    """
    from envpack_monitor.allocation import Allocation
    from envpack_monitor.commands.output import note
    from envpack_monitor.errors import FormatError
    from envpack_monitor.units import format_bytes, parse_bytes

    try:
        memory_bytes = parse_bytes(memory_text)
    except ValueError as error:
        raise FormatError(f"memory of the node: {error}") from error
    if needed_bytes > memory_bytes:
        note(f"envpack: the node gets {format_bytes(needed_bytes)}: the trace does not fit into {memory_text}")
    return Allocation(memory_bytes=max(memory_bytes, needed_bytes), cores=cores)


def progress(text: str) -> None:
    """Show on a terminal what is being done, on one line of stderr; an empty text clears it."""
    import sys

    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def _remembered(category: str) -> Trace:
    from envpack_monitor.errors import UnknownCategoryError
    from envpack_monitor.history.history import History
    from envpack_monitor.learning import tells_need
    from envpack_monitor.predict.trace import Trace, TracedCall

    # An aggregate of many calls says what the largest needed, not what each did.
    all_calls = History().calls(category)
    calls = [call for call in all_calls if tells_need(call) and call.peak_memory_bytes and call.calls == 1]
    if not calls:
        raise UnknownCategoryError(
            f"no call of category {category!r} tells what it needed", "all failed or were not measured"
        )
    return Trace(category, [TracedCall(call, call.cores or 1.0) for call in calls], len(all_calls) - len(calls))
