"""Folding of expressions to the constants that they can be, without executing anything.

An expression folds to all values that it is seen to be able to take: a name assigned twice has two, a loop variable
over a tuple has one per element. No value means: not known. Depth and number of values are bounded, so that no program
can make this slow.
"""

from __future__ import annotations

import ast
import itertools
import operator
import os.path
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from envpack.values import dataclass

if TYPE_CHECKING:
    from pathlib import PurePosixPath


_MAX_DEPTH = 40
_MAX_VALUES = 64
_MAX_LENGTH = 10_000
_MAX_STEPS = 5_000
_MAX_EDGE_DEPTH = 6
_MAX_EDGE_VALUES = 8

Values = list[Any]
Lookup = Callable[[str], Iterable[ast.expr]]

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}

# Path functions work on text; existence and links on this machine do not matter to them.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "os.path.join": os.path.join,
    "os.path.dirname": os.path.dirname,
    "os.path.basename": os.path.basename,
    "os.path.abspath": os.path.normpath,
    "os.path.realpath": os.path.normpath,
    "os.path.normpath": os.path.normpath,
    "os.fspath": str,
    "str": str,
    "Path": os.path.join,
    "pathlib.Path": os.path.join,
    "tuple": tuple,
    "list": list,
    "sorted": sorted,
}


def _pure(path: str) -> PurePosixPath:
    from pathlib import PurePosixPath  # as dear as all of this module, and few programs need it

    return PurePosixPath(path)


_PATH_PARTS: dict[str, Callable[[str], Any]] = {
    "parent": os.path.dirname,
    "parents": lambda path: tuple(map(str, _pure(path).parents)),
    "name": os.path.basename,
    "stem": lambda path: _pure(path).stem,
    "suffix": lambda path: _pure(path).suffix,
}
_PATH_CHANGES: dict[str, Callable[[str, str], str]] = {
    "with_name": lambda path, name: str(_pure(path).with_name(name)),
    "with_suffix": lambda path, suffix: str(_pure(path).with_suffix(suffix)),
    "with_stem": lambda path, stem: str(_pure(path).with_stem(stem)),
}
_PATH_METHODS = {"resolve", "absolute", "as_posix", "expanduser"}
_TEXT_METHODS = {
    "format",
    "join",
    "lower",
    "upper",
    "strip",
    "replace",
    "startswith",
    "endswith",
    "removeprefix",
    "removesuffix",
}
_DICT_METHODS = {"keys", "values", "items", "get"}


@dataclass(frozen=True, slots=True)
class Edges:
    """How a text begins and how it ends, where its middle is not known."""

    start: str
    end: str


class Folder:
    """Folds expressions.

    Args:
        lookup: gives the expressions that a name can stand for.
        facts: values of dotted names that are known beforehand, such as `sys.platform` and `__file__`.
        qualify: gives the dotted name that an expression refers to through imports (`Path` may be `pathlib.Path`).
        kept: gives the values that an attribute of `self` can be.
    """

    def __init__(
        self,
        lookup: Lookup,
        facts: dict[str, Any],
        qualify: Callable[[ast.expr], str | None],
        kept: Callable[[str], Values] = lambda name: [],
    ) -> None:
        self._lookup = lookup
        self._facts = facts
        self._qualify = qualify
        self._kept = kept
        self._steps = 0

    def fold(self, node: ast.expr, depth: int = 0) -> Values:
        """Return the values that an expression can take, as far as they are known."""
        self._steps = self._steps + 1 if depth else 0
        if depth > _MAX_DEPTH or self._steps > _MAX_STEPS:
            return []
        qualified = self._qualify(node) if isinstance(node, ast.Name | ast.Attribute) else None
        if qualified is not None and qualified in self._facts:
            return [self._facts[qualified]]
        method = getattr(self, f"_fold_{type(node).__name__.lower()}", None)
        if method is None:
            return []
        values: Values = method(node, depth + 1)
        return [value for value in values[:_MAX_VALUES] if _is_small(value)]

    def texts(self, node: ast.expr) -> list[str]:
        """Return the strings that an expression can be."""
        return [value for value in self.fold(node) if isinstance(value, str)]

    def elements(self, node: ast.expr) -> Values:
        """Return what a loop over an expression can meet; elements that are not known are left out."""
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            return [value for element in node.elts[:_MAX_LENGTH] for value in self.fold(element)]
        found: Values = []
        for value in self.fold(node):
            if isinstance(value, tuple | list | dict):
                found += list(value)
        return found[:_MAX_LENGTH]

    def edges(self, node: ast.expr, depth: int = 0) -> Iterator[Edges]:
        """Give how a text can begin and end that does not fold: `f"s3://{bucket}/table.csv"`."""
        if depth > _MAX_EDGE_DEPTH:
            return
        if isinstance(node, ast.Name):
            for expression in itertools.islice(self._lookup(node.id), _MAX_EDGE_VALUES):
                yield from self.edges(expression, depth + 1)
            return
        first, last = _ends(node)
        if first is None or last is None:
            yield from (Edges(text, text) for text in self.texts(node))
            return
        starts = [edges.start for edges in self.edges(first, depth + 1)]
        ends = [edges.end for edges in self.edges(last, depth + 1)]
        yield from (Edges(*pair) for pair in _product([starts or [""], ends or [""]]))

    def _fold_constant(self, node: ast.Constant, depth: int) -> Values:
        return [node.value]

    def _fold_name(self, node: ast.Name, depth: int) -> Values:
        found: Values = []
        for expression in itertools.islice(self._lookup(node.id), _MAX_VALUES):
            found += self.fold(expression, depth)
        return found

    def _fold_starred(self, node: ast.Starred, depth: int) -> Values:
        return self.fold(node.value, depth)

    def _fold_joinedstr(self, node: ast.JoinedStr, depth: int) -> Values:
        parts = [self.fold(part, depth) for part in node.values]
        return ["".join(map(str, chosen)) for chosen in _product(parts)]

    def _fold_formattedvalue(self, node: ast.FormattedValue, depth: int) -> Values:
        plain = node.format_spec is None and node.conversion in (-1, ord("s"))
        return self.fold(node.value, depth) if plain else []

    def _fold_binop(self, node: ast.BinOp, depth: int) -> Values:
        # A long chain of additions leans to the left: walked by a loop, it does not use up the depth.
        operands: list[tuple[ast.operator, ast.expr]] = []
        first: ast.expr = node
        while isinstance(first, ast.BinOp):
            operands.append((first.op, first.right))
            first = first.left
        values = self.fold(first, depth)
        for op, right in reversed(operands):
            values = [
                result
                for pair in _product([values, self.fold(right, depth)])
                if (result := _operate(op, *pair)) is not None and _is_small(result)
            ]
        return values

    def _fold_boolop(self, node: ast.BoolOp, depth: int) -> Values:
        stops = isinstance(node.op, ast.Or)
        parts = [self.fold(part, depth) for part in node.values]
        for part in parts:
            if len(part) == 1 and bool(part[0]) == stops:
                return part  # one side settles it, whatever the others are
        if all(len(part) == 1 for part in parts):
            return parts[-1]
        return [value for part in parts for value in part] if stops and len(parts) < len(node.values) else []

    def _fold_unaryop(self, node: ast.UnaryOp, depth: int) -> Values:
        values = self.fold(node.operand, depth)
        if isinstance(node.op, ast.Not):
            return [not value for value in values]
        if isinstance(node.op, ast.USub):
            return [-value for value in values if isinstance(value, int | float)]
        return []

    def _fold_compare(self, node: ast.Compare, depth: int) -> Values:
        if len(node.ops) != 1:
            return []
        pairs = _product([self.fold(node.left, depth), self.fold(node.comparators[0], depth)])
        return _attempts(_COMPARE[type(node.ops[0])], pairs)

    def _fold_ifexp(self, node: ast.IfExp, depth: int) -> Values:
        test = self.fold(node.test, depth)
        if len(test) == 1:
            return self.fold(node.body if test[0] else node.orelse, depth)
        return self.fold(node.body, depth) + self.fold(node.orelse, depth)

    def _fold_tuple(self, node: ast.Tuple, depth: int) -> Values:
        return self._sequence(node.elts, depth)

    def _fold_list(self, node: ast.List, depth: int) -> Values:
        return self._sequence(node.elts, depth)

    def _fold_set(self, node: ast.Set, depth: int) -> Values:
        return self._sequence(node.elts, depth)

    def _sequence(self, elements: Sequence[ast.expr], depth: int) -> Values:
        parts = [self.fold(element, depth) for element in elements[:_MAX_LENGTH]]
        return [tuple(chosen) for chosen in _product(parts)]

    def _fold_dict(self, node: ast.Dict, depth: int) -> Values:
        # An entry that is not known is left out: the others are still worth having.
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            keys = self.fold(key, depth) if key is not None else []
            values = self.fold(value, depth)
            if keys and values:
                _attempts(lambda one, other: found.__setitem__(one, other), [(keys[0], values[0])])
        return [found]

    def _fold_subscript(self, node: ast.Subscript, depth: int) -> Values:
        containers = self.fold(node.value, depth)
        if isinstance(node.slice, ast.Slice):
            bounds = [self.fold(bound, depth) if bound else [None] for bound in (node.slice.lower, node.slice.upper)]
            return _attempts(lambda box, low, high: box[low:high], _product([containers, *bounds]))
        keys = self.fold(node.slice, depth)
        if keys:
            return _attempts(lambda box, key: box[key], _product([containers, keys]))
        # The key is not known: any entry may be meant.
        return [value for box in containers if isinstance(box, dict) for value in box.values()]

    def _fold_attribute(self, node: ast.Attribute, depth: int) -> Values:
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            return self._kept(node.attr)
        values = self.fold(node.value, depth)
        if node.attr in _PATH_PARTS:
            return [_PATH_PARTS[node.attr](value) for value in values if isinstance(value, str)]
        version = {"major": 0, "minor": 1, "micro": 2}.get(node.attr)
        if version is not None:
            return _attempts(lambda value: value[version], [(v,) for v in values if isinstance(v, tuple)])
        return []

    def _fold_call(self, node: ast.Call, depth: int) -> Values:
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            return []
        arguments = [self.fold(argument, depth) for argument in node.args]
        name = self._qualify(node.func)
        if name is not None and f"{name}()" in self._facts:
            return [self._facts[f"{name}()"]]
        if name in _FUNCTIONS:
            return _attempts(_FUNCTIONS[name], _product(arguments))
        if isinstance(node.func, ast.Attribute):
            return self._method(node.func, arguments, depth)
        return []

    def _method(self, function: ast.Attribute, arguments: list[Values], depth: int) -> Values:
        owners = self.fold(function.value, depth)
        name = function.attr
        if name in _PATH_METHODS:
            return [os.path.normpath(owner) for owner in owners if isinstance(owner, str)]
        if name in _PATH_CHANGES:
            return _attempts(_PATH_CHANGES[name], _product([owners, *arguments]))
        if name == "joinpath":
            return _attempts(os.path.join, _product([owners, *arguments]))
        if name in _TEXT_METHODS:
            texts = [owner for owner in owners if isinstance(owner, str)]
            return _attempts(lambda owner, *rest: getattr(owner, name)(*rest), _product([texts, *arguments]))
        if name in _DICT_METHODS:
            boxes = [owner for owner in owners if isinstance(owner, dict)]
            found = _attempts(lambda owner, *rest: getattr(owner, name)(*rest), _product([boxes, *arguments]))
            return [tuple(value) if name != "get" else value for value in found]
        return []


def _ends(node: ast.expr) -> tuple[ast.expr | None, ast.expr | None]:
    """Return the parts that a text begins and ends with, for expressions that put texts together."""
    if isinstance(node, ast.JoinedStr) and node.values:
        return node.values[0], node.values[-1]
    if isinstance(node, ast.FormattedValue) and node.format_spec is None:
        return node.value, node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Div):
        return node.left, node.right
    if isinstance(node, ast.Call) and node.args:
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("joinpath", "with_suffix", "with_name"):
            return node.func.value, node.args[-1]
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("join", "Path", "str", "fspath"):
            return node.args[0], node.args[-1]
    return None, None


def _operate(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(op, ast.Div) and isinstance(left, str) and isinstance(right, str):
        return os.path.join(left, right)
    try:
        if isinstance(op, ast.Add):
            return left + right
        if isinstance(op, ast.Mod) and isinstance(left, str) and len(left) < _MAX_LENGTH and "*" not in left:
            return left % right if not any(character.isdigit() for character in left) else None
    except (TypeError, ValueError, KeyError):
        return None
    return None


def _attempts(function: Callable[..., Any], arguments: Iterable[Sequence[Any]]) -> Values:
    """Apply a pure function to each tuple of arguments; those that it refuses give no value."""
    found: Values = []
    for chosen in arguments:
        try:
            found.append(function(*chosen))
        except (TypeError, ValueError, LookupError, AttributeError):
            continue
    return found


def _product(parts: Sequence[Values]) -> Iterable[tuple[Any, ...]]:
    return itertools.islice(itertools.product(*parts), _MAX_VALUES)


def _is_small(value: Any) -> bool:
    return len(value) <= _MAX_LENGTH if isinstance(value, str | bytes | tuple | list | dict) else True
