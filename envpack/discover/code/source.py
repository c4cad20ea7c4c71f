"""Reading and parsing source files: every encoding that Python accepts (PEP 263), and errors that show the place.

A notebook is read as the source that its code cells make.
"""

from __future__ import annotations

import gc
import os
import warnings

from envpack.discover.code import syntax as ast
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
    if b"\0" in content and not path.endswith((".py", ".ipynb")):
        raise TargetNotFoundError(f"not a Python source file: {path!r} holds null bytes", "name a script or a notebook")
    if path.endswith(".ipynb"):
        from envpack.discover.code.notebook import notebook_source

        # Cells may await at their top level.
        return parse_bytes(notebook_source(content, path).encode(), path, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return parse_bytes(content, path)


def parse_bytes(content: bytes, path: str, flags: int = 0) -> ast.Module:
    """Parse the content of a source file; `path` is for messages only, `flags` are the compiler's."""
    # A growing tree has no garbage, and would be searched for it again and again.
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the author's invalid escapes are not ours to report
            # Not under its own name: Python would look there for the line of an error, and of a long one find a part.
            tree = compile(content, "<source>", "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
            assert isinstance(tree, ast.Module)
            return tree
    except SyntaxError as error:
        reason = error.msg or "invalid syntax"
        line = error.lineno or 1
        raise SourceSyntaxError(path, line, error.offset or 0, error.text or _line(content, line), reason) from None
    except ValueError as error:  # null bytes, before Python 3.12
        raise SourceSyntaxError(path, 1, 0, "", str(error)) from None
    except (RecursionError, MemoryError):
        raise SourceSyntaxError(path, 1, 0, "", "nested too deeply for Python's parser") from None
    finally:
        if is_collecting:
            gc.enable()


def _line(content: bytes, number: int) -> str:
    lines = content.splitlines()
    return lines[number - 1].decode(errors="replace") if number <= len(lines) else ""


def parse_text(text: str) -> ast.Module | None:
    """Parse source that stands in a program as text; `None` if it is not valid Python."""
    try:
        return parse_bytes(text.encode("utf-8", "surrogatepass"), "<text>")
    except SourceSyntaxError:
        return None
