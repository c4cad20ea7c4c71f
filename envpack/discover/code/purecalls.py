"""Functions and methods without effects that folding may call on constants: of texts, paths, sequences, tables.

Path functions work on text; existence and links on this machine do not matter to them. Every result is a value of the
kinds that folding knows: lists are tuples.
"""

from __future__ import annotations

import os.path
import sys
from collections.abc import Callable, Iterable

from envpack.discover.code.listings import LISTING, LISTING_METHODS, Listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import PurePosixPath
    from typing import Any

# A field of `str.format` that asks for a width could ask for gigabytes.
_WIDTH = r":[^{}]*\d{3}"


def frozen(value: Any) -> Any:
    """Return a value with its sequences as tuples, all the way down."""
    if isinstance(value, dict):
        return {key: frozen(inner) for key, inner in value.items()}
    is_several = isinstance(value, Iterable) and not isinstance(value, str | bytes | Listed)
    return tuple(frozen(inner) for inner in value) if is_several else value


def _pure(path: str) -> PurePosixPath:
    from pathlib import PurePosixPath  # as dear as all of this module, and few programs need it

    return PurePosixPath(path)


def _format(text: str, *values: Any, **named: Any) -> str:
    import re

    if re.search(_WIDTH, text):
        raise ValueError("a field of a width")
    return text.format(*values, **named)


def _substitute(text: str, table: Any = None, **named: Any) -> str:
    import string

    return string.Template(text).safe_substitute(table if isinstance(table, dict) else {}, **named)


def _split(text: str) -> tuple[str, ...]:
    import shlex

    if not isinstance(text, str):  # of `None` it would read what is typed
        raise TypeError(text)
    return tuple(shlex.split(text))


def _decoded(text: str | bytes) -> bytes:
    import base64

    return base64.b64decode(text)


def _read_yaml(text: Any, *_: Any, **__: Any) -> Any:
    from envpack.discover.code.plainyaml import read_plain_yaml

    try:
        return read_plain_yaml(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _got(table: dict[Any, Any], key: Any, other: Any = None, **named: Any) -> Any:
    found = table.get(key, other)
    # `parser.get("section", "option")` of a `configparser`.
    if isinstance(found, dict) and isinstance(other, str) and (other in found or "fallback" in named):
        return found.get(other, named.get("fallback"))
    return found


def _joined(*maps: Any) -> Any:
    return {key: value for one in reversed(maps) for key, value in one.items()}


def _turned(text: str, code: str) -> str:
    import codecs

    if code not in ("rot13", "rot_13"):
        raise ValueError(code)
    return codecs.decode(text, "rot13")


def _read(module: str) -> Callable[[Any], Any]:
    def read(text: Any) -> Any:
        import importlib

        try:
            return frozen(importlib.import_module(module).loads(text))
        except RecursionError:
            raise ValueError("nested too deeply") from None

    return read


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "os.path.join": os.path.join,
    "os.path.dirname": os.path.dirname,
    "os.path.basename": os.path.basename,
    "os.path.abspath": os.path.normpath,
    "os.path.realpath": os.path.normpath,
    "os.path.normpath": os.path.normpath,
    "os.path.splitext": os.path.splitext,
    "os.path.split": os.path.split,
    "os.fspath": str,
    "str": str,
    "str.lower": str.lower,
    "sys.intern": str,
    "Path": os.path.join,
    "pathlib.Path": os.path.join,
    "string.Template": str,
    "base64.b64decode": _decoded,
    "json.loads": _read("json"),
    "tomllib.loads": _read("tomllib"),
    "types.MappingProxyType": dict,
    "collections.OrderedDict": dict,
    "dict": dict,
    "tuple": tuple,
    "list": list,
    "set": lambda *values: tuple(dict.fromkeys(*values)),
    "frozenset": lambda *values: tuple(dict.fromkeys(*values)),
    "sorted": lambda values: tuple(values),
    "enumerate": lambda values, start=0: tuple(enumerate(values, start)),
    "zip": lambda *values: tuple(zip(*values, strict=False)),
    "iter": lambda values: values,
    "next": lambda values, *default: next(iter(values)),
    "min": min,
    "max": max,
    "shlex.split": _split,
    **dict.fromkeys(("yaml.safe_load", "yaml.load", "yaml.full_load"), _read_yaml),
    "collections.ChainMap": _joined,
    "codecs.decode": _turned,
    "filter": lambda keep, values: tuple(value for value in values if keep is not None or value),
    "chr": lambda number: chr(number) if number <= sys.maxunicode else "",
    **LISTING,
}
# What these read from a file is what the others read from its text.
READERS = {"json.load": "json.loads", "tomllib.load": "tomllib.loads"}
READERS |= {name: name for name in ("yaml.safe_load", "yaml.load", "yaml.full_load")}
# What these give is only what can be expected where nobody has set anything else: no condition is decided by it.
DEFAULTS: dict[str, Callable[..., Any]] = {
    "os.getenv": lambda key, default: default,
    "os.environ.get": lambda key, default: default,
}
PATH_PARTS: dict[str, Callable[[str], Any]] = {
    "parent": os.path.dirname,
    "parents": lambda path: tuple(map(str, _pure(path).parents)),
    "name": os.path.basename,
    "stem": lambda path: _pure(path).stem,
    "suffix": lambda path: _pure(path).suffix,
    "parts": lambda path: _pure(path).parts,
}
METHODS: dict[type, dict[str, Callable[..., Any]]] = {
    str: {
        **dict.fromkeys(("resolve", "absolute", "as_posix", "expanduser"), os.path.normpath),
        "with_name": lambda path, name: str(_pure(path).with_name(name)),
        "with_suffix": lambda path, suffix: str(_pure(path).with_suffix(suffix)),
        "with_stem": lambda path, stem: str(_pure(path).with_stem(stem)),
        "joinpath": os.path.join,
        **LISTING_METHODS,
        "format": _format,
        "format_map": lambda text, table: _format(text, **table),
        "substitute": _substitute,
        "safe_substitute": _substitute,
        **{
            name: getattr(str, name)
            for name in (
                *("join", "lower", "upper", "casefold", "capitalize", "title", "swapcase", "strip", "lstrip", "rstrip"),
                *("replace", "startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition"),
                *("split", "rsplit", "splitlines", "encode"),
            )
        },
    },
    bytes: {"decode": bytes.decode},
    dict: {
        **{name: getattr(dict, name) for name in ("keys", "values", "items")},
        "get": _got,
        "pop": lambda table, *given: dict(table).pop(*given),
        "setdefault": lambda table, *given: dict(table).setdefault(*given),
        "copy": dict,
    },
    tuple: {"pop": lambda values, place=-1: values[place], "copy": tuple},
}


def call_method(owner: Any, name: str, *values: Any, **named: Any) -> Any:
    """Call a method of a constant.

    Raises:
        AttributeError: it is none of those without effects.
    """
    function = METHODS.get(type(owner), {}).get(name)
    if function is None:
        raise AttributeError(name)
    return function(owner, *values, **named)
