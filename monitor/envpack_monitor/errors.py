"""Errors of `envpack_monitor`: one base, one child for each thing that a caller may want to do differently.

Every class carries the exit code with which the command line ends: `1` the user's program failed, `2` wrong usage, `3`
a limit was exceeded. All survive pickling.
"""

from __future__ import annotations

import signal as signals
from typing import ClassVar

from envpack_monitor.units import format_figure


class MonitorError(Exception):
    """Base of all expected errors of this package.

    Args:
        message: a lower-case fragment with what was met and what was expected.
        hint: what to do about it, or an empty string.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class FormatError(MonitorError):
    """A text or an object does not have the form that it must have; all problems are named at once."""

    exit_code: ClassVar[int] = 2


class UnknownCategoryError(MonitorError):
    """The history holds no call of this category."""

    exit_code: ClassVar[int] = 2


class CommandNotFoundError(MonitorError):
    """There is no such command, or it may not be executed."""

    exit_code: ClassVar[int] = 2


class ProcessNotFoundError(MonitorError):
    """There is no such process, or it is not ours to look at."""

    exit_code: ClassVar[int] = 2


class MechanismError(MonitorError):
    """The kernel does not allow the way of measuring that was asked for."""

    exit_code: ClassVar[int] = 2


class MissingLibraryError(MonitorError):
    """Something optional was asked for, and the library that it needs is not installed.

    Args:
        library: what is missing.
        purpose: what needs it.
        extra: the extra of this package that brings it.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, library: str, purpose: str, extra: str) -> None:
        hint = f"pip install {library}, or install envpack with its extra '{extra}'"
        super().__init__(f"{purpose} needs {library}, which is not installed", hint)
        self.args = (library, purpose, extra)


class HistoryError(MonitorError):
    """The history can be neither read nor written: no permission, no room, or made by a newer version."""


class LimitExceeded(MonitorError):
    """A call or a command used more than it was allowed; what was still running of it has been killed.

    Args:
        resource: `memory`, `wall`, `cpu`, `disk` or `processes`.
        allowed: the limit, in bytes, seconds or processes.
        measured: what was used, in the same unit.
        category: whose call it was.
        pid: the process that was measured; `None` if that is not known.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, resource: str, allowed: float, measured: float, category: str, pid: int | None = None) -> None:
        who = repr(category) + (f" (pid {pid})" if pid is not None else "")
        used = format_figure(resource, measured)
        # The kernel has refused what would have been more.
        used = f"{used} used by {who}" if measured > allowed else f"all of it used by {who}, which asked for more"
        figures = f"{format_figure(resource, allowed)} allowed, {used}"
        super().__init__(f"{resource} limit exceeded: {figures}")
        self.args = (resource, allowed, measured, category, pid)
        self.resource = resource
        self.allowed = allowed
        self.measured = measured
        self.category = category
        self.pid = pid


class IsolationError(MonitorError):
    """An isolated call ended without giving back a result or an exception."""


class ProcessExited(IsolationError):
    """The isolated call ended its process by itself (`os._exit`).

    Args:
        code: the exit status that it gave.
        category: whose call it was.
    """

    def __init__(self, code: int, category: str = "") -> None:
        super().__init__(f"the process of {category!r} exited: status {code} and no result")
        self.args = (code, category)
        self.code = code
        self.category = category


class ProcessKilled(IsolationError):
    """The isolated call was ended by a signal that nobody here sent.

    Args:
        signal: the number of the signal.
        category: whose call it was.
        is_out_of_memory: the kernel killed for want of memory on this machine, or in the group that the caller is in,
            while the call ran: most likely this call.
    """

    def __init__(self, signal: int, category: str = "", is_out_of_memory: bool = False) -> None:
        why = "the machine was out of memory" if is_out_of_memory else ""
        super().__init__(f"the process of {category!r} was killed: signal {_signal_name(signal)}", why)
        self.args = (signal, category, is_out_of_memory)
        self.signal = signal
        self.category = category
        self.is_out_of_memory = is_out_of_memory


class CallNotPicklable(IsolationError):
    """The function or an argument of it cannot travel to a fresh interpreter."""

    exit_code: ClassVar[int] = 2


class ResultNotPicklable(IsolationError):
    """The isolated call returned, or raised, a value that cannot travel to the caller's process."""


class RemoteTraceback(Exception):
    """The traceback of an exception as text, from the process in which it was raised; kept as the `__cause__`."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


def _signal_name(number: int) -> str:
    try:
        return f"{number} ({signals.Signals(number).name})"
    except ValueError:
        return str(number)
