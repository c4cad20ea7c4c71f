"""Builds the scopes of a source file: which names are bound where, and under which guard its imports stand.

One walk over the tree builds all scopes. Nothing here is recursive, so that the depth of an expression that Python can
parse never exceeds the depth of our own calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from envpack.discover.code import syntax as ast
from envpack.discover.code.guards import (
    Alternatives,
    asks_for_module,
    binds_nothing,
    live_branches,
    suppresses_import_error,
)
from envpack.discover.code.nodes import all_nodes, child_nodes, last_name
from envpack.discover.code.scopes import (
    Binding,
    ComprehensionNode,
    FunctionNode,
    Path,
    Scope,
    ScopeTree,
    binds_value,
    root_name,
)
from envpack.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envpack.discover.code.guards import ImportKind
    from envpack.discover.code.scopes import ScopeKind

# Nodes that neither bind a name nor have anything below them that does.
_BINDS_NOTHING = frozenset({ast.Name, ast.Constant, ast.Pass, ast.Break, ast.Continue, ast.Global, ast.Nonlocal})

# What has statements below it that belong to the same scope, and these.
_COMPOUND = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match),
    *(ast.ExceptHandler, ast.match_case),
)
_STATEMENTS = (ast.stmt, ast.ExceptHandler, ast.match_case)

# So often a name is increased before what it holds is no longer followed.
_MAX_INCREASES = 16

Truth = Callable[[ast.expr, Scope], bool | None]


def build_scopes(tree: ast.Module, truth: Truth, alternatives: Alternatives) -> ScopeTree:
    """Build the scopes of a file.

    Args:
        tree: the parsed file.
        truth: decides a condition, or gives `None`.
        alternatives: judges the arms of `try ... except ImportError`.
    """
    result = ScopeTree(Scope("module", tree, None))
    result.lazy_annotations = any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(a.name == "annotations" for a in node.names)
        for node in tree.body
    )
    _Builder(result, truth, alternatives).run(tree)
    return result


class _Builder:
    """Walks a tree with a stack of its own; every entry is a node, its scope and its guard."""

    def __init__(self, result: ScopeTree, truth: Truth, alternatives: Alternatives) -> None:
        self._result = result
        self._truth = truth
        self._alternatives = alternatives
        self._stack: list[tuple[ast.AST, Scope, ImportKind]] = []

    def run(self, tree: ast.Module) -> None:
        enters: dict[type[ast.AST], Callable[[Any, Scope, ImportKind], None] | None] = {}
        self._push(tree.body, self._result.root, "static")
        while self._stack:
            node, scope, guard = self._stack.pop()
            kind = type(node)
            if kind not in enters:
                enters[kind] = getattr(self, f"_enter_{kind.__name__.lower()}", None)
            enter = enters[kind]
            if enter is not None:
                enter(node, scope, guard)
            else:
                self._push(child_nodes(node), scope, guard)

    def _push(self, nodes: Sequence[ast.AST], scope: Scope, guard: ImportKind) -> None:
        self._stack += [(node, scope, guard) for node in nodes[::-1] if node.__class__ not in _BINDS_NOTHING]

    # Scopes

    def _enter_functiondef(self, node: FunctionNode, scope: Scope, guard: ImportKind) -> None:
        scope.bind(node.name, Binding("definition", node, scope))
        for decorator in node.decorator_list:
            self._registers(decorator, node, scope)
        inner = self._open("function", node, scope)
        self._bind_parameters(node.args, scope, inner)
        for parameter in getattr(node, "type_params", ()):
            inner.bind(parameter.name, Binding("parameter", parameter, inner))
        self._declare(node.body, inner)
        self._push([*node.decorator_list, node.args, *([node.returns] if node.returns else [])], scope, guard)
        self._push([*getattr(node, "type_params", ()), *node.body], inner, guard)

    _enter_asyncfunctiondef = _enter_functiondef

    def _enter_lambda(self, node: ast.Lambda, scope: Scope, guard: ImportKind) -> None:
        inner = self._open("function", node, scope)
        self._bind_parameters(node.args, scope, inner)
        self._push([node.args], scope, guard)
        self._push([node.body], inner, guard)

    def _enter_classdef(self, node: ast.ClassDef, scope: Scope, guard: ImportKind) -> None:
        scope.bind(node.name, Binding("definition", node, scope))
        for decorator in node.decorator_list:
            self._registers(decorator, node, scope)
        for base in node.bases:
            # A base that is told of its subclasses may keep them, and its users may call them.
            if isinstance(base, ast.Name) and any(_keeps_subclasses(one.node) for one in scope.lookup(base.id)):
                scope.bind(base.id, Binding("definition", node, scope))
        inner = self._open("class", node, scope)
        for parameter in getattr(node, "type_params", ()):
            inner.bind(parameter.name, Binding("parameter", parameter, inner))
        self._declare(node.body, inner)
        self._push([*node.decorator_list, *node.bases, *node.keywords], scope, guard)
        self._push([*getattr(node, "type_params", ()), *node.body], inner, guard)

    def _enter_listcomp(self, node: ComprehensionNode, scope: Scope, guard: ImportKind) -> None:
        inner = self._open("function", node, scope)
        for position, generator in enumerate(node.generators):
            outer = scope if position == 0 else inner
            self._bind_target(generator.target, inner, Binding("element", generator.iter, outer, value=generator.iter))
            self._push([generator.iter], outer, guard)
            self._push([generator.target, *generator.ifs], inner, guard)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._push(parts, inner, guard)

    _enter_setcomp = _enter_listcomp
    _enter_dictcomp = _enter_listcomp
    _enter_generatorexp = _enter_listcomp

    def _open(self, kind: ScopeKind, node: ast.AST, parent: Scope) -> Scope:
        inner = Scope(kind, node, parent)
        self._result.inner[id(node)] = inner
        return inner

    def _bind_parameters(self, arguments: ast.arguments, outer: Scope, inner: Scope) -> None:
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(
            arguments.defaults
        )
        pairs = list(zip(positional, defaults, strict=True))
        pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        pairs += [(extra, None) for extra in (arguments.vararg, arguments.kwarg) if extra is not None]
        for parameter, default in pairs:
            inner.bind(parameter.arg, Binding("parameter", default or parameter, outer, value=default))

    @staticmethod
    def _declare(body: list[ast.stmt], scope: Scope) -> None:
        """Find `global` and `nonlocal` first: they hold for the whole scope."""
        pending: list[ast.AST] = list(body)
        while pending:
            node = pending.pop()
            if isinstance(node, ast.Global):
                scope.global_names.update(node.names)
            elif isinstance(node, ast.Nonlocal):
                scope.nonlocal_names.update(node.names)
            elif isinstance(node, _COMPOUND):
                pending += [one for one in child_nodes(node) if isinstance(one, _STATEMENTS)]

    # Bindings

    def _enter_import(self, node: ast.Import, scope: Scope, guard: ImportKind) -> None:
        self._result.kinds[id(node)] = guard
        for alias in node.names:
            scope.bind(alias.asname or alias.name.partition(".")[0], Binding("import", node, scope, alias))

    def _enter_importfrom(self, node: ast.ImportFrom, scope: Scope, guard: ImportKind) -> None:
        self._result.kinds[id(node)] = guard
        for alias in node.names:
            if alias.name == "*":
                scope.stars.append(node)
            else:
                scope.bind(alias.asname or alias.name, Binding("import", node, scope, alias))

    def _enter_assign(self, node: ast.Assign, scope: Scope, guard: ImportKind) -> None:
        for target in node.targets:
            self._bind_target(target, scope, Binding("value", node, scope, value=node.value))
        self._push([*node.targets, node.value], scope, guard)

    def _enter_annassign(self, node: ast.AnnAssign, scope: Scope, guard: ImportKind) -> None:
        # A bare annotation binds nothing, but it makes the name local to a function.
        self._bind_target(node.target, scope, Binding("value", node, scope, value=node.value))
        self._push([node.target, node.annotation, *([node.value] if node.value else [])], scope, guard)

    def _enter_augassign(self, node: ast.AugAssign, scope: Scope, guard: ImportKind) -> None:
        self._bind_target(node.target, scope, Binding("value", node, scope, value=_increased(node, scope)))
        self._push([node.target, node.value], scope, guard)

    def _enter_namedexpr(self, node: ast.NamedExpr, scope: Scope, guard: ImportKind) -> None:
        # A walrus in a comprehension binds in the scope around it.
        outer = scope
        while isinstance(outer.node, ComprehensionNode) and outer.parent is not None:
            outer = outer.parent
        outer.bind(node.target.id, Binding("value", node.value, scope, value=node.value))
        self._push([node.value], scope, guard)

    def _enter_for(self, node: ast.For | ast.AsyncFor, scope: Scope, guard: ImportKind) -> None:
        self._bind_target(node.target, scope, Binding("element", node.iter, scope, value=node.iter))
        self._push([node.target, node.iter, *node.body, *node.orelse], scope, guard)

    _enter_asyncfor = _enter_for

    def _enter_with(self, node: ast.With | ast.AsyncWith, scope: Scope, guard: ImportKind) -> None:
        for item in node.items:
            if item.optional_vars is not None:
                self._bind_target(item.optional_vars, scope, Binding("value", item.context_expr, scope))
        self._push(list(node.items), scope, guard)
        self._push(node.body, scope, "optional" if suppresses_import_error(node) else guard)

    _enter_asyncwith = _enter_with

    def _enter_match(self, node: ast.Match, scope: Scope, guard: ImportKind) -> None:
        for case in node.cases:
            for part in all_nodes(case.pattern):
                name = getattr(part, "name", None) or getattr(part, "rest", None)
                if name:
                    scope.bind(name, Binding("value", node.subject, scope))
        self._push([node.subject], scope, guard)
        self._push(list(node.cases), scope, _weaker(guard))

    def _enter_typealias(self, node: ast.AST, scope: Scope, guard: ImportKind) -> None:
        name = getattr(node, "name", None)
        if isinstance(name, ast.Name):
            scope.bind(name.id, Binding("value", node, scope))
        self._push(child_nodes(node), scope, guard)

    def _enter_expr(self, node: ast.Expr, scope: Scope, guard: ImportKind) -> None:
        # `TABLE.append(f)`, `TABLE.update(...)` at import time: part of what TABLE is afterwards.
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            root = root_name(call.func)
            if root is not None and scope.kind == "module" and binds_value(scope, root):
                scope.bind(root, Binding("value", node, scope))
        elif isinstance(call, ast.Call) and scope.kind == "module" and last_name(call.func) == "setattr" and call.args:
            root = root_name(call.args[0])
            if root is not None and binds_value(scope, root):
                scope.bind(root, Binding("value", node, scope))
        elif isinstance(call, ast.Call) and scope.kind == "module" and _passes_code(call, scope):
            self._result.registrations.append((call.func, Binding("value", node, scope)))
        self._push([node.value], scope, guard)

    def _enter_call(self, node: ast.Call, scope: Scope, guard: ImportKind) -> None:
        self._result.kinds[id(node)] = guard
        if isinstance(node.func, (ast.Name, ast.Attribute)):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            self._result.calls.setdefault(name, []).append((node, scope))
        self._push(child_nodes(node), scope, guard)

    def _registers(self, decorator: ast.expr, node: ast.AST, scope: Scope) -> None:
        # `@TABLE.register(...)`: what is decorated can be reached through TABLE.
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        root = root_name(call) if isinstance(call, ast.Attribute) else None
        if root is not None and scope.kind == "module" and binds_value(scope, root):
            scope.bind(root, Binding("definition", node, scope))
        elif scope.kind == "module":
            self._result.registrations.append((decorator, Binding("definition", node, scope)))

    def _bind_target(self, target: ast.expr, scope: Scope, binding: Binding) -> None:
        for name, path in _names(target):
            scope.bind(name, _part(binding, path))
        root = root_name(target)
        # `TABLE["x"] = f` and `TABLE.x = f` change what TABLE holds.
        if (
            root is not None
            and not isinstance(target, ast.Name)
            and scope.kind == "module"
            and binds_value(scope, root)
        ):
            scope.bind(root, Binding("value", binding.node, binding.scope))

    # Guards

    def _enter_if(self, node: ast.If, scope: Scope, guard: ImportKind) -> None:
        truth = self._result.truths[id(node)] = self._truth(node.test, scope)
        self._push([node.test], scope, guard)
        if truth is not None:
            self._push(live_branches(node, truth), scope, guard)
            return
        body = orelse = _weaker(guard)
        asked = self._asks(node.test, scope)
        if asked is not None:
            arms = (node.body, node.orelse) if asked else (node.orelse, node.body)
            there, absent = self._alternatives.arms(*arms)
            body, orelse = (_and(guard, kind) for kind in ((there, absent) if asked else (absent, there)))
        self._push(node.body, scope, body)
        self._push(node.orelse, scope, orelse)

    def _enter_ifexp(self, node: ast.IfExp, scope: Scope, guard: ImportKind) -> None:
        asks = self._asks(node.test, scope) is not None
        self._push([node.test], scope, guard)
        self._push([node.body, node.orelse], scope, "optional" if asks else guard)

    def _asks(self, test: ast.expr, scope: Scope) -> bool | None:
        def lookup(name: str) -> list[ast.AST]:
            return [binding.value or binding.node for binding in scope.lookup(name)]

        return asks_for_module(test, lookup)

    def _enter_while(self, node: ast.While, scope: Scope, guard: ImportKind) -> None:
        self._push([node.test], scope, guard)
        self._push([*node.body, *node.orelse], scope, _weaker(guard))

    def _enter_try(self, node: ast.Try | ast.TryStar, scope: Scope, guard: ImportKind) -> None:
        self._result.tries.append(node)
        body, handlers = self._alternatives.kinds(node)
        if body == "optional" and binds_nothing(node.handlers):
            self._result.unbacked.update(id(one) for one in node.body if isinstance(one, ast.Import | ast.ImportFrom))
        elif body == "optional":
            self._result.forgiven.append(node)
        if (
            body == "optional"
            and guard != "optional"
            and scope.kind == "module"
            and self._alternatives.works(node.body)
        ):
            self._result.taken.update(id(one) for one in node.body if isinstance(one, ast.Import | ast.ImportFrom))
        self._push([*node.body, *node.orelse], scope, _and(guard, body))
        for handler, kind in zip(node.handlers, handlers, strict=True):
            if handler.name:
                scope.bind(handler.name, Binding("parameter", handler, scope))
            self._push([*([handler.type] if handler.type else []), *handler.body], scope, _and(guard, kind))
        self._push(node.finalbody, scope, guard)

    _enter_trystar = _enter_try


def _increased(node: ast.AugAssign, scope: Scope) -> ast.expr | None:
    """Return what a name is after `name += "x"`: what it was last, and that."""
    known = scope.target(node.target.id).bindings.get(node.target.id, []) if isinstance(node.target, ast.Name) else []
    before = known[-1].value if known and len(known) < _MAX_INCREASES else None
    return ast.BinOp(before, node.op, node.value) if before is not None else None


def _names(target: ast.expr) -> Iterator[tuple[str, Path]]:
    """Give the names that a target binds, with their positions in it; those behind a star are counted from the end."""
    pending: list[tuple[ast.expr, Path]] = [(target, ())]
    while pending:
        node, path = pending.pop()
        if isinstance(node, ast.Name):
            yield node.id, path
        elif isinstance(node, ast.Tuple | ast.List):
            star = next((place for place, one in enumerate(node.elts) if isinstance(one, ast.Starred)), None)
            for place, element in enumerate(node.elts):
                after = len(node.elts) - place
                if isinstance(element, ast.Starred):
                    pending.append((element.value, (*path, slice(place, 1 - after or None))))
                else:
                    pending.append((element, (*path, place if star is None or place < star else -after)))


def _part(binding: Binding, path: Path) -> Binding:
    if binding.kind == "element":
        return replace(binding, path=path)
    value = binding.value
    for place in path if value is not None else ():
        assert value is not None
        value = _element(value, place)
    return replace(binding, value=value)


def _element(value: ast.expr, place: int | slice) -> ast.expr:
    """Return the expression for a part of a tuple."""
    if isinstance(place, slice):
        bounds = [None if bound is None else ast.Constant(bound) for bound in (place.start, place.stop)]
        return ast.Subscript(value, ast.Slice(*bounds), ast.Load())
    inner = value.elts if isinstance(value, ast.Tuple | ast.List) else []
    simple = -len(inner) <= place < len(inner) and not any(isinstance(one, ast.Starred) for one in inner)
    return inner[place] if simple else ast.Subscript(value, ast.Constant(place), ast.Load())


def _passes_code(call: ast.Call, scope: Scope) -> bool:
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    found = [one for item in given if isinstance(item, ast.Name) for one in scope.lookup(item.id)]
    return any(isinstance(item, ast.Lambda) for item in given) or any(
        one.kind in ("definition", "element") for one in found
    )


def _keeps_subclasses(node: ast.AST) -> bool:
    if not isinstance(node, ast.ClassDef):
        return False
    hooks = (getattr(statement, "name", "") for statement in node.body)
    metaclasses = [last_name(keyword.value) for keyword in node.keywords if keyword.arg == "metaclass"]
    return "__init_subclass__" in hooks or any(name != "ABCMeta" for name in metaclasses)


def _weaker(guard: ImportKind) -> ImportKind:
    return _and(guard, "conditional")


def _and(outer: ImportKind, inner: ImportKind) -> ImportKind:
    """Combine the guards of nested statements: the weaker one holds."""
    order: tuple[ImportKind, ...] = ("static", "conditional", "optional")
    return max(outer, inner, key=order.index)
