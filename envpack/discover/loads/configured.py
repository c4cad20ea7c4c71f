"""Calls that load what a configuration names: `logging.config.dictConfig` and `fileConfig`, tags of YAML.

A configuration is a constant of the program, or a JSON, TOML or YAML file that it reads from a constant path.
"""

from __future__ import annotations

from collections.abc import Iterator

from envpack.discover.code import syntax as ast
from envpack.discover.loads.opened import existing, opened_paths
from envpack.discover.loads.values import CallSite, Load, Reader, is_dotted

# YAML is not parsed: the line that names a class is enough.
_YAML_CLASS = r"""(?m)^\s*(?:-\s*)?["']?(?:class|\(\))["']?\s*:\s*["']?([A-Za-z_][\w.]*)"""
_YAML_TAG = r"(?:!!|tag:yaml\.org,2002:)python/(?:name|module|object(?:/apply|/new)?):([A-Za-z_][\w.]*)"
_YAML_LOADERS = ("load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all")
_READERS = ("json.load", "json.loads", "tomllib.load", "tomllib.loads", "yaml.safe_load", "yaml.load", "yaml.full_load")


def _dict_config(site: CallSite) -> Iterator[Load]:
    node = site.argument(0, "config")
    configurations = site.values(node)
    for configuration in configurations:
        yield from _classes(configuration)
    if not configurations:
        for path in _read_paths(site, node):
            yield from _of_file(path)


def _file_config(site: CallSite) -> Iterator[Load]:
    import configparser

    for text in opened_paths(site, site.argument(0, "fname")):
        path = existing(site, text)
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            yield Load("question", f"{text!r} cannot be read: {reason}: pass --include DIST for its handlers")
            continue
        names = [parser.get(section, "class", fallback="") for section in parser.sections()]
        # `handlers.X` is looked up in the logging package itself.
        yield from (Load("module", name) for name in names if "." in name and not name.startswith("handlers."))


def _yaml_tags(site: CallSite) -> Iterator[Load]:
    """Read `yaml.unsafe_load(text)`: a text, or a file that is there, may name modules and what is in them."""
    import re

    node = site.argument(0, "stream")
    texts = site.texts(node)
    for path in opened_paths(site, node) if not texts else ():
        if found := existing(site, path):
            with open(found, encoding="utf-8", errors="replace") as file:
                texts.append(file.read())
    for text in texts:
        yield from (Load("module", match[1].rstrip(".")) for match in re.finditer(_YAML_TAG, text))


def _read_paths(site: CallSite, node: ast.expr | None) -> Iterator[str]:
    """Give the files from which an expression is read by `json.load(open("c.json"))` and the like."""
    calls = [node] if node is not None else []
    if isinstance(node, ast.Name):
        calls = [binding.value for binding in site.scope.lookup(node.id) if binding.value is not None]
    for call in calls:
        if isinstance(call, ast.Call) and call.args and site.file.qualify(call.func, site.scope) in _READERS:
            yield from (found for path in opened_paths(site, call.args[0]) if (found := existing(site, path)))


def _of_file(path: str) -> Iterator[Load]:
    import re

    with open(path, "rb") as file:
        content = file.read().decode("utf-8", "replace")
    try:
        if path.endswith(".json"):
            import json

            yield from _classes(json.loads(content))
        elif path.endswith(".toml"):
            import tomllib

            yield from _classes(tomllib.loads(content))
        else:
            found = re.finditer(_YAML_CLASS, content)
            yield from (Load("module", match[1]) for match in found if "." in match[1])
    except (ValueError, RecursionError) as error:
        yield Load("question", f"{path!r} cannot be read: {error}: pass --include DIST for its handlers")


def _classes(value: object) -> Iterator[Load]:
    """Give the modules of the classes that a configuration names, of factories, and of `ext://` objects."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            for key, inner in one.items():
                if key in ("class", "()") and isinstance(inner, str) and is_dotted(inner) and "." in inner:
                    yield Load("module", inner)
                else:
                    pending.append(inner)
        elif isinstance(one, tuple | list):
            pending.extend(one)
        elif isinstance(one, str) and one.startswith("ext://") and is_dotted(one.removeprefix("ext://")):
            yield Load("module", one.removeprefix("ext://"))


CONFIGURED: dict[str, Reader] = {
    "logging.config.dictConfig": _dict_config,
    "logging.config.fileConfig": _file_config,
    **{f"yaml.{name}": _yaml_tags for name in _YAML_LOADERS},
}
