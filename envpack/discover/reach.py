"""What a piece of code reaches: from a function or a whole file, along names, to imports and local files.

A function needs what its names lead to: imports, helpers and classes of the same file, assignments, star imports. A
local module that it imports is executed whole, so everything in that file counts. Nothing here is recursive: a stack of
pieces still to look at replaces calls, so that neither deep expressions nor import cycles can exhaust it.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from envpack.discover.codefile import CodeFile
from envpack.discover.dependencies import Evidence, EvidenceKind, Unresolved, UnresolvedKind
from envpack.discover.dynamic import dynamic_modules
from envpack.discover.finder import Location
from envpack.discover.hidden import Need, Uses
from envpack.discover.program import Program
from envpack.discover.scopes import Binding, ComprehensionNode, FunctionNode, Scope
from envpack.errors import EnvpackError

_BUILTINS = frozenset(dir(builtins))
_MAX_STAR_DEPTH = 8
# Decorators of these packages are taken off before a function is shipped.
_TAKEN_OFF = frozenset({"envpack_executor", "envpack_monitor"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One module that the code imports, where, how surely, and where the module is."""

    module: str
    file: str
    line: int
    kind: EvidenceKind
    location: Location


class Reach:
    """Collects what some pieces of a program reach.

    Args:
        program: the files.
    """

    def __init__(self, program: Program) -> None:
        self.findings: dict[Finding, None] = {}
        self.unresolved: dict[Unresolved, None] = {}
        self.local_files: dict[str, str] = {}
        self.local_evidence: dict[str, Evidence] = {}
        self._program = program
        self._stack: list[tuple[ast.AST, Scope, CodeFile]] = []
        self._seen: set[int] = set()
        self._whole: set[str] = set()
        self._bare: set[int] = set()
        self._used: set[tuple[int, str, tuple[str, ...]]] = set()
        self._uses = Uses()
        self._imported: set[str] = set()

    def add_node(self, file: CodeFile, node: ast.AST, scope: Scope) -> None:
        """Count what a node reaches; `scope` is where it stands."""
        if id(node) not in self._seen:
            self._seen.add(id(node))
            self._stack.append((node, scope, file))

    def add_function(self, file: CodeFile, node: ast.AST, scope: Scope) -> None:
        """Count what a function reaches that is shipped as itself: decorators that stay behind do not count."""
        self._bare.add(id(node))
        self.add_node(file, node, scope)

    def add_import(self, file: CodeFile, node: ast.Import | ast.ImportFrom, alias: ast.alias) -> None:
        """Count one part of an import statement."""
        self._import(node, alias, file)

    def add_file(self, file: CodeFile) -> None:
        """Count everything in a file."""
        if file.path not in self._whole:
            self._whole.add(file.path)
            for statement in file.tree.body:
                self.add_node(file, statement, file.scopes.root)

    def run(self) -> None:
        """Follow everything that has been added to its end, then what libraries import because of it."""
        self._drain()
        for need in list(self._uses.needs(self._imported)):
            self._need(need)
        self._drain()

    def _drain(self) -> None:
        while self._stack:
            node, scope, file = self._stack.pop()
            visit = _VISITORS.get(type(node))
            if visit is not None:
                visit(self, node, scope, file)
            else:
                self._push(ast.iter_child_nodes(node), scope, file)

    def _push(self, nodes: Iterable[ast.AST | None], scope: Scope, file: CodeFile) -> None:
        self._stack.extend((node, scope, file) for node in nodes if node is not None)

    # Nodes that open scopes

    def _visit_function(self, node: FunctionNode, scope: Scope, file: CodeFile) -> None:
        self._seen.add(id(node))
        for decorator in node.decorator_list:
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            if id(node) in self._bare and (file.qualify(call, scope) or "").partition(".")[0] in _TAKEN_OFF:
                self._set_up(decorator, scope, file)
            else:
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
                for name in ast.walk(keyword.value):
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
        self._push([node.test, *file.scopes.live(node)], scope, file)

    def _visit_annassign(self, node: ast.AnnAssign, scope: Scope, file: CodeFile) -> None:
        evaluated = scope.kind != "function" and not file.scopes.lazy_annotations
        self._push([node.target, node.value, node.annotation if evaluated else None], scope, file)

    def _visit_import(self, node: ast.Import | ast.ImportFrom, scope: Scope, file: CodeFile) -> None:
        for alias in node.names:
            self._import(node, alias, file)

    def _visit_assign(self, node: ast.Assign, scope: Scope, file: CodeFile) -> None:
        self._uses.assignment(node, scope, file)
        self._push(ast.iter_child_nodes(node), scope, file)

    def _visit_call(self, node: ast.Call, scope: Scope, file: CodeFile) -> None:
        self._uses.call(node, scope, file)
        self._push(ast.iter_child_nodes(node), scope, file)
        name = file.qualify(node.func, scope)
        if name is None:
            return
        modules = dynamic_modules(name, node, file.folder(scope), file.package)
        kind = file.scopes.kinds.get(id(node), "static")
        if modules is None:
            if kind != "optional":
                hint = f"{name} is called with a computed name: name the distribution with --include DIST"
                self._undecided("", file.path, node.lineno, "dynamic", hint)
            return
        for module in modules:
            self.add_module(self._importable(module), file.path, node.lineno, "dynamic" if kind == "static" else kind)

    def _importable(self, name: str) -> str:
        """Return the longest leading part of a dotted name that is a module (`rich.logging.RichHandler`)."""
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            if self._program.finder.find(".".join(parts[:length])).kind != "missing":
                return ".".join(parts[:length])
        return name

    # Names

    def _visit_name(self, node: ast.Name, scope: Scope, file: CodeFile) -> None:
        self._uses.mention(node, scope, file)
        self._use(node.id, (), scope, file)

    def _visit_attribute(self, node: ast.Attribute, scope: Scope, file: CodeFile) -> None:
        self._uses.mention(node, scope, file)
        chain: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            chain.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self._use(inner.id, tuple(reversed(chain)), scope, file)
        else:
            self._push([inner], scope, file)

    def _use(self, name: str, chain: tuple[str, ...], scope: Scope, file: CodeFile) -> None:
        # Once per scope: a name that is assigned and used a thousand times would otherwise cost a million steps.
        use = (id(scope), name, chain)
        if use in self._used:
            return
        self._used.add(use)
        bindings = scope.lookup(name)
        for binding in bindings:
            self._follow(binding, name, chain, file)
        if not bindings:
            self._use_star(name, file)

    def _follow(self, binding: Binding, name: str, chain: tuple[str, ...], file: CodeFile) -> None:
        if binding.kind == "import":
            assert isinstance(binding.node, ast.Import | ast.ImportFrom)
            assert binding.alias is not None
            if _concerns(binding.node, binding.alias, chain):
                self._import(binding.node, binding.alias, file)
                if id(binding.node) in file.scopes.unbacked:
                    module = file.imported(binding.node, binding.alias)
                    self.add_module(module, file.path, binding.node.lineno, "conditional")
        elif binding.kind != "parameter":
            self.add_node(file, binding.node, binding.scope)

    def _use_star(self, name: str, file: CodeFile) -> None:
        # The last star import wins; one that cannot be read may always be the one.
        for node in reversed(file.scopes.root.stars):
            provides = self._provides(file.absolute(node), name)
            if provides or (provides is None and name not in _BUILTINS):
                self._import(node, node.names[0], file)
            if provides:
                return

    def _provides(self, module: str, name: str, depth: int = 0) -> bool | None:
        """Whether a star import of a module gives a name; `None` if that cannot be read."""
        location = self._program.finder.find(module)
        if location.kind in ("stdlib", "missing", "namespace"):
            return _standard_has(module, name) if location.kind == "stdlib" else False
        if not location.file.endswith(".py") or depth > _MAX_STAR_DEPTH:
            return None
        try:
            file = self._program.module(location)
        except EnvpackError:
            return None
        root = file.scopes.root
        if name in root.bindings:
            return True
        inner = [self._provides(file.absolute(star), name, depth + 1) for star in root.stars]
        if True in inner:
            return True
        return None if None in inner or "__getattr__" in root.bindings or "__all__" not in root.bindings else False

    # Modules

    def _import(self, node: ast.Import | ast.ImportFrom, alias: ast.alias, file: CodeFile) -> None:
        kind = file.scopes.kinds.get(id(node))
        if kind is not None:  # an import in a branch that cannot run has none
            self.add_module(file.imported(node, alias), file.path, node.lineno, kind)

    def add_module(self, module: str, file: str, line: int, kind: EvidenceKind) -> None:
        """Count a module: its distribution, or its file and its packages' and all that these reach."""
        location = self._attributable(module)
        is_new = module not in self._imported
        self._imported.add(module)
        if location.kind == "stdlib":
            return
        if location.kind == "missing":
            if kind != "optional" and module:
                self._missing(module, file, line, kind)
            return
        self.findings.setdefault(Finding(module, file, line, kind, location))
        for groups in self._uses.needs_of_import(module) if is_new else ():
            self._need(Need(groups, f"import {module}", file, line, kind == "static", kind == "optional"))
        parts = module.split(".")
        for length in range(1, len(parts) + 1):
            self._add_local(self._program.finder.find(".".join(parts[:length])), file, line)

    def _need(self, need: Need) -> None:
        """Count what a library imports: of the alternatives the first that is there."""
        for group in need.groups:
            if all(self._attributable(module).kind != "missing" for module in group):
                for module in group:
                    self.add_module(module, need.file, need.line, "optional" if need.is_optional else "hidden")
                return
        if not need.is_optional:
            either = " or ".join(" and ".join(group) for group in need.groups)
            hint = f"{need.by} imports {either}: install it in the analysed environment, or pass --exclude"
            kind: UnresolvedKind = "missing" if need.is_certain else "conditional"
            for module in need.groups[0]:
                if self._attributable(module).kind == "missing":
                    self._undecided(module, need.file, need.line, kind, f"{hint} {module.partition('.')[0]}")

    def _attributable(self, module: str) -> Location:
        """Return where a module is; one that a package makes at run time (`six.moves`) is where the package is."""
        location = self._program.finder.find(module)
        name = module
        while location.kind == "missing" and "." in name:
            name = name.rpartition(".")[0]
            above = self._program.finder.find(name)
            if above.kind == "distribution":
                return above
        return location

    def add_unresolved(self, item: Unresolved) -> None:
        """Count something that could not be decided."""
        self.unresolved.setdefault(item)

    def add_observed_file(self, path: str, root: str, evidence: Evidence) -> None:
        """Count a local file that a run was seen to import."""
        if path not in self.local_files:
            self.local_files[path] = root
            self.local_evidence[path] = evidence

    def _add_local(self, location: Location, file: str, line: int) -> None:
        if location.kind != "local" or location.file in self.local_files:
            return
        self.local_files[location.file] = location.root
        self.local_evidence[location.file] = Evidence(file, line, "static", location.module)
        if not location.file.endswith(".py"):
            return
        try:
            self.add_file(self._program.module(location))
        except EnvpackError as error:
            self._undecided(location.module, file, line, "source", f"cannot be read: {str(error).splitlines()[0]}")

    def _missing(self, module: str, file: str, line: int, kind: EvidenceKind) -> None:
        top = module.partition(".")[0]
        hint = f"install it in the analysed environment, or settle it with --map {top}=DIST or --exclude {top}"
        self._undecided(module, file, line, "conditional" if kind == "conditional" else "missing", hint)

    def _undecided(self, module: str, file: str, line: int, kind: UnresolvedKind, hint: str) -> None:
        self.add_unresolved(Unresolved(module, file, line, kind, hint))


def _concerns(node: ast.AST, alias: ast.alias, chain: tuple[str, ...]) -> bool:
    """Whether `import a.b` is meant where `a.x.y` is used: not if the two part ways."""
    if not isinstance(node, ast.Import) or alias.asname or not chain:
        return True
    below = alias.name.split(".")[1:]
    return all(one == other for one, other in zip(below, chain, strict=False))


def _standard_has(module: str, name: str) -> bool:
    # Only modules that this process has loaded anyway are looked at; others are taken to hold any name but built-ins.
    import sys

    loaded = sys.modules.get(module)
    return hasattr(loaded, name) if loaded is not None else name not in _BUILTINS


Visitor = Callable[[Reach, ast.AST, Scope, CodeFile], None]


def _visitors() -> Iterator[tuple[type[ast.AST], Visitor]]:
    table: list[tuple[tuple[type[ast.AST], ...], object]] = [
        ((ast.FunctionDef, ast.AsyncFunctionDef), Reach._visit_function),
        ((ast.Lambda,), Reach._visit_lambda),
        ((ast.ClassDef,), Reach._visit_class),
        ((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), Reach._visit_comprehension),
        ((ast.If,), Reach._visit_if),
        ((ast.AnnAssign,), Reach._visit_annassign),
        ((ast.Assign,), Reach._visit_assign),
        ((ast.Import, ast.ImportFrom), Reach._visit_import),
        ((ast.Call,), Reach._visit_call),
        ((ast.Name,), Reach._visit_name),
        ((ast.Attribute,), Reach._visit_attribute),
    ]
    for types, visitor in table:
        for one in types:
            yield one, visitor  # type: ignore[misc]


_VISITORS = dict(_visitors())
