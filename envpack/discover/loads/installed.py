"""Calls that ask for installed distributions by what these say about themselves.

`importlib.metadata.version("numpy")` needs the distribution of that name, which is not always the name of a module;
`entry_points(group="plugins")` needs those that provide them, where the code loads them; a command that is run may be
the script of a distribution.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from envpack.discover.code import syntax as ast
from envpack.discover.code.codefile import CodeFile
from envpack.discover.code.nodes import all_nodes, call_at
from envpack.discover.code.scopes import Scope
from envpack.discover.environment.distributions import DistributionIndex
from envpack.discover.environment.metadata import InstalledDistribution
from envpack.discover.loads.values import CallSite, Load, Reader, computed

_METADATA_PACKAGES = ("importlib.metadata", "importlib_metadata")
_NAME = r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)"
_SELECTING = ("select", "get")


def selecting_name(node: ast.Call, scope: Scope, file: CodeFile) -> str | None:
    """Return the name under which `entry_points().select(...)` is looked up; `None` for any other call."""
    function = node.func
    if not isinstance(function, ast.Attribute) or function.attr not in _SELECTING:
        return None
    return "entry_points().select" if _is_entry_points(function.value, scope, file) else None


def subscript_loads(node: ast.Subscript, scope: Scope, file: CodeFile) -> Iterator[Load]:
    """Give what `entry_points()["group"]` loads."""
    if _is_entry_points(node.value, scope, file):
        call = call_at(node, node.value, [node.slice], [])
        yield from _entry_points(CallSite("entry_points", call, scope, file))


def providers(index: DistributionIndex, text: str) -> Iterator[InstalledDistribution]:
    """Give the distributions that provide entry points of a group, or of `group:name` only that one."""
    group, _, name = text.partition(":")
    for distribution in index:
        names = _entry_point_names(distribution, group)
        if name in names if name else names:
            yield distribution


def owner_of_command(index: DistributionIndex, scripts: str, command: str) -> InstalledDistribution | None:
    """Return the distribution that put a command into the scripts folder of its environment, or `None`."""
    if not os.path.lexists(os.path.join(scripts, command)):
        return None
    for distribution in providers(index, f"console_scripts:{command}"):
        return distribution
    path = os.path.join(scripts, command)
    return next((one for one in index if path in one.files), None)


def _distribution(site: CallSite) -> Iterator[Load]:
    names = _texts_or_own(site, site.argument(0, "distribution_name"))
    if names is None:
        yield computed(site)
        return
    yield from (Load("distribution", name) for name in names if name)


def _requirements(site: CallSite) -> Iterator[Load]:
    """Read `pkg_resources.require("a>=1", "b")` and `get_distribution("a")`."""
    import re

    for argument in site.node.args:
        for value in site.values(argument):
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and (match := re.match(_NAME, text)):
                    yield Load("distribution", match[1])


def _texts_or_own(site: CallSite, node: ast.expr | None) -> list[str] | None:
    """Return the names that are asked for; none for `version(__name__)`, which is about the program itself."""
    if node is None or any(isinstance(one, ast.Name) and one.id.startswith("__") for one in all_nodes(node)):
        return []
    return site.texts(node) or None


def _entry_points(site: CallSite) -> Iterator[Load]:
    group = site.argument(0 if site.name != "importlib.metadata.entry_points" else None, "group")
    groups = site.texts(group)
    if not groups or not _loads_entry_points(site):
        return
    names = site.texts(site.argument(1 if "iter" in site.name else None, "name")) or _compared_names(site)
    for one in groups:
        wanted = [f"{one}:{name}" for name in names]
        # All scripts of an environment are never meant.
        yield from (Load("provider", text) for text in wanted or ([one] if one != "console_scripts" else []))


def _load_entry_point(site: CallSite) -> Iterator[Load]:
    yield from (Load("distribution", name) for name in site.texts(site.argument(0, "dist")))


def _stevedore(site: CallSite) -> Iterator[Load]:
    names = site.texts(site.argument(1, "name")) if "Driver" in site.name or "Hook" in site.name else []
    for group in site.texts(site.argument(0, "namespace")):
        yield from (Load("provider", f"{group}:{name}") for name in names)
        if not names:
            yield Load("provider", group)


def _loads_entry_points(site: CallSite) -> bool:
    """Whether the function around a call, or the file, has `.load()`: entry points may also only be listed."""
    around = _function_around(site.scope)
    calls = site.file.scopes.calls.get("load", ())
    return any(isinstance(call.func, ast.Attribute) and _within(scope, around) for call, scope in calls)


def _compared_names(site: CallSite) -> list[str]:
    """Return the constants that `.name` is compared with in the function around a call, and `[...]` on the call."""
    found: list[str] = []
    for node in all_nodes(_function_around(site.scope).node):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.In):
            if isinstance(node.left, ast.Attribute) and node.left.attr == "name":
                for value in site.values(node.comparators[0]):
                    found += [one for one in (value if isinstance(value, tuple) else (value,)) if isinstance(one, str)]
        elif isinstance(node, ast.Subscript) and node.value is site.node:
            found += site.texts(node.slice)
    return found


def _function_around(scope: Scope) -> Scope:
    while scope.parent is not None and not isinstance(scope.node, ast.FunctionDef | ast.AsyncFunctionDef):
        scope = scope.parent
    return scope


def _within(scope: Scope | None, outer: Scope) -> bool:
    while scope is not None and scope is not outer:
        scope = scope.parent
    return scope is not None


def _is_entry_points(node: ast.expr, scope: Scope, file: CodeFile) -> bool:
    if isinstance(node, ast.Name):
        values = [binding.value for binding in scope.lookup(node.id)]
        return any(isinstance(one, ast.Call) and _is_entry_points(one, scope, file) for one in values)
    if not isinstance(node, ast.Call):
        return False
    return file.qualify(node.func, scope) in {f"{package}.entry_points" for package in _METADATA_PACKAGES}


def _entry_point_names(distribution: InstalledDistribution, group: str) -> list[str]:
    try:
        with open(os.path.join(distribution.metadata, "entry_points.txt"), encoding="utf-8", errors="replace") as file:
            lines: Iterable[str] = file.read().splitlines()
    except OSError:
        return []  # most distributions have none
    section = ""
    found = []
    for line in map(str.strip, lines):
        if line.startswith("["):
            section = line.strip("[]").strip()
        elif section == group and "=" in line and not line.startswith(("#", ";")):
            found.append(line.partition("=")[0].strip())
    return found


_ASKING = ("version", "distribution", "metadata", "requires", "files")
_STEVEDORE = ("ExtensionManager", "NamedExtensionManager", "DriverManager", "HookManager", "EnabledExtensionManager")

INSTALLED: dict[str, Reader] = {
    **{f"{package}.{name}": _distribution for package in _METADATA_PACKAGES for name in _ASKING},
    **{f"{package}.Distribution.from_name": _distribution for package in _METADATA_PACKAGES},
    "pkg_resources.get_distribution": _requirements,
    "pkg_resources.require": _requirements,
    "pkg_resources.load_entry_point": _load_entry_point,
    "pkg_resources.iter_entry_points": _entry_points,
    **{f"{package}.entry_points": _entry_points for package in _METADATA_PACKAGES},
    "entry_points().select": _entry_points,
    **{f"stevedore.{name}": _stevedore for name in _STEVEDORE},
}
