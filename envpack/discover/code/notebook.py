"""Notebooks as Python source: the code cells in their order, what is not Python taken out.

Line numbers count over the code cells: each cell is preceded by one line `# %%`. A line that is not Python keeps its
number: `%magic` and `!command` become the calls that IPython makes of them, `%time x` becomes `x`, `name?` becomes
`pass`.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

from envpack.errors import TargetNotFoundError

_SPECIAL = r"^(?P<indent>\s*)(?:[%!?].*|[\w.*]+\?\??\s*|(?:[\w\s,.\[\]'\"]+=\s*)[%!].*)$"
# Cell magics whose cell is Python all the same; the cells of all others (%%bash, %%html) are not.
_MAGIC = r"^(?P<before>[\w\s,.\[\]'\"]*=\s*)?(?P<mark>[%!]{1,2})\s*(?P<text>.*)$"
# Line magics whose line is Python, behind their options.
_PYTHON_LINE = r"^(?:time|timeit|prun|memit|mprun|debug)\b(?:\s+-\w+(?:\s*\d+)?)*\s*(?P<code>.*)$"
_PYTHON_CELLS = ("%%time", "%%timeit", "%%capture", "%%prun", "%%memit", "%%mprun", "%%snakeviz")


def notebook_source(content: bytes, path: str) -> str:
    """Return the code of a notebook.

    Args:
        content: the `.ipynb` file.
        path: for messages only.

    Raises:
        TargetNotFoundError: it is no notebook of format 4, or not one in Python.
    """
    import json

    try:
        data = json.loads(content)
        cells = data["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        language = data.get("metadata", {}).get("language_info", {}).get("name", "python")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise TargetNotFoundError(f"not a notebook: {path!r}: {reason}", "save it as nbformat 4") from None
    if str(language).lower() not in ("python", "ipython"):
        raise TargetNotFoundError(f"not a notebook in Python: {path!r} is in {language}", "name a Python notebook")
    return "".join(f"# %%\n{_cell(source)}\n" for source in sources)


def _cell(source: str) -> str:
    # Only a cell that is not Python as it stands is changed: a `%` may begin a line inside an expression or a text.
    return source if _parses(source) else "\n".join(_lines(source))


def _lines(source: str) -> Iterator[str]:
    lines = source.split("\n")
    first = next((line for line in lines if line.strip()), "")
    whole = first.startswith("%%") and not first.startswith(_PYTHON_CELLS)
    continues = False
    for line in lines:
        special = re.match(_SPECIAL, line)
        if whole:
            yield ""
        elif continues:
            yield ""
            continues = line.endswith("\\")
        elif special is not None:
            yield special["indent"] + _statement(line.strip())
            continues = line.endswith("\\")
        else:
            yield line


def _statement(line: str) -> str:
    """Return what stands for a line that is not Python."""
    magic = re.match(_MAGIC, line)
    if magic is None:
        return "pass"  # help: `name?`
    before, text = magic["before"] or "", magic["text"].rstrip("\\").strip()
    if magic["mark"].startswith("!"):
        code = f"get_ipython().{'getoutput' if before else 'system'}({text!r})"
    elif (python := re.match(_PYTHON_LINE, text)) is not None:
        code = python["code"]
    else:
        name, _, rest = text.partition(" ")
        code = f"get_ipython().run_line_magic({name!r}, {rest.strip()!r})"
    return before + code if _parses(before + code) and code else "pass"


def _parses(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "cell", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
