"""Prints the files of the modules that `modulefinder` finds a program to import: `FOLDER SCRIPT MODULE`.

It is told to search the program's folder only: then what is installed counts as missing, and the missing modules are
what the program's own files import. Followed into the libraries, it lists all that they could ever import.
"""

import importlib.util
import json
import os
import sys
import tempfile
from modulefinder import ModuleFinder

from program import code_of


def entry(folder, script, module):
    if not module:
        return os.path.join(folder, script)
    path = os.path.join(folder, *module.split("."))
    return os.path.join(path, "__main__.py") if os.path.isdir(path) else path + ".py"


def file_of(name):
    """Return the file of a module, or of the nearest package above it that has one."""
    while name:
        try:
            spec = importlib.util.find_spec(name)
        except Exception:  # a parent that is no package, or that does not import
            spec = None
        if spec is not None and spec.origin and os.path.exists(spec.origin):
            return spec.origin
        name = name.rpartition(".")[0]
    return None


if __name__ == "__main__":
    folder, script, module = sys.argv[1:]
    path = entry(folder, script, module)
    finder = ModuleFinder(path=[os.path.dirname(path), folder])
    with tempfile.NamedTemporaryFile("w", suffix=".py") as code:
        code.write(code_of(path))
        code.flush()
        finder.run_script(code.name)
    missing, maybe = finder.any_missing_maybe()
    names = {name for name in [*missing, *maybe] if name.partition(".")[0] not in sys.stdlib_module_names}
    print(json.dumps(sorted(filter(None, map(file_of, names)))))
