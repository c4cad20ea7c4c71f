"""What a script declares about itself: the dependencies in its block of inline metadata (PEP 723)."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement

from envpack.errors import SourceSyntaxError

_BLOCK = re.compile(r"^# /// script[ \t]*$\n(?P<content>(?:^#(?: .*)?$\n)+?)^# ///[ \t]*$", re.MULTILINE)


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
    blocks = list(_BLOCK.finditer(text))
    if not blocks:
        return ()
    first = text.count("\n", 0, blocks[-1].start()) + 1
    if len(blocks) > 1:
        raise SourceSyntaxError(path, first, 0, "", "a second block of inline script metadata")
    lines = [line[2:] for line in blocks[0]["content"].splitlines()]
    try:
        wanted = tomllib.loads("\n".join(lines)).get("dependencies", [])
        requirements = [(text, Requirement(text)) for text in wanted]
    except (tomllib.TOMLDecodeError, InvalidRequirement, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise SourceSyntaxError(path, first, 0, "", f"invalid inline script metadata: {reason}") from None
    return tuple(Declared(requirement, path, first + _line_of(text, lines)) for text, requirement in requirements)


def _line_of(text: str, lines: list[str]) -> int:
    """Return how far below the opening line a requirement stands."""
    return next((number for number, line in enumerate(lines, 1) if text in line), 0)
