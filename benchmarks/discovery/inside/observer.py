"""Runs at the start of every process of an observed program, as `sitecustomize`: notes what is imported and opened.

Each line of the file `$OBSERVED` is a kind, a tab and a path:

- `opened`: a file was opened, or a library loaded, by whomever;
- `stated`: an import statement in the program's own code led to the module in that file;
- `called`: the program's own code had it imported by a function (`import_module`, a logging configuration ...);
- `implied`: compiled code, which has no frame, imported it while the program's own code ran (unpickling, for one);
- `metadata`: the program's own code read the metadata of a distribution;
- `described`: somebody else did. Who looks for entry points reads those of all distributions: that is no use.

Lines are written at once, so that a process that is killed or leaves by `os._exit` loses none.
"""

import builtins
import dis
import importlib
import os
import sys

PROJECT = os.environ.get("OBSERVED_PROJECT", "") + os.sep
STANDARD = os.path.dirname(os.__file__) + os.sep
# Whose only work is to import something for somebody else.
INVISIBLE = (__file__, f"{os.sep}lazy_loader{os.sep}")


def _is_transparent(file):
    standard = file.startswith(STANDARD) and "site-packages" not in file
    return standard or file.startswith("<") or any(part in file for part in INVISIBLE)


def _is_own(file):
    return file.startswith(PROJECT) or not (os.path.isabs(file) or file.startswith("<"))  # runpy keeps relative paths


def _is_asked_by_program(frame):
    """Is the innermost code that belongs to anybody the program's own?"""
    while frame is not None:
        file = frame.f_code.co_filename
        if not _is_transparent(file):
            return _is_own(file)
        frame = frame.f_back
    return False


def _caller():
    """Return the frame that called the function that asks, None where the interpreter itself did."""
    return sys._getframe(1).f_back


def _how(frame, arguments):
    if frame.f_code.co_code[frame.f_lasti] == dis.opmap["IMPORT_NAME"]:
        return "stated" if _is_own(frame.f_code.co_filename) else "called"
    # PyImport_Import passes an empty list where an import statement has a tuple or None.
    return "implied" if len(arguments) == 5 and arguments[3] == [] and arguments[4] == 0 else "called"


def _files(name, fromlist):
    for wanted in (name, *(f"{name}.{attribute}" for attribute in fromlist or ())):
        parts = wanted.split(".")
        while parts:
            module = sys.modules.get(".".join(parts))
            spec = getattr(module, "__dict__", {}).get("__spec__")
            file = getattr(module, "__dict__", {}).get("__file__") or getattr(spec, "origin", None)
            if file:
                yield file
            if module is not None and (file or wanted == name):
                break
            parts.pop()
            if wanted != name:
                break


def _install():
    target = os.open(os.environ["OBSERVED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    noted = set()

    def note(kind, path):
        if (kind, path) not in noted:
            noted.add((kind, path))
            os.write(target, f"{kind}\t{path}\n".encode(errors="surrogateescape"))

    def hear(event, arguments):
        if event in ("open", "ctypes.dlopen"):
            path = arguments[0]
        elif event == "import":
            path = arguments[1]
        else:
            return
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if not isinstance(path, str) or not path.startswith(os.sep):
            return
        if ".dist-info" + os.sep not in path:
            note("opened", path)
        elif path.endswith("METADATA"):
            note("metadata" if _is_asked_by_program(_caller()) else "described", path)

    def import_(*arguments, **named):
        module = import_statement(*arguments, **named)
        name = arguments[0] if arguments else named["name"]
        level = arguments[4] if len(arguments) > 4 else named.get("level", 0)
        frame = _caller()
        if not level and _is_asked_by_program(frame):
            kind = _how(frame, arguments)
            fromlist = arguments[3] if len(arguments) > 3 else named.get("fromlist")
            for file in _files(name, fromlist):
                note(kind, file)
        return module

    def import_module(name, package=None):
        module = import_by_name(name, package)
        if not name.startswith(".") and _is_asked_by_program(_caller()):
            for file in _files(name, ()):
                note("called", file)
        return module

    import_statement, builtins.__import__ = builtins.__import__, import_
    import_by_name, importlib.import_module = importlib.import_module, import_module
    sys.addaudithook(hear)


if "OBSERVED" in os.environ:
    _install()
