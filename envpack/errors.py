"""Errors of `envpack`: one base, one child for each thing that a caller may want to do differently.

Every class carries the exit code with which the command line ends (`1` the user's program or check failed, `2` wrong
usage). The command line recognises an expected error of any of the three packages by that attribute, so that the
packages need not import each other. All survive pickling: `args` holds the constructor's arguments.
"""

from __future__ import annotations

from typing import ClassVar


class EnvpackError(Exception):
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


class UsageError(EnvpackError):
    """What was asked cannot be done as it was asked: no such file, function or option value."""

    exit_code: ClassVar[int] = 2


class InternalError(EnvpackError):
    """A bug of envpack itself, with the story that led there."""
