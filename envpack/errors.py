"""Errors of `envpack`: one base, one child for each thing that a caller may want to do differently.

Every class carries the exit code with which the command line ends (`1` the user's program or check failed, `2` wrong
usage). The command line recognises an expected error of any of the three packages by that attribute, so that the
packages need not import each other. All survive pickling: `args` holds the constructor's arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

# How many characters of a line are shown: generated files have lines of megabytes.
_SHOWN = 120


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


class TargetNotFoundError(UsageError):
    """The script to analyse is not there, cannot be read, or is no Python source file."""


class FunctionNotFoundError(UsageError):
    """The script has no function of that name; the hint names those that are alike."""


class RunFailedError(EnvpackError):
    """The analysed program failed in its traced run, or with nothing but the answer; the answer may lack something."""


class SampleError(EnvpackError):
    """A sample call cannot be prepared: the script does not load, or its arguments cannot be evaluated or sent."""


class LoadError(EnvpackError):
    """A script cannot be imported to look at its live objects: it raised, ended its process, or did not end."""


class InterpreterError(UsageError):
    """The named interpreter cannot be run or is no Python interpreter."""


class SourceSyntaxError(EnvpackError):
    """A source file is not valid Python.

    Args:
        path: the file.
        line: line of the error, counted from 1.
        offset: column of the error, counted from 1; 0 where it is not known.
        text: the line itself, shown with a caret under the column; may be empty.
        reason: what the parser said.
    """

    def __init__(self, path: str, line: int, offset: int, text: str, reason: str) -> None:
        self.explanation = reason
        if text.strip():
            self.explanation += _pointed_at(text.rstrip(), offset)
        super().__init__(f"{path}:{line}: {self.explanation}")
        self.args = (path, line, offset, text, reason)
        self.path = path
        self.line = line
        self.offset = offset
        self.text = text
        self.reason = reason


def _pointed_at(text: str, offset: int) -> str:
    """Return a line with a caret under one of its columns; of a long line the part around it."""
    indent = len(text) - len(text.lstrip())
    column = min(max(indent, offset - 1), len(text))
    start = indent if column - indent <= _SHOWN // 2 else column - _SHOWN // 2
    return f"\n    {text[start : start + _SHOWN]}\n    {' ' * (column - start)}^"


class BrokenTargetsError(EnvpackError):
    """Some of several targets cannot be read or are not valid Python; the others have been analysed.

    Args:
        broken: file, line and reason of each; at least one. A reason may end with the line and a caret under it.
    """

    def __init__(self, broken: Sequence[tuple[str, int, str]]) -> None:
        listed = "\n".join(f"{file}:{line}: {reason}" if line else f"{file}: {reason}" for file, line, reason in broken)
        super().__init__(listed if len(broken) == 1 else f"{len(broken)} of the targets cannot be read:\n{listed}")
        self.args = (tuple(broken),)
        self.broken = tuple(broken)


class ModuleNotInstalledError(EnvpackError):
    """The code imports modules that the asked interpreter does not have.

    Args:
        missing: module, file and line of each import that cannot work; at least one.
    """

    def __init__(self, missing: Sequence[tuple[str, str, int]]) -> None:
        listed = ", ".join(f"{module!r} (imported at {file}:{line})" for module, file, line in missing)
        super().__init__(
            f"not installed in the analysed environment: {listed}",
            "install it there, name the interpreter that has it with --python, or leave it out with --exclude",
        )
        self.args = (tuple(missing),)
        self.missing = tuple(missing)
        self.module, self.file, self.line = missing[0]


class DependenciesFormatError(EnvpackError):
    """Data that should be a `Dependencies` object is not; the message names the place inside it."""


class LockError(EnvpackError):
    """A distribution of an answer cannot be written into a lock file: no address or no hash of it is known."""


class PackFormatError(EnvpackError):
    """A pack or layer file is truncated, damaged or of another format; reading it again cannot help."""


class DigestMismatchError(PackFormatError):
    """The content of a layer is not what its name promises.

    Args:
        layer: digest, or name and version, of the layer.
        source: file or peer that it came from.
        what: which part differs and how.
    """

    def __init__(self, layer: str, source: str, what: str) -> None:
        super().__init__(f"layer {layer} from {source} is not what its digest promises: {what}", "fetch it again")
        self.args = (layer, source, what)
        self.layer = layer
        self.source = source
        self.what = what


class IncompatiblePackError(EnvpackError):
    """The pack needs another Python or another platform than this machine offers."""


class StoreError(EnvpackError):
    """The store cannot do its work: no room, no permission, read-only, or locked for too long. A retry may help."""


class LayerMissingError(StoreError):
    """The store has neither the unpacked layer nor its file."""


class ManifestNotFoundError(UsageError):
    """The store knows no environment of that id."""


class ManifestFormatError(PackFormatError):
    """Data that should be a manifest is not; the message names the place inside it."""


class DistributionFilesError(EnvpackError):
    """The files of an installed distribution cannot be told: not installed there, or without a list of its files."""


class TargetDistributionError(DistributionFilesError):
    """A distribution cannot be had for the machine that is packed for: no wheel, or machine code of this one."""


class TrimError(EnvpackError):
    """The program does not run in its pack, or no more where files that it had not opened were left out."""


class RegistryError(EnvpackError):
    """The package index cannot be asked: not reached, not allowed, or not understood. A retry may help."""


class CondaRecordError(DistributionFilesError):
    """What conda noted of a package that is needed is not there or cannot be read, so its files cannot be told."""


class InterpreterNotMovableError(EnvpackError):
    """The interpreter is to be packed and would not run from another folder; the message says why."""


class PrefixTooLongError(UsageError):
    """The path of a folder is longer than what packages of conda have kept free for it in their binary files."""


class LayerConflictError(EnvpackError):
    """Two layers of one environment claim the same path with different content."""
