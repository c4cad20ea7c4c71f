"""Runs a notebook as a program: `program.py NOTEBOOK`.

Its code cells run one after another in one namespace; lines that begin with `%` or `!` are left out.
"""

import json
import os
import sys


def code_of(path):
    """Return the source of a notebook's code cells, or the text of a script."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if not path.endswith(".ipynb"):
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    lines = "\n".join("".join(cell["source"]) for cell in cells).splitlines()
    return "\n".join("pass" if line.startswith(("%", "!")) else line for line in lines)


if __name__ == "__main__":
    path = os.path.abspath(sys.argv[1])
    sys.path[0] = os.path.dirname(path)
    exec(compile(code_of(path), path, "exec"), {"__name__": "__main__"})
