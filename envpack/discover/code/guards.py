"""Which statements can run at all, and which imports the program can do without.

A condition over things that are known beforehand (`TYPE_CHECKING`, `sys.version_info`, `sys.platform`, `os.name`,
`if False`) is decided; every other leaves both branches alive. `try ... except ImportError` is a group of
alternatives: an import is optional if another arm works without it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from envpack.discover.code import syntax as ast
from envpack.discover.code.nodes import all_nodes, last_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    ImportKind = Literal["static", "conditional", "optional"]


_IMPORT_ERRORS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
_MAX_DEPTH = 8
_LEAVERS = {"exit", "quit", "_exit", "abort", "skip", "importorskip", "fail", "error"}


class Works:
    """How well an arm of alternatives works in the asked environment: the larger, the better.

    Not an `enum`, whose import alone takes a tenth of what an analysis may take.
    """

    NEVER = 0
    INSTALLED = 1
    ALWAYS = 2


def live_branches(node: ast.If, truth: bool | None) -> list[ast.stmt]:
    """Return the statements under an `if` that can run."""
    if truth is None:
        return [*node.body, *node.orelse]
    return node.body if truth else node.orelse


def catches_import_error(handler: ast.ExceptHandler) -> bool:
    """Whether a handler is entered when an import fails."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or last_name(kind) in _IMPORT_ERRORS for kind in kinds)


def suppresses_import_error(node: ast.With | ast.AsyncWith) -> bool:
    """Whether a `with` block is `contextlib.suppress(ImportError)`."""
    for item in node.items:
        call = item.context_expr
        if isinstance(call, ast.Call) and last_name(call.func) == "suppress":
            return any(last_name(argument) in _IMPORT_ERRORS for argument in call.args)
    return False


def asks_for_module(test: ast.expr, lookup: Callable[[str], Iterable[ast.AST]], depth: int = 0) -> bool | None:
    """Whether a condition asks if a module can be imported (`importlib.util.find_spec("x")`), itself or by a name.

    Args:
        test: the condition.
        lookup: gives the expressions and functions that a name stands for.
        depth: how many names have been followed to get here.

    Returns:
        `True` if it holds where the module is there, `False` if it holds where it is not, `None` if it does not ask.
    """
    if depth > _MAX_DEPTH:
        return None
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        asked = asks_for_module(test.operand, lookup, depth + 1)
        return None if asked is None else not asked
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return _compared(test, lookup, depth)
    if isinstance(test, ast.BoolOp):
        found = [asked for value in test.values if (asked := asks_for_module(value, lookup, depth + 1)) is not None]
        return found[0] if found else None
    if isinstance(test, ast.NamedExpr):
        return asks_for_module(test.value, lookup, depth + 1)
    if isinstance(test, ast.Call):
        return _called(test, lookup, depth)
    if isinstance(test, ast.Name):
        values = [value for value in lookup(test.id) if isinstance(value, ast.expr)]
        return asks_for_module(values[0], lookup, depth + 1) if len(values) == 1 else None
    return None


def _compared(test: ast.Compare, lookup: Callable[[str], Iterable[ast.AST]], depth: int) -> bool | None:
    right, op = test.comparators[0], test.ops[0]
    if isinstance(op, ast.In | ast.NotIn) and last_name(right) == "modules":
        return isinstance(op, ast.In)  # `"x" in sys.modules`
    if (
        isinstance(right, ast.Constant)
        and right.value is None
        and isinstance(op, ast.Is | ast.IsNot | ast.Eq | ast.NotEq)
    ):
        asked = asks_for_module(test.left, lookup, depth + 1)
        return asked if asked is None or isinstance(op, ast.IsNot | ast.NotEq) else not asked
    return None


def _called(test: ast.Call, lookup: Callable[[str], Iterable[ast.AST]], depth: int) -> bool | None:
    name = last_name(test.func)
    if name in ("find_spec", "find_loader"):
        return True
    if name in ("bool", "any", "all") and test.args:
        inner = test.args[0]
        return asks_for_module(inner.elt if isinstance(inner, ast.GeneratorExp) else inner, lookup, depth + 1)
    if isinstance(test.func, ast.Name):
        # A helper such as `def has(name): return find_spec(name) is not None`.
        for function in lookup(name):
            last = function.body[-1] if isinstance(function, ast.FunctionDef) else None
            if isinstance(last, ast.Return) and last.value is not None:
                return asks_for_module(last.value, lambda _: (), depth + 1)
    return None


def binds_nothing(handlers: Sequence[ast.ExceptHandler]) -> bool:
    """Whether handlers only go on (`pass`, a message): no flag, no substitute for what was not imported."""
    silent = (ast.Pass, ast.Expr)
    return all(isinstance(statement, silent) for handler in handlers for statement in handler.body)


def is_forgiven(tries: Iterable[ast.Try | ast.TryStar], node: ast.expr, errors: Collection[str]) -> bool:
    """Whether an error of a call is caught, in a handler that goes on."""
    for statement in tries:
        if statement.body[0].lineno <= node.lineno <= (statement.body[-1].end_lineno or 0):
            for handler in statement.handlers:
                kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
                if any(kind is None or last_name(kind) in errors for kind in kinds) and not _gives_up(handler):
                    return True
    return False


def _gives_up(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(statement, ast.Raise) or _leaves(statement) for statement in handler.body)


class Alternatives:
    """Judges the arms of `try ... except ImportError`.

    Args:
        probe: says how well one import statement works in the asked environment.
    """

    def __init__(self, probe: Callable[[ast.Import | ast.ImportFrom], int]) -> None:
        self._probe = probe

    def kinds(self, node: ast.Try | ast.TryStar) -> tuple[ImportKind, list[ImportKind]]:
        """Return how needed the imports of the body and of each handler are."""
        matching = [handler for handler in node.handlers if catches_import_error(handler)]
        if not matching or not _has_import(node.body):
            return "static", ["conditional"] * len(node.handlers)
        body = self._works(node.body)
        handlers = {id(handler): self._works(handler.body) for handler in matching}
        best = max(handlers.values())
        if best is Works.ALWAYS or (best is Works.INSTALLED and body is Works.NEVER):
            body_kind: ImportKind = "optional"
        else:
            body_kind = "static"
        return body_kind, [self._handler_kind(handler, body, handlers) for handler in node.handlers]

    def arms(self, there: Sequence[ast.stmt], absent: Sequence[ast.stmt]) -> tuple[ImportKind, ImportKind]:
        """Return how needed the imports are where a module is there, and where it is not, if the program asks first."""
        with_it, without = self._works(there), self._works(absent)
        can_do_without = without is Works.ALWAYS or (without is Works.INSTALLED and with_it is Works.NEVER)
        return "optional" if can_do_without else "conditional", "conditional" if with_it is Works.NEVER else "optional"

    def works(self, statements: Sequence[ast.stmt]) -> bool:
        """Return whether the imports of an arm work in the asked environment."""
        return self._works(statements) is not Works.NEVER

    @staticmethod
    def _handler_kind(handler: ast.ExceptHandler, body: int, handlers: dict[int, int]) -> ImportKind:
        if id(handler) not in handlers:
            return "conditional"
        return "static" if body is Works.NEVER else "optional"

    def _works(self, statements: Sequence[ast.stmt]) -> int:
        worst = Works.ALWAYS
        for statement in statements:
            worst = min(worst, self._statement_works(statement))
        return worst

    def _statement_works(self, statement: ast.stmt) -> int:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            return self._probe(statement)
        if isinstance(statement, ast.Try | ast.TryStar):
            arms = [statement.body, *(item.body for item in statement.handlers if catches_import_error(item))]
            return max(self._works(arm) for arm in arms)
        if isinstance(statement, ast.Raise) or _leaves(statement):
            return Works.NEVER
        return Works.ALWAYS


def _leaves(statement: ast.stmt) -> bool:
    """Whether a statement ends the program: `sys.exit(...)`, `pytest.skip(...)`."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and last_name(call.func) in _LEAVERS


def _has_import(statements: Iterable[ast.stmt]) -> bool:
    return any(True for statement in statements for _ in _imports(statement))


def _imports(statement: ast.stmt) -> Iterator[ast.AST]:
    for node in all_nodes(statement):
        called = last_name(node.func) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Import | ast.ImportFrom) or called in ("import_module", "__import__"):
            yield node
