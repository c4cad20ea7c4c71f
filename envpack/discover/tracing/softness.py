"""Whether the code that led to an import goes on without it.

An import inside `try` is *soft* if a handler takes the error and the code goes on; it is *doubtful* if the handler may
raise again, as helpers do that import what their caller names (`import_optional_dependency` in pandas). Under `if` it
is soft if the condition asks whether something is there, else doubtful.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Literal

from envpack.discover.code.source import parse_file
from envpack.discover.tracing.events import Place
from envpack.errors import EnvpackError

Side = Literal["user", "library", "standard"]

_IMPORT_ERRORS = frozenset({"ImportError", "ModuleNotFoundError"})
_PRESENCE = re.compile(r"^_?(has|have|with|found)_|_(available|installed|imported|present)$|^find_spec$", re.IGNORECASE)
_ANY_ERRORS = frozenset({"Exception", "BaseException"})


class Softness(IntEnum):
    """How surely the program needs what is imported."""

    HARD = 0
    DOUBTFUL = 1
    SOFT = 2


@dataclass(frozen=True, slots=True)
class _Protected:
    """The lines of a `try` body, and what its handlers do with an import error; or the lines under an `if`."""

    first: int
    last: int
    names_import_error: bool
    softness: Softness
    is_condition: bool = False


def softness(chain: Sequence[Place], side: Callable[[str], Side]) -> Softness:
    """Return the softest of the places that led to an import.

    Args:
        chain: the places, the nearest first.
        side: tells whose a file is. Of libraries only what lies before the user's own code counts. In that only
            handlers that name `ImportError` do: `except Exception` around a program says nothing about one import.
    """
    found = Softness.HARD
    passed_user = False
    for position, place in enumerate(chain):
        whose = side(place.file)
        passed_user = passed_user or whose == "user"
        if whose == "standard" or (whose == "library" and passed_user):
            continue
        for protected in _protected(place.file).get((place.first_line, place.function), ()):
            if not protected.first <= place.line <= protected.last:
                continue
            if whose == "user" and not protected.names_import_error:
                continue
            if protected.is_condition:
                # What callers do under conditions says nothing about one import.
                found = max(found, protected.softness) if position == 0 else found
            else:
                is_probe = protected.softness is Softness.DOUBTFUL and _only_imports(chain[position + 1 :], side)
                found = max(found, Softness.SOFT if is_probe else protected.softness)
    return found


def _only_imports(chain: Sequence[Place], side: Callable[[str], Side]) -> bool:
    """Whether a library was merely being imported: it does not require the other, so it must go on without."""
    inside = list(itertools.takewhile(lambda place: side(place.file) != "user", chain))
    return bool(inside) and all(place.function == "<module>" for place in inside if side(place.file) == "library")


@lru_cache(maxsize=4096)
def _protected(path: str) -> dict[tuple[int, str], list[_Protected]]:
    """Return the protected lines of each function of a file, by its first line and name."""
    if not path.endswith(".py"):
        return {}
    try:
        tree = parse_file(path)
    except EnvpackError:
        return {}  # written for another Python: then nothing says that it is soft
    found: dict[tuple[int, str], list[_Protected]] = {}
    pending: list[tuple[Sequence[ast.AST], tuple[int, str]]] = [(tree.body, (line, "<module>")) for line in (0, 1)]
    while pending:
        nodes, function = pending.pop()
        for node in nodes:
            found.setdefault(function, []).extend(_protections(node))
            inner = _key(node) or function
            for block in ("body", "handlers", "orelse", "finalbody", "cases"):
                if statements := getattr(node, block, None):
                    pending.append((statements, inner))
    return found


def _key(node: ast.AST) -> tuple[int, str] | None:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return (node.decorator_list[0].lineno if node.decorator_list else node.lineno), node.name
    return None


def _protections(node: ast.AST) -> Iterator[_Protected]:
    if isinstance(node, ast.If):
        kind = Softness.SOFT if _asks_for_presence(node.test) else Softness.DOUBTFUL
        for block in filter(None, (node.body, node.orelse)):
            yield _Protected(block[0].lineno, block[-1].end_lineno or block[-1].lineno, False, kind, True)
    if isinstance(node, ast.Try | ast.TryStar):
        handlers = [(handler, _caught(handler.type)) for handler in node.handlers]
        for handler, caught in handlers:
            if caught & (_IMPORT_ERRORS | _ANY_ERRORS):
                last = max(statement.end_lineno or statement.lineno for statement in node.body)
                # The first handler that takes the error decides.
                yield _Protected(node.body[0].lineno, last, bool(caught & _IMPORT_ERRORS), _outcome(handler))
                return
    elif isinstance(node, ast.With | ast.AsyncWith):
        for item in node.items:
            call = item.context_expr
            if isinstance(call, ast.Call) and _last(call.func) == "suppress":
                caught = frozenset().union(*(_caught(argument) for argument in call.args))
                if caught & (_IMPORT_ERRORS | _ANY_ERRORS):
                    last = node.end_lineno or node.lineno
                    yield _Protected(node.body[0].lineno, last, bool(caught & _IMPORT_ERRORS), Softness.SOFT)


def _asks_for_presence(test: ast.expr) -> bool:
    names = [_last(node) for node in ast.walk(test) if isinstance(node, ast.Name | ast.Attribute)]
    return any(_PRESENCE.search(name) for name in names)


def _caught(node: ast.expr | None) -> frozenset[str]:
    if node is None:
        return _ANY_ERRORS
    elements = node.elts if isinstance(node, ast.Tuple) else [node]
    return frozenset(_last(element) for element in elements)


def _outcome(handler: ast.ExceptHandler) -> Softness:
    """Return whether a handler ends the attempt: always (then the import is hard), perhaps, or never."""
    if isinstance(handler.body[-1], ast.Raise):
        return Softness.HARD
    ends = any(isinstance(node, ast.Raise) or _leaves(node) for node in ast.walk(handler))
    return Softness.DOUBTFUL if ends else Softness.SOFT


def _leaves(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _last(node.func) in ("exit", "_exit", "abort")


def _last(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
