"""What a call loads that no import statement names, as values; and the call as those see it who read that out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from envpack.discover.code import syntax as ast
from envpack.discover.code.codefile import CodeFile
from envpack.discover.code.scopes import Scope
from envpack.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    LoadKind = Literal[
        "module", "program", "distribution", "provider", "command", "lookup", "file", "script", "pickle", "question"
    ]


@dataclass(frozen=True, slots=True)
class Load:
    """One thing that a call loads.

    Attributes:
        kind: `module`; `program` for what `python -m` runs; `distribution` by its own name; `provider` of entry points
            (`group` or `group:name`); `command` for a console script that is run, `lookup` for one that is only looked
            for; `file` for a local Python file that is executed, `script` where that happens in another process;
            `pickle` for a file of pickled objects; `question` where it cannot be said.
        name: its name or path; for a question what to do about it.
        is_optional: whether the program goes on without it.
    """

    kind: LoadKind
    name: str
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class CallSite:
    """A call and where it stands.

    Attributes:
        name: dotted name of what is called.
        node: the call.
        scope: the scope in which it stands.
        file: the file in which it stands.
    """

    name: str
    node: ast.Call
    scope: Scope
    file: CodeFile

    def argument(self, position: int | None, keyword: str) -> ast.expr | None:
        """Return one argument, or `None` if it is not given."""
        for item in self.node.keywords:
            if item.arg == keyword:
                return item.value
        if position is None or position >= len(self.node.args):
            return None
        # Behind `*arguments` nobody knows which argument stands where.
        before = self.node.args[: position + 1]
        return None if any(isinstance(one, ast.Starred) for one in before) else before[-1]

    def texts(self, node: ast.expr | None) -> list[str]:
        """Return the texts that an expression can be."""
        return self.file.folder(self.scope).texts(node) if node is not None else []

    def values(self, node: ast.expr | None) -> list[object]:
        """Return the constants that an expression can be."""
        return self.file.folder(self.scope).fold(node) if node is not None else []


Reader = Callable[[CallSite], Iterator[Load]]


def computed(site: CallSite) -> Load:
    """Return the question that a computed name leaves open."""
    return Load("question", f"{site.name} is called with a computed name: name the distribution with --include DIST")


def is_dotted(name: str) -> bool:
    """Whether a text can be the name of a module."""
    return bool(name) and all(part.isidentifier() for part in name.split("."))
