"""What a piece of code reaches: from a function or a whole file, along names, to imports and local files.

A function needs what its names lead to: imports, helpers and classes of the same file, assignments, star imports. A
local module that it imports is executed whole, so everything in that file counts. Nothing here is recursive: a stack of
pieces still to look at replaces calls, so that neither deep expressions nor import cycles can exhaust it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from envpack.discover.code import syntax as ast
from envpack.discover.code.codefile import CodeFile
from envpack.discover.code.guards import is_forgiven, live_branches
from envpack.discover.code.nodes import all_nodes, call_at, child_nodes
from envpack.discover.code.program import Program
from envpack.discover.code.registers import fills_elsewhere, leaves_no_trace
from envpack.discover.code.scopes import Binding, ComprehensionNode, FunctionNode, Scope
from envpack.discover.code.stars import BUILTINS, provides
from envpack.discover.hidden.sent import is_number, is_plain, sent_needs
from envpack.discover.loads.dynamic import annotated_loads, loads
from envpack.discover.loads.findings import LoadFindings
from envpack.discover.loads.installed import subscript_loads
from envpack.discover.loads.lazy import HOOK, attached, bound_scope, hooks
from envpack.discover.loads.values import Load
from envpack.errors import EnvpackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envpack.discover.kinds import EvidenceKind

# What reaches nothing.
_SAYS_NOTHING = frozenset({ast.Constant, ast.Pass, ast.Break, ast.Continue, ast.Global, ast.Nonlocal})

# Decorators of these packages are taken off before a function is shipped.
_TAKEN_OFF = frozenset({"envpack_executor", "envpack_monitor"})

# Handlers of which errors show that the program goes on without what a call loads.
_NOT_INSTALLED = ("PackageNotFoundError", "DistributionNotFound", "ImportError", "ModuleNotFoundError")
_NOT_FOUND = ("FileNotFoundError", "OSError", "IOError", "EnvironmentError")
_ANY = ("Exception", "BaseException")
_FORGIVING: dict[str, tuple[str, ...]] = {
    "distribution": (*_NOT_INSTALLED, *_ANY),
    "program": (*_NOT_FOUND, "CalledProcessError", *_ANY),
    "command": (*_NOT_FOUND, "CalledProcessError", *_ANY),
    "pickle": (*_NOT_FOUND, *_ANY),
}


class Reach(LoadFindings):
    """Collects what some pieces of a program reach.

    Args:
        program: the files.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self._stack: list[tuple[ast.AST, Scope, CodeFile]] = []
        self._seen: set[int] = set()
        self._whole: set[str] = set()
        self._touched: dict[str, CodeFile] = {}
        self._bare: set[int] = set()
        self._used: set[tuple[int, str, tuple[str, ...]]] = set()
        # Names of scopes that have been followed, and that no hidden dependency hangs on.
        self._plain: set[tuple[int, str]] = set()
        # Names that are being followed through local modules: two of these may import each other.
        self._passed: set[tuple[str, str]] = set()
        self._asked: list[tuple[ast.Call, Scope, CodeFile]] = []
        self._is_last = False
        # Kept, so that the identity of one is never that of another.
        self._bound: dict[int, Scope] = {}
        self._asked_for: set[tuple[str, str | None]] = set()

    def add_node(self, file: CodeFile, node: ast.AST, scope: Scope) -> None:
        """Count what a node reaches; `scope` is where it stands."""
        if id(node) not in self._seen:
            self._seen.add(id(node))
            self._touched[file.path] = file
            self._stack.append((node, scope, file))

    def add_function(self, file: CodeFile, node: ast.AST, scope: Scope) -> None:
        """Count what a function reaches that is shipped as itself: decorators that stay behind do not count."""
        self._bare.add(id(node))
        self.add_node(file, node, scope)
        if isinstance(node, ast.Assign):
            self._send(node.value, scope, file)

    def add_import(self, file: CodeFile, node: ast.Import | ast.ImportFrom, alias: ast.alias) -> None:
        """Count one part of an import statement."""
        self._import(node, alias, file)

    def add_file(self, file: CodeFile) -> None:
        """Count everything in a file."""
        if file.path not in self._whole:
            self._whole.add(file.path)
            for statement in file.tree.body:
                # What makes names when they are asked for counts for the names that are.
                if not (isinstance(statement, ast.FunctionDef) and statement.name == HOOK):
                    self.add_node(file, statement, file.scopes.root)
            if file.module == "__main__":
                self._ask_for(file, None)

    def run(self) -> None:
        """Follow everything that has been added to its end, then what libraries import because of it."""
        self._drain()
        while self._add_registered():
            self._drain()
        self._is_last = True
        while self._asked:
            node, scope, file = self._asked.pop()
            self._count_loads(list(loads(node, scope, file)), node, scope, file)
            self._drain()
        for need in list(self._uses.needs(self._imported, self._whole)):
            self._need(need)
        self._drain()

    def _drain(self) -> None:
        while self._stack:
            node, scope, file = self._stack.pop()
            visit = _VISITORS.get(type(node))
            if visit is not None:
                visit(self, node, scope, file)
            else:
                self._push(child_nodes(node), scope, file)

    def _add_registered(self) -> bool:
        """Follow what decorators put into tables of local modules that are reached; return whether there was any."""
        found = False
        for file in [file for path, file in self._touched.items() if path not in self._whole]:
            for decorator, binding in file.scopes.registrations:
                source = fills_elsewhere(decorator, file) if id(binding.node) not in self._seen else None
                if source is not None and source.path in self._whole:
                    self.add_node(file, binding.node, binding.scope)
                    found = True
        return found

    def _push(self, nodes: Iterable[ast.AST | None], scope: Scope, file: CodeFile) -> None:
        self._stack += [
            (node, scope, file) for node in nodes if node is not None and node.__class__ not in _SAYS_NOTHING
        ]

    # Nodes that open scopes

    def _visit_function(self, node: FunctionNode, scope: Scope, file: CodeFile) -> None:
        self._seen.add(id(node))
        for decorator in node.decorator_list:
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            if id(node) in self._bare and (file.qualify(call, scope) or "").partition(".")[0] in _TAKEN_OFF:
                self._set_up(decorator, scope, file)
            elif file.path in self._whole or not leaves_no_trace(decorator, scope):
                self._push([decorator], scope, file)
        inner = file.scopes.inner[id(node)]
        self._push_arguments(node.args, scope, file)
        if not file.scopes.lazy_annotations:
            self._push([node.returns], scope, file)
        self._push(getattr(node, "type_params", ()), inner, file)
        self._push(node.body, inner, file)

    def _set_up(self, decorator: ast.expr, scope: Scope, file: CodeFile) -> None:
        """Follow what `@task(context=(load, ...))` names: the set-up function travels with the function."""
        for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
            if keyword.arg == "context":
                self._push([keyword.value], scope, file)
                for name in all_nodes(keyword.value):
                    found = scope.lookup(name.id) if isinstance(name, ast.Name) else []
                    self._bare.update(id(binding.node) for binding in found if binding.kind == "definition")

    def _visit_lambda(self, node: ast.Lambda, scope: Scope, file: CodeFile) -> None:
        self._push_arguments(node.args, scope, file)
        self._push([node.body], file.scopes.inner[id(node)], file)

    def _push_arguments(self, arguments: ast.arguments, scope: Scope, file: CodeFile) -> None:
        self._push([*arguments.defaults, *arguments.kw_defaults], scope, file)
        if not file.scopes.lazy_annotations:
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            self._push([one.annotation for one in every if one is not None], scope, file)

    def _visit_class(self, node: ast.ClassDef, scope: Scope, file: CodeFile) -> None:
        self._seen.add(id(node))
        inner = file.scopes.inner[id(node)]
        self._push([*node.decorator_list, *node.bases, *node.keywords], scope, file)
        self._push([*getattr(node, "type_params", ()), *node.body], inner, file)

    def _visit_comprehension(self, node: ComprehensionNode, scope: Scope, file: CodeFile) -> None:
        inner = file.scopes.inner[id(node)]
        for position, generator in enumerate(node.generators):
            self._push([generator.iter], scope if position == 0 else inner, file)
            self._push([generator.target, *generator.ifs], inner, file)
        self._push([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt], inner, file)

    # Statements with a meaning of their own

    def _visit_if(self, node: ast.If, scope: Scope, file: CodeFile) -> None:
        live = file.scopes.live(node)
        if id(scope) in self._bound:
            truths = {bool(value) for value in file.folder(scope).fold(node.test)}
            live = live_branches(node, truths.pop()) if len(truths) == 1 else live
        self._push([node.test, *live], scope, file)

    def _visit_ifexp(self, node: ast.IfExp, scope: Scope, file: CodeFile) -> None:
        truth = file.folder(scope).settled(node.test) if _is_settled(node.test, scope) else None
        arms = [node.body, node.orelse] if truth is None else [node.body if truth else node.orelse]
        self._push([node.test, *arms], scope, file)

    def _visit_annassign(self, node: ast.AnnAssign, scope: Scope, file: CodeFile) -> None:
        evaluated = scope.kind != "function" and not file.scopes.lazy_annotations
        self._push([node.target, node.value, node.annotation if evaluated else None], scope, file)
        for load in annotated_loads(node, scope, file):
            self.add_load(load, file, node.annotation, "dynamic")

    def _visit_import(self, node: ast.Import | ast.ImportFrom, scope: Scope, file: CodeFile) -> None:
        for alias in node.names:
            self._import(node, alias, file)

    def _visit_assign(self, node: ast.Assign, scope: Scope, file: CodeFile) -> None:
        self._uses.assignment(node, scope, file)
        self._push(child_nodes(node), scope, file)

    def _visit_call(self, node: ast.Call, scope: Scope, file: CodeFile) -> None:
        self._uses.call(node, scope, file)
        self._push(child_nodes(node), scope, file)
        self._count_loads(list(loads(node, scope, file)), node, scope, file)

    def _visit_binop(self, node: ast.BinOp, scope: Scope, file: CodeFile) -> None:
        if isinstance(node.op, ast.MatMult):
            dot = ast.Attribute(ast.Name("numpy", ast.Load()), "dot", ast.Load())
            dot.lineno = node.lineno
            self._uses.call(call_at(node, dot, [node.left, node.right], []), scope, file)
        self._push([node.left, node.right], scope, file)

    def _visit_subscript(self, node: ast.Subscript, scope: Scope, file: CodeFile) -> None:
        self._push(child_nodes(node), scope, file)
        for load in subscript_loads(node, scope, file):
            self.add_load(load, file, node, "dynamic")

    def _count_loads(self, found: Sequence[Load], node: ast.Call, scope: Scope, file: CodeFile) -> None:
        if not self._is_last and any(load.kind == "question" for load in found):
            # A caller in a file that comes later may pass the constant that is missing.
            self._asked.append((node, scope, file))
            return
        for load in found:
            kind = file.scopes.kinds.get(id(node), "static")
            if load.is_optional or is_forgiven(file.scopes.tries, node, _FORGIVING.get(load.kind, ())):
                kind = "optional"
            self.add_load(load, file, node, "dynamic" if kind == "static" else kind)

    # Names

    def _visit_name(self, node: ast.Name, scope: Scope, file: CodeFile) -> None:
        key = (id(scope), node.id)
        if key not in self._plain:
            if not self._uses.mention(node, scope, file):
                self._plain.add(key)
            self._use(node.id, (), scope, file)
        self._use_unguarded(node, scope, file)

    def _visit_attribute(self, node: ast.Attribute, scope: Scope, file: CodeFile) -> None:
        self._uses.mention(node, scope, file)
        chain: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            chain.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self._use(inner.id, tuple(reversed(chain)), scope, file)
            self._use_unguarded(inner, scope, file)
        else:
            self._push([inner], scope, file)

    def _use(self, name: str, chain: tuple[str, ...], scope: Scope, file: CodeFile) -> None:
        # Once per scope: a name that is assigned and used a thousand times would otherwise cost a million steps.
        use = (id(scope), name, chain)
        if use in self._used:
            return
        self._used.add(use)
        bindings = scope.lookup(name)
        for binding in bindings if file.path in self._whole else _latest(bindings, name, file):
            self._follow(binding, name, chain, file)
        if not bindings:
            self._use_star(name, file)

    def _use_unguarded(self, node: ast.Name, scope: Scope, file: CodeFile) -> None:
        """Count an import that can fail for a use that would fail then, too."""
        if not file.scopes.forgiven or id(node) not in file.unguarded:
            return
        for binding in scope.lookup(node.id):
            if binding.kind == "import" and binding.alias is not None and id(binding.node) in file.scopes.kinds:
                assert isinstance(binding.node, ast.Import | ast.ImportFrom)
                self.add_module(file.imported(binding.node, binding.alias), file.path, node.lineno, "conditional")

    def _follow(self, binding: Binding, name: str, chain: tuple[str, ...], file: CodeFile) -> None:
        if binding.kind == "import":
            assert isinstance(binding.node, ast.Import | ast.ImportFrom)
            assert binding.alias is not None
            base = file.absolute(binding.node) if isinstance(binding.node, ast.ImportFrom) else ""
            wanted = binding.alias.name if base and self._is_sent(binding, file) else ""
            if wanted and (is_number(base, wanted) or self._handed_on(base, wanted, chain)):
                return
            if _concerns(binding.node, binding.alias, chain):
                self._import(binding.node, binding.alias, file)
                self._ask_module(file.imported(binding.node, binding.alias), binding, chain)
                is_taken = id(binding.node) in file.scopes.taken and file.path not in self._whole
                if is_taken or id(binding.node) in file.scopes.unbacked:
                    module = file.imported(binding.node, binding.alias)
                    self.add_module(module, file.path, binding.node.lineno, "conditional")
            else:
                self._ask_local(name, chain[0])
        elif binding.kind != "parameter":
            is_sent = self._is_sent(binding, file)
            if is_sent and is_plain(binding.value, binding.scope):
                return
            self.add_node(file, binding.node, binding.scope)
            if is_sent and binding.kind == "value" and binding.value is not None:
                self._send(binding.value, binding.scope, file)

    def _handed_on(self, module: str, name: str, chain: tuple[str, ...]) -> bool:
        """Follow a global that a local module has only imported itself; return whether it was one.

        What is sent is the imported object, and the module that handed it on stays behind.
        """
        other = self._program.opened(module)
        if other is None or other.path in self._whole or (other.path, name) in self._passed:
            return False
        bindings = other.scopes.root.bindings.get(name, [])
        if not bindings or any(binding.kind != "import" for binding in bindings):
            return False
        self._passed.add((other.path, name))
        for binding in bindings:
            self._follow(binding, name, chain, other)
        self._passed.discard((other.path, name))
        return True

    def _is_sent(self, binding: Binding, file: CodeFile) -> bool:
        """Whether a global is sent along as its value, as those of a function are that travels alone."""
        return binding.scope.kind == "module" and file.path not in self._whole

    def _send(self, value: ast.expr, scope: Scope, file: CodeFile) -> None:
        for need in sent_needs(value, scope, file, self._program.finder):
            self._need(need)

    def _use_star(self, name: str, file: CodeFile) -> None:
        # The last star import wins; one that cannot be read may always be the one.
        for node in reversed(file.scopes.root.stars):
            given = provides(self._program, file.absolute(node), name)
            if given or (given is None and name not in BUILTINS):
                self._import(node, node.names[0], file)
                self._ask_local(file.absolute(node), name)
            if given:
                return

    # Modules

    def _import(self, node: ast.Import | ast.ImportFrom, alias: ast.alias, file: CodeFile) -> None:
        kind = file.scopes.kinds.get(id(node))
        if kind is None:  # an import in a branch that cannot run has none
            return
        module = file.imported(node, alias)
        self.add_module(module, file.path, node.lineno, kind, asks_names=False)
        if isinstance(node, ast.ImportFrom):
            for name in self._star_names(module) if alias.name == "*" else (alias.name,):
                self._ask_local(file.absolute(node), name)

    def add_module(self, module: str, file: str, line: int, kind: EvidenceKind, *, asks_names: bool = True) -> None:
        """Count a module: its distribution, or its file and its packages' and all that these reach.

        Args:
            module: its name.
            file: absolute path of the source file that imports it.
            line: line in it.
            kind: how sure it is.
            asks_names: whether any name of the module may be used; otherwise those that are have been told apart.
        """
        super().add_module(module, file, line, kind)
        if asks_names:
            self._ask_local(module, None)

    # Names that a module makes when they are asked for

    def _ask_module(self, module: str, binding: Binding, chain: tuple[str, ...]) -> None:
        """Ask for the name that a use of an imported module reads from it; for any where the module is handed on."""
        alias = binding.alias
        if alias is not None and isinstance(binding.node, ast.Import) and not alias.asname:
            chain = chain[alias.name.count(".") :]
        elif isinstance(binding.node, ast.ImportFrom) and module.rpartition(".")[2] != getattr(alias, "name", ""):
            return  # the name is an attribute, not the module
        self._ask_local(module, chain[0] if chain else None)

    def _ask_local(self, module: str, name: str | None) -> None:
        location = self._program.finder.find(module)
        if location.kind != "local" or not location.file.endswith(".py") or (location.file, name) in self._asked_for:
            return
        self._asked_for.add((location.file, name))
        try:
            self._ask_for(self._program.module(location), name)
        except EnvpackError:
            return  # has been said where the module was counted

    def _ask_for(self, file: CodeFile, name: str | None) -> None:
        if name is not None and name in file.scopes.root.bindings:
            return
        for function in hooks(file):
            if name is None:
                self.add_node(file, function, file.scopes.root)
            else:
                scope = bound_scope(file, function, name)
                self._bound[id(scope)] = scope
                self._push(function.body, scope, file)
        for module in attached(file, name):
            self.add_module(self._importable(module), file.path, 1, "dynamic", asks_names=name is None)
            if name is not None:
                self._ask_local(module, name)

    def _star_names(self, module: str) -> Sequence[str | None]:
        """Return the names that a star import of a local module asks for; any where that is not known."""
        location = self._program.finder.find(module)
        if location.kind != "local" or not location.file.endswith(".py"):
            return ()
        try:
            file = self._program.module(location)
        except EnvpackError:
            return ()
        values = [binding.value for binding in file.scopes.root.bindings.get("__all__", ())]
        found = [names for value in values if value is not None for names in file.folder(file.scopes.root).fold(value)]
        return [name for names in found for name in names] if found else (None,)


def _latest(bindings: list[Binding], name: str, file: CodeFile) -> list[Binding]:
    """Return the last of several definitions of a name, where nothing has used the others while the file was loaded."""
    if len(bindings) < 2 or any(item.kind != "definition" or item.node not in file.tree.body for item in bindings):
        return bindings
    decorators = (one for item in bindings for one in getattr(item.node, "decorator_list", ()))
    bases = (one for item in bindings for one in getattr(item.node, "bases", ()))
    acting = (one for one in file.tree.body if not isinstance(one, FunctionNode))
    used = (one for part in (*decorators, *bases, *acting) for one in all_nodes(part))
    return bindings if any(isinstance(one, ast.Name) and one.id == name for one in used) else bindings[-1:]


def _concerns(node: ast.AST, alias: ast.alias, chain: tuple[str, ...]) -> bool:
    """Whether `import a.b` is meant where `a.x.y` is used: not if the two part ways."""
    if not isinstance(node, ast.Import) or alias.asname or not chain:
        return True
    below = alias.name.split(".")[1:]
    return all(one == other for one, other in zip(below, chain, strict=False))


def _is_settled(test: ast.expr, scope: Scope) -> bool:
    """Whether all names of a condition are constants of the module that are assigned once."""
    names = [node.id for node in all_nodes(test) if isinstance(node, ast.Name)]
    found = [scope.lookup(name) for name in names]
    return all(len(items) == 1 and items[0].kind == "value" and items[0].scope.kind == "module" for items in found)


Visitor = Callable[[Reach, ast.AST, Scope, CodeFile], None]


def _visitors() -> Iterator[tuple[type[ast.AST], Visitor]]:
    table: list[tuple[tuple[type[ast.AST], ...], object]] = [
        ((ast.FunctionDef, ast.AsyncFunctionDef), Reach._visit_function),
        ((ast.Lambda,), Reach._visit_lambda),
        ((ast.ClassDef,), Reach._visit_class),
        ((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), Reach._visit_comprehension),
        ((ast.If,), Reach._visit_if),
        ((ast.IfExp,), Reach._visit_ifexp),
        ((ast.AnnAssign,), Reach._visit_annassign),
        ((ast.Assign,), Reach._visit_assign),
        ((ast.Import, ast.ImportFrom), Reach._visit_import),
        ((ast.Call,), Reach._visit_call),
        ((ast.Subscript,), Reach._visit_subscript),
        ((ast.BinOp,), Reach._visit_binop),
        ((ast.Name,), Reach._visit_name),
        ((ast.Attribute,), Reach._visit_attribute),
    ]
    for types, visitor in table:
        for one in types:
            yield one, visitor  # type: ignore[misc]


_VISITORS = dict(_visitors())
