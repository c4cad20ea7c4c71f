"""Calls that load what no import statement names: one table from dotted names of functions to their readers.

A reader gives what a call can load, and a question where its arguments could not be folded to constants. This file
reads modules by name; `installed`, `executed` and `configured` read the others.
"""

from __future__ import annotations

from collections.abc import Iterator

from envpack.discover.code import syntax as ast
from envpack.discover.code.callers import HANDED, handed_calls
from envpack.discover.code.codefile import CodeFile
from envpack.discover.code.nodes import all_nodes, last_name
from envpack.discover.code.scopes import Scope
from envpack.discover.loads.configured import CONFIGURED
from envpack.discover.loads.executed import EXECUTED, interactive_name
from envpack.discover.loads.installed import INSTALLED, selecting_name
from envpack.discover.loads.pickled import PICKLED
from envpack.discover.loads.values import CallSite, Load, Reader, computed, is_dotted


def loads(node: ast.Call, scope: Scope, file: CodeFile) -> Iterator[Load]:
    """Give what a call loads by name; nothing for nearly all calls."""
    name = file.qualify(node.func, scope) or selecting_name(node, scope, file) or interactive_name(node)
    if name is None:
        name = _aliased(node.func, scope, file, 0)
    reader = _READERS.get(name) if name is not None else None
    if name is not None and reader is not None:
        yield from reader(CallSite(name, node, scope, file))
    elif last_name(node.func) in HANDED:
        for call in handed_calls(node):
            handed = _aliased(call.func, scope, file, 0)
            if handed in _READERS:
                yield from _READERS[handed](CallSite(handed, call, scope, file))


def annotated_loads(node: ast.AnnAssign, scope: Scope, file: CodeFile) -> Iterator[Load]:
    """Give what a field of a pydantic model imports: `codec: ImportString = "yaml.safe_load"`."""
    if scope.kind != "class" or not isinstance(node.target, ast.Name):
        return
    names = (one for one in all_nodes(node.annotation) if isinstance(one, ast.Name | ast.Attribute))
    if any(last_name(one) == "ImportString" and file.qualify(one, scope) in _IMPORTING_TYPES for one in names):
        texts = [value for value in file.kept(scope, node.target.id) if isinstance(value, str)]
        modules = (text.partition(":")[0] for text in texts)
        yield from (Load("module", name) for name in dict.fromkeys(modules) if is_dotted(name))


def _aliased(node: ast.expr, scope: Scope, file: CodeFile, depth: int) -> str | None:
    """Return the dotted name of a function that has another one here: `load = importlib.import_module`."""
    if depth > _MAX_ALIASES:
        return None
    if isinstance(node, ast.Call) and last_name(node.func) == "getattr" and len(node.args) > 1:
        names = file.folder(scope).texts(node.args[1])
        owner = file.qualify(node.args[0], scope)
        return f"{owner}.{names[0]}" if owner is not None and len(names) == 1 else None
    if isinstance(node, ast.Name) and len(found := scope.lookup(node.id)) == 1 and found[0].value is not None:
        return _aliased(found[0].value, found[0].scope, file, depth + 1) if found[0].kind == "value" else None
    return file.qualify(node, scope)


def _import_module(site: CallSite) -> Iterator[Load]:
    names = [name for name in site.texts(site.argument(0, "name")) if is_dotted(name.lstrip("."))]
    anchor = site.argument(1, "package")
    anchors = site.texts(anchor) if anchor is not None else [site.file.package]
    found = [absolute for name in names if (absolute := _absolute(name, (anchors or [site.file.package])[0]))]
    yield from (Load("module", name) for name in found)
    if not found:
        yield computed(site)


def _by_name(site: CallSite) -> Iterator[Load]:
    names = [name for name in site.texts(site.argument(0, "name")) if is_dotted(name)]
    yield from (Load("module", name) for name in names)
    if not names:
        yield computed(site)


def _run_module(site: CallSite) -> Iterator[Load]:
    names = [name for name in site.texts(site.argument(0, "mod_name")) if is_dotted(name)]
    yield from (Load("program", name) for name in names)
    if not names:
        yield computed(site)


def _qualified(site: CallSite) -> Iterator[Load]:
    """Read `a.b:c` and `a.b.c`: where no colon says it, any leading part may be the module."""
    texts = site.texts(site.node.args[0] if site.node.args else None)
    names = [text.partition(":")[0] for text in texts if is_dotted(text.replace(":", "."))]
    yield from (Load("module", name) for name in names)
    if not names:
        yield computed(site)


def _resource(site: CallSite) -> Iterator[Load]:
    # A module object instead of a name has been imported, and found, elsewhere.
    names = site.texts(site.argument(0, "anchor"))
    yield from (Load("module", name) for name in names if is_dotted(name))


def _spec(site: CallSite) -> Iterator[Load]:
    """Read `find_spec("a")` where what it finds is also loaded; elsewhere it only asks."""
    calls = site.file.scopes.calls
    is_loaded = "module_from_spec" in calls or "exec_module" in calls or "load_module" in calls
    # Where the module is, is asked for the sake of the files beside it.
    if is_loaded or any(getattr(one, "attr", "") in _PLACES for one in all_nodes(site.file.tree)):
        names = site.texts(site.argument(0, "name"))
        yield from (Load("module", name) for name in names if is_dotted(name))


def _skipping(site: CallSite) -> Iterator[Load]:
    """Read `pytest.importorskip("a")`, which goes on without it."""
    names = site.texts(site.argument(0, "modname"))
    yield from (Load("module", name, is_optional=True) for name in names if is_dotted(name))


def _absolute(name: str, package: str) -> str:
    stripped = name.lstrip(".")
    level = len(name) - len(stripped)
    if not level:
        return name
    parts = package.split(".") if package else []
    kept = parts[: len(parts) - (level - 1)]
    return ".".join([*kept, stripped]) if kept else ""


_MAX_ALIASES = 4
_IMPORTING_TYPES = ("pydantic.ImportString", "pydantic.types.ImportString")
_RESOURCES = ("files", "read_text", "read_binary", "open_text", "open_binary", "path", "contents", "is_resource")
_RESOURCE_PACKAGES = ("importlib.resources", "importlib_resources")
_PLACES = ("origin", "submodule_search_locations")
_OLD_RESOURCES = ("resource_filename", "resource_string", "resource_stream", "resource_exists", "resource_listdir")

_READERS: dict[str, Reader] = {
    **dict.fromkeys(("__import__", "builtins.__import__", "importlib.__import__", "lazy_loader.load"), _by_name),
    "importlib.import_module": _import_module,
    **dict.fromkeys(
        ("__builtins__.__import__", "dask.utils.import_required", "sympy.external.import_module"), _by_name
    ),
    "importlib.util.find_spec": _spec,
    "importlib.reload": _resource,
    **dict.fromkeys(("pkgutil.resolve_name", "pydoc.locate", "pydoc.resolve", "pydoc.safeimport"), _qualified),
    **dict.fromkeys(
        ("tornado.util.import_object", "traitlets.import_item", "kombu.utils.imports.symbol_by_name"), _qualified
    ),
    **dict.fromkeys(("hydra.utils.get_class", "hydra.utils.get_method", "zope.dottedname.resolve.resolve"), _qualified),
    **dict.fromkeys(("django.utils.module_loading.import_string", "werkzeug.utils.import_string"), _qualified),
    **dict.fromkeys(("pkgutil.get_data", "pkgutil.get_loader"), _resource),
    **{f"{package}.{name}": _resource for package in _RESOURCE_PACKAGES for name in _RESOURCES},
    **{f"pkg_resources.{name}": _resource for name in _OLD_RESOURCES},
    "pytest.importorskip": _skipping,
    "runpy.run_module": _run_module,
    **CONFIGURED,
    **EXECUTED,
    **INSTALLED,
    **PICKLED,
}
