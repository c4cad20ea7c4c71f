"""Runs inside a traced process and notes what it imports, loads, opens and starts, and from where.

The text of this file becomes the `sitecustomize` of the traced program and of every Python that it starts in turn; it
needs nothing but the standard library of Python 3.8 or later. Each event is one line of JSON, appended in one write as
it happens, so that neither `os._exit` nor a signal loses what came before, and processes may share the file.

An event holds its *chain*: the places (file, line) of the frames that led to it, the nearest first. Of events that say
the same, only the first few are written: a chain costs more than what it tells the hundredth time.
"""

from __future__ import annotations

import atexit
import builtins
import importlib
import json
import os
import sys
import threading

TYPE_CHECKING = False  # typing itself is not imported: the program would find it loaded
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType, FrameType, ModuleType, TracebackType
    from typing import Any

_MAX_FRAMES = 120
_MAX_ALIKE = 12
_OWN_FILE = (lambda: 0).__code__.co_filename
_CODE = (".py", ".pyc", ".so", ".pyi")
_METADATA = (".dist-info" + os.sep, ".egg-info" + os.sep, "EGG-INFO" + os.sep)


class Agent:
    """Notes the events of one process.

    Args:
        log: path of the file to append to.
        folders: data files that are opened count if they lie below one of these.
    """

    def __init__(self, log: str, folders: Sequence[str]) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        self._folders = tuple(folder.rstrip(os.sep) + os.sep for folder in folders)
        self._standard = os.path.dirname(os.__file__) + os.sep
        self._modules = getattr(sys, "stdlib_module_names", frozenset(sys.builtin_module_names))
        self._counts: dict[Any, int] = {}
        self._named: set[str] = set()
        self._busy = threading.local()
        self._import = builtins.__import__
        self._import_module = importlib.import_module
        self._exit = os._exit
        self._audits: dict[str, Callable[..., None]] = {
            "exec": self._on_exec,
            "import": self._on_extension,
            "open": self._on_open,
            "ctypes.dlopen": self._on_dlopen,
            "subprocess.Popen": self._on_start,
            "os.posix_spawn": self._on_start,
            "os.exec": self._on_start,
            "os.system": self._on_start,
        }

    def start(self) -> None:
        """listen from now on."""
        builtins.__import__ = self._traced_import
        importlib.import_module = self._traced_import_module
        os._exit = self._traced_exit  # type: ignore[assignment]
        sys.addaudithook(self._audit)
        atexit.register(self._libraries)
        hook = sys.excepthook

        def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            self.note("error", kind.__name__, str(error)[:500], str(getattr(error, "name", None) or ""))
            hook(kind, error, trace)

        sys.excepthook = excepthook

    def note(self, *event: Any) -> None:
        """Append one event."""
        try:
            line = json.dumps([os.getpid(), *event]) + "\n"
            os.write(self._log, line.encode("utf-8", "backslashreplace"))
        except (OSError, ValueError, TypeError):
            pass  # the traced program may have closed all descriptors; it must not suffer

    # Import statements and importlib.import_module

    def _traced_import(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        try:
            module = self._import(name, globals, locals, fromlist, level)
        except ImportError as error:
            self._failed(error, name)
            raise
        if level == 0 and name.partition(".")[0] in self._modules:
            return module
        names = [name if level == 0 else getattr(module, "__name__", name)]
        if fromlist:
            inner = [names[0] + "." + item for item in fromlist if isinstance(item, str)]
            names += [item for item in inner if item in sys.modules]
        self._imported(names)
        return module

    def _traced_import_module(self, name: str, package: str | None = None) -> ModuleType:
        try:
            module = self._import_module(name, package)
        except ImportError as error:
            self._failed(error, name)
            raise
        self._imported([getattr(module, "__name__", name)])
        return module

    def _imported(self, names: list[str]) -> None:
        frame = self._outside()
        if not self._is_new(frame, names[-1].split(".")[:2]):
            return
        parts = names[0].split(".")
        for name in [".".join(parts[:length]) for length in range(1, len(parts))] + names:
            if name not in self._named:
                self._named.add(name)
                self.note("module", name, _file_of(sys.modules.get(name)))
        self.note("import", names, _chain(frame))

    def _failed(self, error: ImportError, name: str) -> None:
        missing = getattr(error, "name", None) or name
        frame = self._outside()
        if missing.partition(".")[0] not in self._modules:
            self.note("failed", missing, _chain(frame))

    # What the interpreter reports

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        handle = self._audits.get(event)
        if handle is None or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            handle(*arguments)
        except Exception as error:  # a bug here must not become one of the program
            self.note("broken", event, repr(error)[:500])
        finally:
            self._busy.now = False

    def _on_exec(self, code: CodeType) -> None:
        self._loaded(code.co_filename)

    def _on_extension(self, module: str, file: str | None, *others: Any) -> None:
        if file:
            self._loaded(file)

    def _on_dlopen(self, name: Any) -> None:
        if isinstance(name, str) and os.sep in name:
            self._loaded(name)

    def _loaded(self, file: str) -> None:
        if not file.startswith(os.sep) or self._is_standard(file):
            return
        frame = self._outside()
        if self._is_new(frame, [os.path.dirname(file)]):
            self.note("load", file, _chain(frame))

    def _on_open(self, file: Any, mode: Any, flags: Any) -> None:
        if isinstance(file, bytes):
            file = os.fsdecode(file)
        if not isinstance(file, str) or file.endswith(_CODE) or any(part in file for part in _METADATA):
            return
        if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        if not file.startswith(self._folders) or self._is_standard(file) or file in self._named:
            return
        self._named.add(file)
        self.note("open", file, _chain(self._outside()))

    def _on_start(self, program: Any, *others: Any) -> None:
        words = os.fsdecode(program).split() if isinstance(program, (str, bytes)) else []
        if words:
            self.note("start", words[0], _chain(self._outside()))

    def _libraries(self) -> None:
        """Note the shared libraries that are mapped."""
        try:
            with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
                paths = {line.rstrip("\n").partition(os.sep)[2] for line in file if ".so" in line}
        except OSError:
            return
        self.note("libraries", sorted(os.sep + path for path in paths if path))

    def _traced_exit(self, status: int) -> None:
        self._libraries()
        self._exit(status)

    # Where it came from

    def _outside(self) -> FrameType | None:
        """Return the nearest frame of a file of neither ours nor the standard library; `None` under `python -c`."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            file = frame.f_code.co_filename
            if file != _OWN_FILE and not file.startswith("<") and not self._is_standard(file):
                return frame
            frame = frame.f_back
        return None

    def _is_standard(self, file: str) -> bool:
        if not file.startswith(self._standard):
            return False
        rest = file[len(self._standard) :]
        return not rest.startswith(("site-packages" + os.sep, "dist-packages" + os.sep))

    def _is_new(self, frame: FrameType | None, what: Sequence[str]) -> bool:
        """Whether few events of this kind have been written; all count whose place lies outside the folders."""
        file = frame.f_code.co_filename if frame is not None else ""
        place = os.path.dirname(file) if file.startswith(self._folders) else (file, frame and frame.f_lineno)
        key = (place, tuple(what))
        count = self._counts[key] = self._counts.get(key, 0) + 1
        return count <= _MAX_ALIKE


def _chain(frame: FrameType | None) -> list[tuple[str, int, int, str]]:
    places: list[tuple[str, int, int, str]] = []
    while frame is not None and len(places) < _MAX_FRAMES:
        file = frame.f_code.co_filename
        if file != _OWN_FILE and not file.startswith("<"):
            code = frame.f_code
            places.append((file, frame.f_lineno, code.co_firstlineno, code.co_name))
        frame = frame.f_back
    return places


def _file_of(module: ModuleType | None) -> str:
    for value in (getattr(module, "__file__", None), getattr(getattr(module, "__spec__", None), "origin", None)):
        if isinstance(value, str) and os.sep in value:
            return os.path.abspath(value)
    return ""


def start(log: str, folders: Sequence[str], own: str) -> Agent:
    """Start noting, then make way for the `sitecustomize` that this file stands in for."""
    sys.path[:] = [entry for entry in sys.path if entry != own]
    mine = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ImportError:
        if mine is not None:
            sys.modules["sitecustomize"] = mine  # its own import, which is still going on, expects to find it
    agent = Agent(log, folders)
    agent.start()
    return agent
