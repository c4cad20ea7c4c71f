"""Folding of expressions to the constants that they can be, without executing anything.

An expression folds to all values that it is seen to be able to take: a name assigned twice has two, a loop variable
over a tuple has one per element. No value means: not known. Depth and number of values are bounded, so that no program
can make this slow.
"""

from __future__ import annotations

import functools
import itertools
import operator
import os.path
from collections.abc import Callable, Iterable, Iterator, Sequence

from envpack.discover.code import syntax as ast
from envpack.discover.code.listings import Listed
from envpack.discover.code.purecalls import DEFAULTS, FUNCTIONS, PATH_PARTS, READERS, call_method, frozen
from envpack.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_DEPTH = 40
_MAX_VALUES = 64
_MAX_LENGTH = 10_000
_MAX_STEPS = 5_000
_MAX_EDGE_DEPTH = 6
_MAX_EDGE_VALUES = 8

Values = list["Any"]
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
        member: gives the values that an attribute of a local module, a class or an object can be.
        content: gives the texts of the files that an expression reads.
        expected: gives what an attribute is where nobody has set anything else: the default of an option.
        module: gives what the attributes of a module are that say where it is: `__name__`, `__path__`.
        returned: gives what a call of a function of the program returns.
        nested: gives what folds the expressions inside a comprehension.
    """

    def __init__(
        self,
        lookup: Lookup,
        facts: dict[str, Any],
        qualify: Callable[[ast.expr], str | None],
        kept: Callable[[str], Values] = lambda name: [],
        member: Callable[[ast.Attribute], Values] = lambda node: [],
        nested: Callable[[ast.expr], Folder | None] = lambda node: None,
        content: Callable[[ast.expr], Values] = lambda node: [],
        expected: Callable[[ast.Attribute], Values] = lambda node: [],
        module: Callable[[ast.Attribute], Values] = lambda node: [],
        returned: Callable[[ast.Call], Values] = lambda node: [],
    ) -> None:
        self._lookup = lookup
        self._facts = facts
        self._qualify = qualify
        self._kept = kept
        self._member = member
        self._nested = nested
        self._content = content
        self._expected = expected
        self._module = module
        self._returned = returned
        self._steps = 0
        self._is_deciding = False

    def fold(self, node: ast.expr, depth: int = 0) -> Values:
        """Return the values that an expression can take, as far as they are known."""
        self._steps = self._steps + 1 if depth else 0
        if depth > _MAX_DEPTH or self._steps > _MAX_STEPS:
            return []
        kind = type(node)
        if kind is ast.Name or kind is ast.Attribute:
            qualified = self._qualify(node)
            if qualified is not None and qualified in self._facts:
                return [self._facts[qualified]]
        if kind not in _METHODS:
            _METHODS[kind] = getattr(Folder, f"_fold_{kind.__name__.lower()}", None)
        method = _METHODS[kind]
        if method is None:
            return []
        values: Values = method(self, node, depth + 1)
        return [value for value in values[:_MAX_VALUES] if _is_small(value)]

    def settled(self, node: ast.expr, depth: int = 0) -> bool | None:
        """Return whether a condition holds; `None` if that is not known for all values that it can have."""
        before, self._is_deciding = self._is_deciding, True
        truths = {bool(value) for value in self.fold(node, depth)}
        self._is_deciding = before
        return truths.pop() if len(truths) == 1 else None

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
        return [value for part in parts for value in part] if stops and not self._is_deciding else []

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
        left = self.fold(node.left, depth)
        if not left:
            return []
        pairs = _product([left, self.fold(node.comparators[0], depth)])
        return _attempts(_COMPARE[type(node.ops[0])], pairs)

    def _fold_ifexp(self, node: ast.IfExp, depth: int) -> Values:
        truth = self.settled(node.test, depth)
        if truth is not None:
            return self.fold(node.body if truth else node.orelse, depth)
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
            if key is None:
                found.update(values[0] if values and isinstance(values[0], dict) else {})
            if keys and values:
                _attempts(lambda one, other: found.__setitem__(one, other), [(keys[0], values[0])])
        return [found]

    def _fold_listcomp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp, depth: int) -> Values:
        inner = self._nested(node)
        return [tuple(inner.fold(node.elt, depth))] if inner is not None else []

    _fold_setcomp = _fold_listcomp
    _fold_generatorexp = _fold_listcomp

    def _fold_dictcomp(self, node: ast.DictComp, depth: int) -> Values:
        inner = self._nested(node)
        keys, values = (inner.fold(part, depth) if inner is not None else [] for part in (node.key, node.value))
        if len(keys) == len(values):
            return _attempts(dict, [(list(zip(keys, values, strict=True)),)])
        return _attempts(lambda *pair: dict([pair]), _product([keys, values]))

    def _fold_namedexpr(self, node: ast.NamedExpr, depth: int) -> Values:
        return self.fold(node.value, depth)

    def _fold_subscript(self, node: ast.Subscript, depth: int) -> Values:
        containers = self.fold(node.value, depth)
        if isinstance(node.slice, ast.Slice):
            parts = (node.slice.lower, node.slice.upper, node.slice.step)
            bounds = [self.fold(part, depth) if part else [None] for part in parts]
            return _attempts(lambda box, *given: box[slice(*given)], _product([containers, *bounds]))
        keys = self.fold(node.slice, depth)
        if keys:
            return _attempts(lambda box, key: box[key], _product([containers, keys]))
        # The key is not known: any entry may be meant.
        boxes = [box.values() if isinstance(box, dict) else box for box in containers]
        return [value for box in boxes if not isinstance(box, str | bytes) for value in _entries(box)]

    def _fold_attribute(self, node: ast.Attribute, depth: int) -> Values:
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            return self._kept(node.attr)
        if found := self._member(node) or self._module(node) or ([] if self._is_deciding else self._expected(node)):
            return found
        values = self.fold(node.value, depth)
        if node.attr == "value" and isinstance(node.value, ast.Attribute | ast.Name | ast.Subscript):
            return values  # of a member of an enumeration
        if listed := [value for value in values if isinstance(value, Listed)]:
            return _attempts(lambda value: getattr(value, node.attr), [(value,) for value in listed])
        if node.attr in PATH_PARTS:
            return [PATH_PARTS[node.attr](value) for value in values if isinstance(value, str)]
        version = {"major": 0, "minor": 1, "micro": 2}.get(node.attr)
        if version is not None:
            return _attempts(lambda value: value[version], [(v,) for v in values if isinstance(v, tuple)])
        return []

    def _fold_call(self, node: ast.Call, depth: int) -> Values:
        if any(isinstance(argument, ast.Starred) for argument in node.args):
            return []
        name = self._qualify(node.func)
        if name is not None and f"{name}()" in self._facts:
            return [self._facts[f"{name}()"]]
        if name in DEFAULTS and not self._is_deciding:
            return self._apply(DEFAULTS[name], [], node, depth)
        if name in READERS and node.args and (texts := self._content(node.args[0])):
            return _attempts(FUNCTIONS[READERS[name]], [(text,) for text in texts])
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("read", "read_text"):
            return self._content(node)
        if name == "sorted":  # in which order does not matter to what they are
            node = ast.Call(node.func, node.args, [])
        if name in FUNCTIONS:
            return self._apply(FUNCTIONS[name], [], node, depth)
        if not self._is_deciding and (returned := self._returned(node)):
            return returned
        if isinstance(node.func, ast.Attribute):
            method = functools.partial(_method, node.func.attr)
            return self._apply(method, [self.fold(node.func.value, depth)], node, depth)
        return []

    def _apply(self, function: Callable[..., Any], owners: list[Values], node: ast.Call, depth: int) -> Values:
        """Call a function with all that its arguments can be."""
        if not all(owners):
            return []
        arguments = [*owners, *(self.fold(argument, depth) for argument in node.args)]
        names = [keyword.arg for keyword in node.keywords]
        named = [self.fold(keyword.value, depth) for keyword in node.keywords]

        def call(*values: Any) -> Any:
            count = len(arguments)
            table: dict[str, Any] = {}
            for name, value in zip(names, values[count:], strict=True):
                table.update(value if name is None else {name: value})
            return frozen(function(*values[:count], **table))

        return _attempts(call, _product([*arguments, *named]))


# How each kind of expression is folded; found when one is met first.
_METHODS: dict[type[ast.expr], Callable[..., Values] | None] = {}


def _method(name: str, owner: Any, *values: Any, **named: Any) -> Any:
    return call_method(owner, name, *values, **named)


def _entries(box: Any) -> Values:
    return list(box) if isinstance(box, tuple | type({}.values())) else []


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
        if isinstance(op, ast.Add) or (isinstance(op, ast.BitOr) and isinstance(left, dict)):
            return left + right if isinstance(op, ast.Add) else left | right
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
