"""Random programs out of every kind of node that the running Python's grammar has.

The fields of each kind are read from the grammar that the `ast` module keeps in its docstrings, so that a kind that a
newer Python brings is made too. What does not fit together is made again: the result can always be parsed, though not
always compiled (`return` at the top, `nonlocal` of nothing), and is never meant to run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

_FIELD = re.compile(r"(\w+)([*?]?) (\w+)")
_OLD = {"Num", "Str", "Bytes", "NameConstant", "Ellipsis", "Index", "ExtSlice", "Suite", "AugLoad", "AugStore", "Param"}
_PLACES = (ast.Name, ast.Attribute, ast.Subscript)
_MAX_DEPTH = 3

NAMES = ("a", "b", "f", "np", "self", "__file__", "__all__", "print", "sys", "importlib", "K", "T")
MODULES = ("numpy", "json", "os.path", "nowhere.deep", "helper", "scipy.special", "main", "sys", "importlib", "yaml")
# Calls that an analyser looks at more closely.
CALLS = [
    "__import__",
    "importlib.import_module",
    "exec",
    "eval",
    "compile",
    "open",
    "getattr",
    "globals",
    "sys.path.insert",
    "sys.path.append",
    "subprocess.run",
    "subprocess.Popen",
    "os.system",
    "runpy.run_path",
    "pkgutil.resolve_name",
    "importlib.resources.files",
    "importlib.metadata.version",
    "logging.config.dictConfig",
    "np.read_excel",
    "pickle.load",
    "functools.partial",
    "importlib.util.find_spec",
    "contextlib.suppress",
    *("map", "filter", "chr", "setattr", "sorted", "shlex.split", "yaml.safe_load", "timeit.timeit", "codecs.decode"),
    *("pkgutil.iter_modules", "os.listdir", "glob.glob", "a.add_argument", "a.append", "a.glob", "f.submit", "compile"),
    "super",
    "type",
    "str.format",
    "os.path.join",
    "pathlib.Path",
    "self.__class__",
    "envpack_executor.task",
]
TEXTS = ("numpy", "", "a.b:c", ".nodes", "-m", "helper.py", "../lib", "{}", "%s", "x.xlsx", "s3://a", "é\n'\"\\")
VALUES = (*TEXTS, 0, 1, 10**30, 1.5, 2j, True, False, None, ..., b"\x00")


@cache
def kinds(base: type[ast.AST]) -> list[type[ast.AST]]:
    """Return all kinds of node below a base, those left out that Python makes no more."""
    found = [kind for kind in base.__subclasses__() if kind.__module__ == "ast" and kind.__name__ not in _OLD]
    return sorted({kind for one in found for kind in (kinds(one) or [one])}, key=lambda kind: kind.__name__)


class Maker:
    """Makes programs.

    Args:
        random: chooses.
    """

    def __init__(self, random: Random) -> None:
        self._random = random

    def program(self, statements: int) -> str:
        """Return a program of about so many statements."""
        made = (self._attempt() for _ in range(statements))
        return "\n".join(text for text in made if text)

    def _attempt(self) -> str:
        for _ in range(30):
            try:
                text = ast.unparse(ast.fix_missing_locations(self._node(ast.stmt, 0)))
                ast.parse(text)
            except (SyntaxError, ValueError, TypeError, RecursionError):
                continue
            return text
        return ""

    def _node(self, base: type[ast.AST], depth: int, only: tuple[type[ast.AST], ...] = ()) -> ast.AST:
        general = only or [kind for kind in kinds(base) if kind not in _SPECIAL] or [base]
        flat = [kind for kind in general if _is_flat(kind)]
        kind = self._random.choice(flat if depth >= _MAX_DEPTH and flat else general)
        node = kind(**{name: self._field(kind, name, type_, many, depth) for type_, many, name in _fields(kind)})
        mend = _MENDS.get(kind)
        if mend is not None:
            mend(node, self._random)
        return node

    def _field(self, kind: type[ast.AST], name: str, type_: str, many: str, depth: int) -> Any:
        if many == "*":
            least = name in _AT_LEAST or (kind, name) in _AT_LEAST
            count = self._random.randint(int(least), 2) if depth < _MAX_DEPTH else int(least)
            return [self._one(kind, name, type_, depth + 1) for _ in range(count)]
        if many == "?" and self._random.random() < 0.5:
            return None
        return self._one(kind, name, type_, depth + 1)

    def _one(self, kind: type[ast.AST], name: str, type_: str, depth: int) -> Any:
        if type_ in _PLAIN:
            return _PLAIN[type_](self._random, kind, name)
        if name in ("target", "targets", "optional_vars") or (kind.__name__, name) == ("TypeAlias", "name"):
            is_name = kind is ast.NamedExpr or name == "name"
            return self._node(ast.expr, depth, (ast.Name,) if is_name else _PLACES)
        if kind is ast.Call and name == "func" and self._random.random() < 0.5:
            return ast.parse(self._random.choice(CALLS), mode="eval").body
        if (kind, name) in _ALSO and self._random.random() < 0.3:
            return self._node(ast.expr, depth, (_ALSO[kind, name],))
        if kind is ast.JoinedStr:
            return self._node(ast.expr, depth, (ast.FormattedValue,)) if depth < _MAX_DEPTH else ast.Constant("x")
        if kind is ast.FormattedValue and name == "format_spec":
            return ast.JoinedStr([ast.Constant(">9")])
        return self._node(getattr(ast, type_), depth)


@cache
def _fields(kind: type[ast.AST]) -> list[tuple[str, str, str]]:
    text = (kind.__doc__ or "").partition("(")[2]
    return _FIELD.findall(text)


@cache
def _is_flat(kind: type[ast.AST]) -> bool:
    """Tell whether a node of that kind can be made without others inside."""
    return all(many or type_ in _PLAIN for type_, many, _ in _fields(kind)) and kind not in _NEVER_FLAT


# Kinds that stand only in some places, and which these are.
_SPECIAL = {ast.Starred, ast.Slice, ast.FormattedValue, ast.MatchStar}
_ALSO: dict[tuple[type[ast.AST], str], type[ast.AST]] = {
    (ast.Call, "args"): ast.Starred,
    (ast.List, "elts"): ast.Starred,
    (ast.Tuple, "elts"): ast.Starred,
    (ast.Set, "elts"): ast.Starred,
    (ast.ClassDef, "bases"): ast.Starred,
    (ast.Subscript, "slice"): ast.Slice,
    (ast.MatchSequence, "patterns"): ast.MatchStar,
}
_NEVER_FLAT = {ast.JoinedStr, ast.Match}
# Lists that must not be empty.
_AT_LEAST = {
    "names", "body", "items", "targets", "generators", "cases", "ops", "comparators", "handlers", "values",
    (ast.Set, "elts"), (ast.Delete, "targets"),
}  # fmt: skip


def _identifier(random: Random, kind: type[ast.AST], name: str) -> str:
    if (kind is ast.alias and name == "name") or kind is ast.ImportFrom:
        return random.choice(MODULES)
    return random.choice(NAMES)


def _int(random: Random, kind: type[ast.AST], name: str) -> int:
    if name == "conversion":
        return random.choice([-1, ord("s"), ord("r"), ord("a")])
    return random.choice([0, 0, 1, 2, 3] if name == "level" else [0, 1])


_PLAIN: dict[str, Callable[[Random, type[ast.AST], str], Any]] = {
    "identifier": _identifier,
    "int": _int,
    "constant": lambda random, kind, name: random.choice(VALUES),
    "string": lambda random, kind, name: None,
    "expr_context": lambda random, kind, name: ast.Load(),
}


def _even(first: str, second: str) -> Callable[[Any, Random], None]:
    """Return what makes two lists of a node equally long."""

    def mend(node: Any, random: Random) -> None:
        count = min(len(getattr(node, first)), len(getattr(node, second)))
        setattr(node, first, getattr(node, first)[:count])
        setattr(node, second, getattr(node, second)[:count])

    return mend


def _arguments(node: Any, random: Random) -> None:
    every = [*node.posonlyargs, *node.args, *node.kwonlyargs, node.vararg, node.kwarg]
    for number, one in enumerate(one for one in every if one is not None):
        one.arg = f"{one.arg}{number or ''}"
    node.defaults = node.defaults[: len(node.posonlyargs) + len(node.args)]
    node.kw_defaults = [*node.kw_defaults, None, None][: len(node.kwonlyargs)]


def _try(node: Any, random: Random) -> None:
    for number, handler in enumerate(node.handlers):
        if handler.type is None and (number < len(node.handlers) - 1 or isinstance(node, ast.TryStar)):
            handler.type = ast.Name("ImportError")


def _import(node: Any, random: Random) -> None:
    if random.random() < 0.3:
        node.names = [ast.alias("*")]
    for alias in node.names:
        alias.name = alias.name.rpartition(".")[2]


def _sequence(node: Any, random: Random) -> None:
    stars = [pattern for pattern in node.patterns if isinstance(pattern, ast.MatchStar)]
    node.patterns = [pattern for pattern in node.patterns if pattern not in stars[1:]]


def _as(node: Any, random: Random) -> None:
    if node.pattern is not None:
        node.name = random.choice(NAMES[:3])


def _raise(node: Any, random: Random) -> None:
    node.cause = node.cause if node.exc is not None else None


def _once(node: Any, random: Random) -> None:
    """Name nothing twice."""
    for number, keyword in enumerate(node.keywords):
        keyword.arg = keyword.arg and f"k{number}"


def _match_value(node: Any, random: Random) -> None:
    node.value = random.choice([ast.Constant(1), ast.Constant("a"), ast.Attribute(ast.Name("np"), "a")])


def _singleton(node: Any, random: Random) -> None:
    node.value = random.choice([None, True, False])


def _mapping(node: Any, random: Random) -> None:
    node.keys = [ast.Constant(number) for number in range(len(node.patterns))]


def _or(node: Any, random: Random) -> None:
    node.patterns = [ast.MatchValue(ast.Constant(1)), *node.patterns, ast.MatchValue(ast.Constant(2))]


def _same_kind(node: Any, random: Random) -> None:
    node.values = [*node.values, ast.Constant(random.choice(TEXTS))]


_MENDS: dict[type[ast.AST], Callable[[Any, Random], None]] = {
    ast.Dict: _even("keys", "values"),
    ast.Compare: _even("ops", "comparators"),
    ast.MatchClass: _even("kwd_attrs", "kwd_patterns"),
    ast.arguments: _arguments,
    ast.Try: _try,
    ast.TryStar: _try,
    ast.ImportFrom: _import,
    ast.MatchValue: _match_value,
    ast.MatchSingleton: _singleton,
    ast.MatchMapping: _mapping,
    ast.MatchOr: _or,
    ast.Raise: _raise,
    ast.MatchSequence: _sequence,
    ast.MatchAs: _as,
    ast.Call: _once,
    ast.ClassDef: _once,
    ast.BoolOp: _same_kind,
}
