"""The scopes of one source file: which names each binds, to what, and how needed the imports in it are."""

from __future__ import annotations

from envpack.discover.code import syntax as ast
from envpack.discover.code.guards import live_branches
from envpack.discover.code.nodes import all_nodes
from envpack.values import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from envpack.discover.code.guards import ImportKind

    ScopeKind = Literal["module", "class", "function"]
    BindingKind = Literal["import", "definition", "value", "element", "parameter"]

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
ComprehensionNode = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

Path = tuple[int | slice, ...]


@dataclass(frozen=True, slots=True)
class Binding:
    """One way in which a name gets its value.

    Attributes:
        kind: `element` where the name takes each element of the node in turn (a loop); `parameter` where the node is
            the default.
        node: what to look at when the name is used: an import, a definition, a statement or an expression.
        scope: the scope in which the node is evaluated.
        alias: for an import, the part of the statement that binds the name.
        value: for an assignment, the expression that is assigned; of a tuple that is taken apart, its part.
        path: for an `element`, the part of it that the name takes, as positions: `(1,)` for `b` in `for a, b in x`,
            a slice for a name behind a star.
    """

    kind: BindingKind
    node: ast.AST
    scope: Scope
    alias: ast.alias | None = None
    value: ast.expr | None = None
    path: Path = ()


@dataclass(eq=False, slots=True)
class Scope:
    """A scope: what its names are bound to, and the scope around it."""

    kind: ScopeKind
    node: ast.AST
    parent: Scope | None
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    global_names: set[str] = field(default_factory=set)
    nonlocal_names: set[str] = field(default_factory=set)
    stars: list[ast.ImportFrom] = field(default_factory=list)

    @property
    def module(self) -> Scope:
        """The scope of the whole file."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    def lookup(self, name: str) -> list[Binding]:
        """Return what a name used in this scope is bound to; empty if nothing in the file binds it."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.global_names:
                return self.module.bindings.get(name, [])
            # Names of a class are seen in its own body, not in its methods.
            if name in scope.bindings and name not in scope.nonlocal_names and (scope.kind != "class" or scope is self):
                return scope.bindings[name]
            scope = scope.parent
        return []

    def target(self, name: str) -> Scope:
        """Return the scope in which an assignment made here binds a name."""
        if name in self.global_names:
            return self.module
        scope = self
        if name in self.nonlocal_names:
            while scope.parent is not None and (
                scope is self or scope.kind != "function" or name not in scope.bindings
            ):
                scope = scope.parent
        return scope

    def bind(self, name: str, binding: Binding) -> None:
        """Record one more way in which a name gets its value."""
        self.target(name).bindings.setdefault(name, []).append(binding)


@dataclass(eq=False, slots=True)
class ScopeTree:
    """All scopes of a file.

    Attributes:
        root: the scope of the module.
        inner: the scope that a definition, lambda or comprehension opens, by the identity of its node.
        kinds: how needed each import is, by the identity of its node (statement, or call of `import_module`).
        truths: what is known about each `if`, by the identity of its node.
        unbacked: optional imports whose names nothing else binds when they fail: whoever uses a name needs the import.
        taken: optional imports at the top level that work where the file is loaded: a function that is sent elsewhere
            takes along that they did.
        calls: the calls of each name, by its last part, with the scopes in which they stand.
        tries: all `try` statements.
        forgiven: those whose handlers bind something in the place of what their imports bind.
        registrations: decorators and calls of the module's own level that may add to a table of it, with what that
            table then also holds.
        lazy_annotations: whether annotations are not evaluated (`from __future__ import annotations`).
    """

    root: Scope
    inner: dict[int, Scope] = field(default_factory=dict)
    kinds: dict[int, ImportKind] = field(default_factory=dict)
    truths: dict[int, bool | None] = field(default_factory=dict)
    unbacked: set[int] = field(default_factory=set)
    taken: set[int] = field(default_factory=set)
    calls: dict[str, list[tuple[ast.Call, Scope]]] = field(default_factory=dict)
    tries: list[ast.Try | ast.TryStar] = field(default_factory=list)
    forgiven: list[ast.Try | ast.TryStar] = field(default_factory=list)
    registrations: list[tuple[ast.expr, Binding]] = field(default_factory=list)
    lazy_annotations: bool = False

    def live(self, node: ast.If) -> list[ast.stmt]:
        """Return the statements under an `if` that can run."""
        return live_branches(node, self.truths.get(id(node)))

    def loosen(self, function: ast.AST) -> None:
        """Make everything optional that a function imports, itself or by what it calls."""
        for node in all_nodes(function):
            if id(node) in self.kinds or isinstance(node, ast.Call):
                self.kinds[id(node)] = "optional"


def binds_value(scope: Scope, name: str) -> bool:
    """Whether a name stands for something made in this file, rather than an imported module."""
    return any(binding.kind != "import" for binding in scope.bindings.get(name, ()))


def root_name(node: ast.expr) -> str | None:
    """Return the name that an expression starts from: `a` of `a.b["c"].d()`."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
