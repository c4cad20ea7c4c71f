"""Reading and parsing source files: every encoding that Python accepts (PEP 263), and errors that show the place."""

from __future__ import annotations

import ast
import os
import warnings

from envpack.errors import SourceSyntaxError, TargetNotFoundError


def parse_file(path: str) -> ast.Module:
    """Parse a source file without executing it.

    Raises:
        TargetNotFoundError: the file is not there, is a folder, or cannot be read.
        SourceSyntaxError: it is not valid Python for the interpreter that runs.
    """
    if os.path.isdir(path):
        raise TargetNotFoundError(f"target is a folder: {path!r}, a Python source file expected", "name a file in it")
    if os.path.exists(path) and not os.path.isfile(path):
        raise TargetNotFoundError(f"not a regular file: {path!r}", "name a Python source file")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise TargetNotFoundError(f"no such file: {path!r}", "give the path of a Python source file") from None
    except OSError as error:
        raise TargetNotFoundError(f"cannot read {path!r}: {error.strerror or error}") from error
    return parse_bytes(content, path)


def parse_bytes(content: bytes, path: str) -> ast.Module:
    """Parse the content of a source file; `path` is for messages only."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the author's invalid escapes are not ours to report
            return ast.parse(content, path)
    except SyntaxError as error:
        reason = error.msg or "invalid syntax"
        raise SourceSyntaxError(path, error.lineno or 1, error.offset or 0, error.text or "", reason) from None
    except ValueError as error:  # null bytes, before Python 3.12
        raise SourceSyntaxError(path, 1, 0, "", str(error)) from None
    except (RecursionError, MemoryError):
        raise SourceSyntaxError(path, 1, 0, "", "nested too deeply for Python's parser") from None
