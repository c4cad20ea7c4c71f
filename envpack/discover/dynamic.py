"""Calls that import a module whose name is data: which of their arguments name it.

One table: a dotted name of a function, and what reads the modules out of a call of it. A reader gives the names that
the call can load, or `None` where an argument could not be folded to a constant.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator

from envpack.discover.constants import Folder

Reader = Callable[[ast.Call, Folder, str], list[str] | None]


def dynamic_modules(name: str, call: ast.Call, folder: Folder, package: str) -> list[str] | None:
    """Return the modules that a call loads by name.

    Args:
        name: dotted name of the called function.
        call: the call.
        folder: folds its arguments.
        package: the package of the calling module, for relative names.

    Returns:
        The modules; empty if the call loads none; `None` if it loads one whose name is not known.
    """
    reader = _READERS.get(name)
    return reader(call, folder, package) if reader is not None else []


def _argument(call: ast.Call, position: int, keyword: str) -> ast.expr | None:
    for item in call.keywords:
        if item.arg == keyword:
            return item.value
    return call.args[position] if position < len(call.args) else None


def _module(call: ast.Call, folder: Folder, package: str) -> list[str] | None:
    node = _argument(call, 0, "name")
    names = [name for name in folder.texts(node) if _is_dotted(name.lstrip("."))] if node is not None else []
    anchor = _argument(call, 1, "package")
    anchors = folder.texts(anchor) if anchor is not None else [package]
    found = [absolute for name in names if (absolute := _absolute(name, (anchors or [package])[0]))]
    return found or None


def _dunder(call: ast.Call, folder: Folder, package: str) -> list[str] | None:
    node = _argument(call, 0, "name")
    names = [name for name in folder.texts(node) if _is_dotted(name)] if node is not None else []
    return names or None


def _qualified(call: ast.Call, folder: Folder, package: str) -> list[str] | None:
    """Read `a.b:c` and `a.b.c`: where no colon says it, any leading part may be the module."""
    node = call.args[0] if call.args else None
    texts = folder.texts(node) if node is not None else []
    return [text.partition(":")[0] for text in texts if _is_dotted(text.replace(":", "."))] or None


def _resource(call: ast.Call, folder: Folder, package: str) -> list[str] | None:
    node = call.args[0] if call.args else None
    # A module object instead of a name has been imported, and found, elsewhere.
    return [name for name in folder.texts(node) if _is_dotted(name)] if node is not None else []


def _logging(call: ast.Call, folder: Folder, package: str) -> list[str] | None:
    node = _argument(call, 0, "config")
    configurations = folder.fold(node) if node is not None else []
    return [name for config in configurations for name in _classes(config)]


def _classes(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("class", "()") and isinstance(inner, str) and _is_dotted(inner) and "." in inner:
                yield inner
            else:
                yield from _classes(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from _classes(inner)


def _command(call: ast.Call, folder: Folder, package: str) -> list[str] | None:
    """Read `[sys.executable, "-m", "module", ...]`."""
    node = call.args[0] if call.args else None
    if not isinstance(node, ast.List | ast.Tuple):
        return []
    words = [folder.texts(element) for element in node.elts]
    for flag, following in itertools.pairwise(words):
        if flag == ["-m"]:
            return [name for name in following if _is_dotted(name)] or None
    return []


def _is_dotted(name: str) -> bool:
    return bool(name) and all(part.isidentifier() for part in name.split("."))


def _absolute(name: str, package: str) -> str:
    stripped = name.lstrip(".")
    level = len(name) - len(stripped)
    if not level:
        return name
    parts = package.split(".") if package else []
    kept = parts[: len(parts) - (level - 1)]
    return ".".join([*kept, stripped]) if kept else ""


_COMMANDS = ("run", "Popen", "call", "check_call", "check_output")
_RESOURCES = ("files", "read_text", "read_binary", "open_text", "open_binary", "path", "contents", "is_resource")

_READERS: dict[str, Reader] = {
    "__import__": _dunder,
    "builtins.__import__": _dunder,
    "importlib.__import__": _dunder,
    "importlib.import_module": _module,
    "importlib.reload": _resource,
    "lazy_loader.load": _dunder,
    "pkgutil.resolve_name": _qualified,
    "pkgutil.get_data": _resource,
    "pydoc.locate": _qualified,
    "runpy.run_module": _dunder,
    "logging.config.dictConfig": _logging,
    **{f"importlib.resources.{name}": _resource for name in _RESOURCES},
    **{f"subprocess.{name}": _command for name in _COMMANDS},
}
