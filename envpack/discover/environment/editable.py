"""Where development installs keep their code: what the start files (`.pth`) of PEP 660 build backends point at.

A `.pth` line is either a folder, which `sys.path` already holds, or `import X`, where `X.py` beside it installs a
finder. What that finds is read from its text, nothing is imported:

- setuptools writes the modules into the file as a dictionary, the `editables` library as calls of `map_module`;
- scikit-build-core writes one dictionary of the source files and one of the files that it built into the environment;
- meson-python names a build folder, whose install plan says where each file would go.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping

from envpack.discover.environment.cache import Looks
from envpack.values import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast

_IMPORT = r"^import\s+([A-Za-z_][\w.]*)"
_PLAN = os.path.join("meson-info", "intro-install_plan.json")
_SITE = r"^\{py_(?:pure|plat)lib\}/(.+)$"


@dataclass(frozen=True, slots=True)
class Editable:
    """What the start files of a development install do.

    Attributes:
        modules: modules that its finder maps to a file or folder.
        is_first: whether the finder is asked before the search path.
        folders: the folders that are put on the search path.
    """

    modules: Mapping[str, str] = field(default_factory=dict)
    is_first: bool = False
    folders: frozenset[str] = frozenset()


def read_editable(folder: str, starters: Iterable[str], looks: Looks) -> Editable:
    """Read the start files of a development install.

    Args:
        folder: the folder that the start files lie in.
        starters: names of the start files.
        looks: is told every file that the result depends on.
    """
    modules: dict[str, str] = {}
    folders: set[str] = set()
    is_first = False
    for line in (line for starter in starters for line in _lines(os.path.join(folder, starter), looks)):
        if match := re.match(_IMPORT, line):
            finder = os.path.join(folder, match.group(1).replace(".", os.sep) + ".py")
            text = _source(finder, looks)
            is_first = is_first or b"meta_path.insert(0" in text
            modules.update(_mapped(text, folder, looks))
        elif line and not line.startswith(("#", "import\t")):
            folders.add(os.path.normpath(os.path.join(folder, line)))
    return Editable(modules, is_first, frozenset(folders))


def _lines(starter: str, looks: Looks) -> list[str]:
    looks.at(starter)
    try:
        with open(starter, encoding="utf-8", errors="replace") as file:
            return [line.rstrip() for line in file]
    except OSError:
        return []  # RECORD may list what somebody removed


def _source(finder: str, looks: Looks) -> bytes:
    looks.at(finder)
    try:
        with open(finder, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _mapped(source: bytes, folder: str, looks: Looks) -> Iterator[tuple[str, str]]:
    import ast

    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            pairs = [(_text(key), _text(value)) for key, value in zip(node.keys, node.values, strict=True)]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "map_module" and len(node.args) == 2:
            pairs = [(_text(node.args[0]), _text(node.args[1]))]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "install":
            pairs = [*_built(node, folder), *_planned(node, looks)]
        else:
            continue
        yield from ((name, path) for name, path in pairs if name and path and os.path.isabs(path))


def _built(call: ast.Call, folder: str) -> Iterator[tuple[str, str]]:
    """Give the modules that scikit-build-core built into the environment: its second dictionary."""
    import ast

    if len(call.args) > 1 and isinstance(built := call.args[1], ast.Dict):
        for key, value in zip(built.keys, built.values, strict=True):
            if name := _text(value):
                yield _text(key), os.path.join(folder, name)


def _planned(call: ast.Call, looks: Looks) -> Iterator[tuple[str, str]]:
    """Give the modules in the install plan of a build folder that meson-python names."""
    for build in filter(os.path.isabs, map(_text, call.args)):
        plan = os.path.join(build, _PLAN)
        if not looks.at(plan):
            continue
        for source, target in _plan_rows(plan):
            if match := re.match(_SITE, target):
                yield _module_name(match.group(1)), source


def _plan_rows(plan: str) -> Iterator[tuple[str, str]]:
    import json

    try:
        with open(plan, encoding="utf-8") as file:
            kinds = json.load(file)
        for files in kinds.values():
            for source, row in files.items():
                yield source, str(row["destination"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return  # a build folder in the making: what it says next time counts then


def _module_name(path: str) -> str:
    """Return the module that a file in a search folder is: `pkg/_core.cpython-311.so` is `pkg._core`."""
    folder, _, name = path.rpartition("/")
    module = name.partition(".")[0]
    parts = [*folder.split("/"), *([module] if module != "__init__" else [])]
    return ".".join(part for part in parts if part) if name.endswith((".py", ".so", ".pyc")) else ""


def _text(node: ast.expr | None) -> str:
    value = getattr(node, "value", None)
    return value if isinstance(value, str) else ""
