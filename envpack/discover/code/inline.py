"""What a script declares about itself: the dependencies in its block of inline metadata (PEP 723)."""

from __future__ import annotations

from envpack.discover.code import syntax as ast
from envpack.discover.code.nodes import all_nodes
from envpack.discover.code.source import parse_bytes
from envpack.errors import SourceSyntaxError
from envpack.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from packaging.requirements import Requirement

_BLOCK = r"(?m)^# /// script[ \t]*$\n(?P<content>(?:^#(?: .*)?$\n)+?)^# ///[ \t]*$"


@dataclass(frozen=True, slots=True)
class Declared:
    """One declared dependency and where it stands."""

    requirement: Requirement
    file: str
    line: int


def declared(path: str) -> tuple[Declared, ...]:
    """Return the dependencies that a script declares.

    Raises:
        SourceSyntaxError: there are two blocks, or one is not valid.
    """
    # The block is ASCII in comments; what else the file holds, in whatever encoding, is not read here.
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    if "# /// script" not in text:
        return ()
    import re

    found = [(block, text.count("\n", 0, block.start()) + 1) for block in re.finditer(_BLOCK, text)]
    blocks = [(block, line) for block, line in found if _is_comment(text, line)]
    if not blocks:
        return ()
    block, first = blocks[-1]
    if len(blocks) > 1:
        raise SourceSyntaxError(path, first, 0, "", "a second block of inline script metadata")
    import tomllib

    from packaging.requirements import InvalidRequirement, Requirement

    lines = [line[2:] for line in block["content"].splitlines()]
    try:
        wanted = tomllib.loads("\n".join(lines)).get("dependencies", [])
        requirements = [(text, Requirement(text)) for text in wanted]
    except (tomllib.TOMLDecodeError, InvalidRequirement, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise SourceSyntaxError(path, first, 0, "", f"invalid inline script metadata: {reason}") from None
    return tuple(Declared(requirement, path, first + _line_of(text, lines)) for text, requirement in requirements)


def _is_comment(text: str, line: int) -> bool:
    """Tell whether a line is a comment, and not a part of a string that holds another script."""
    try:
        tree = parse_bytes(text.encode(), "")
    except SourceSyntaxError:
        return True  # said where the script is parsed as a whole
    texts = (node for node in all_nodes(tree) if isinstance(node, ast.Constant | ast.JoinedStr))
    return not any(node.lineno < line <= (node.end_lineno or 0) for node in texts)


def _line_of(text: str, lines: list[str]) -> int:
    """Return how far below the opening line a requirement stands."""
    return next((number for number, line in enumerate(lines, 1) if text in line), 0)
