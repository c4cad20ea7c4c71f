"""Leaving out of layers what a program does not touch: test suites, or everything that no traced run has opened.

A folder `tests` or `test` inside a package is left out unless something outside of test suites refers to it: the user's
code, what discovery found, or any module of any distribution, whether or not that is ever imported. An import counts
wherever it stands, and so does text that is the name of such a module or the path of such a folder; of machine code
each text that holds one. What a folder that stays refers to stays, too.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from envpack.pack.layer.writer import Source
from envpack.pack.sources.distributions import LayerFiles
from envpack.pack.sources.record import content_of

if TYPE_CHECKING:
    from envpack.pack.sources.bytecode import BytecodeCompiler

_SITE = "/site-packages/"
_NAMES = frozenset({"tests", "test"})
# Worth parsing: an import that has the word, a continued one that may have it, and a text that could be a name or path.
_MENTION = re.compile(
    rb"""(?:^|[;:])[ \t]*(?:from|import)[ \t][^\n]*\btests?\b"""
    rb"""|^[ \t\w,]*\btests?[ \t]*[,)]?[ \t]*$"""
    rb"""|["'][\w./-]*\btests?\b[\w./-]*["']""",
    re.MULTILINE,
)
_MODULE = re.compile(r"\.{0,3}\w+(?:\.\w+)*", re.ASCII)
_PATH = re.compile(r"[\w./-]+", re.ASCII)
_CODE_TEXT = re.compile(rb"[A-Za-z_][\w.]*\.tests?\b(?:\.\w+)*")
# Parts of test suites that stand outside of their folders, and build scripts: they name tests, and need none.
_NOT_CODE = ("conftest.py", "setup.py")
_LONGEST_TEXT = 200
_WHOLE = ("local", "interpreter")


def without_tests(layers: Iterable[LayerFiles], modules: Iterable[str], code: Iterable[str]) -> list[LayerFiles]:
    """Return the layers without the test suites that nothing refers to.

    Args:
        layers: the layers of an environment.
        modules: names of modules that are known to be used.
        code: files of the user's own code that are in no layer.
    """
    every = list(layers)
    suites: dict[str, list[tuple[str, str]]] = {}
    referring: set[str] = set(modules)
    for layer in every:
        for path, file in layer.files:
            if suite := suite_of(path):
                suites.setdefault(suite, []).append((path, file))
            else:
                referring |= references(path, file)
    for file in code:
        referring |= references("", file)
    kept = _kept(suites, referring)
    gone = {path for suite, files in suites.items() if suite not in kept for path, _ in files}
    return [_without(layer, gone.__contains__) for layer in every]


def only_touched(layers: Iterable[LayerFiles], touched: Iterable[str]) -> list[LayerFiles]:
    """Return the layers with what was touched and metadata; the user's code and the interpreter stay whole.

    Args:
        layers: the layers of an environment.
        touched: paths in the environment that a run of the program has opened.
    """
    every = list(layers)
    # Links of conda packages are never opened: what they lead to is.
    linked = (item for layer in every if layer.kind == "conda" for item in layer.files)
    kept = {*map(_source_of, touched), *(path for path, file in linked if os.path.islink(file))}
    return [
        layer if layer.kind in _WHOLE else _without(layer, lambda path: not _is_kept(path, kept)) for layer in every
    ]


def suite_of(path: str) -> str:
    """Return the module name of the test suite that a file of an environment is part of; empty if of none."""
    parts = path.partition(_SITE)[2].split("/")[:-1]
    place = next((number for number, part in enumerate(parts, start=1) if part in _NAMES), 0)
    return ".".join(parts[:place])


def references(path: str, file: str) -> set[str]:
    """Return the names of modules in test suites that a file refers to.

    Args:
        path: where it is in the environment; empty for code outside of it.
        file: where it is on disk.
    """
    if os.path.basename(file) in _NOT_CODE:
        return set()
    if path.endswith(".so"):
        return {match.decode() for match in _texts_of_code(content_of(file))}
    if not file.endswith(".py") or not _MENTION.search(data := content_of(file)):
        return set()
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError):
        return set()  # nothing can import it
    package = path.partition(_SITE)[2].split("/")[:-1]
    return {name for name in _named(tree, package) if not _NAMES.isdisjoint(name.split("."))}


def _named(tree: ast.AST, package: list[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                base = _absolute("." * node.level + (node.module or ""), package)
                yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)
            case ast.Constant(value=str(text)) if len(text) <= _LONGEST_TEXT:
                if _MODULE.fullmatch(text):
                    yield _absolute(text, package)
                    # A part of a path, or of a name, that begins where this module is.
                    yield ".".join([*package, text])
                elif _PATH.fullmatch(text):
                    yield ".".join([*package, *(part for part in text.split("/") if part not in ("", "."))])


def _absolute(name: str, package: list[str]) -> str:
    level = len(name) - len(name.lstrip("."))
    above = package[: len(package) - level + 1] if level else []
    return ".".join([*above, *filter(None, name.lstrip(".").split("."))])


def _texts_of_code(data: bytes) -> Iterator[bytes]:
    """Yield the names in machine code; looking for the one word is much faster than for all that may precede it."""
    place = data.find(b".test")
    while place >= 0:
        text = data[max(0, place - _LONGEST_TEXT) : place + _LONGEST_TEXT]
        yield from _CODE_TEXT.findall(text)
        place = data.find(b".test", place + _LONGEST_TEXT)


def _kept(suites: dict[str, list[tuple[str, str]]], referring: set[str]) -> set[str]:
    """Return the suites that are referred to, and those that they refer to in turn."""
    kept: set[str] = set()
    open_names = set(referring)
    while open_names:
        found = {suite for suite in suites if suite not in kept and _refers(open_names, suite)}
        kept |= found
        open_names = {name for suite in found for path, file in suites[suite] for name in references(path, file)}
    return kept


def _refers(names: set[str], suite: str) -> bool:
    return suite in names or any(name.startswith(f"{suite}.") for name in names)


def _source_of(path: str) -> str:
    """Return the source of bytecode: Python opens the one, and finds it only by the other."""
    folder, _, base = path.rpartition("/")
    if not folder.endswith("/__pycache__"):
        return path
    return f"{folder.removesuffix('/__pycache__')}/{base.partition('.')[0]}.py"


def _is_kept(path: str, kept: set[str]) -> bool:
    return _source_of(path) in kept or ".dist-info/" in path or path.startswith("conda-meta/")


def _without(layer: LayerFiles, is_gone: Callable[[str], bool]) -> LayerFiles:
    gone = {path: file for path, file in layer.files if is_gone(path)}
    left_out_bytes = sum(os.lstat(file).st_size for file in gone.values())
    if not left_out_bytes:
        return layer
    return replace(
        layer,
        files=tuple(item for item in layer.files if item[0] not in gone),
        recorded={path: digest for path, digest in layer.recorded.items() if path not in gone},
        make=None if layer.make is None else partial(_made, layer.make, is_gone),
        left_out_bytes=left_out_bytes,
    )


def _made(
    make: Callable[[BytecodeCompiler], Iterator[Source]],
    is_gone: Callable[[str], bool],
    compiler: BytecodeCompiler,
) -> Iterator[Source]:
    return (source for source in make(compiler) if not is_gone(source.path))
