"""The plain part of YAML: mappings, lists and scalars by indentation, as configurations are written.

What envpack knows of YAML, without a parser of it: quotes, comments and short lists in brackets are read; a text with
anything else (anchors, tags, block texts, several documents) is refused.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Line = tuple[int, str]

_MAX_LINES = 2000
_NAME = r"""[^"'\s:#{}\[\],&*!|>%@`-][^"':#{}\[\]]*|\(\)|-?\w[\w.-]*"""
_KEY = rf"""(?P<quote>["']?)(?P<key>{_NAME})(?P=quote)\s*:(?:\s+|$)(?P<rest>.*)$"""
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None, "yes": True, "no": False}


def read_plain_yaml(text: str) -> Any:
    """Return what a text of plain YAML says.

    Raises:
        ValueError: it holds more than the plain part, or is no YAML.
    """
    lines = [line for raw in text.splitlines() if (line := _line(raw)) is not None]
    if not lines or len(lines) > _MAX_LINES:
        raise ValueError(f"{len(lines)} lines, 1 to {_MAX_LINES} expected")
    value, rest = _block(lines, 0)
    if rest < len(lines):
        raise ValueError(f"not plain YAML: {lines[rest][1]!r}")
    return value


def _line(raw: str) -> Line | None:
    import re

    text = re.sub(r"(?:^|\s)#[^\"']*$", "", raw).rstrip()
    inner = text.lstrip(" ")
    return (len(text) - len(inner), inner) if inner and inner != "---" else None


def _block(lines: list[Line], start: int) -> tuple[Any, int]:
    if lines[start][1].startswith("- ") or lines[start][1] == "-":
        return _sequence(lines, start)
    return _mapping(lines, start)


def _mapping(lines: list[Line], start: int) -> tuple[Any, int]:
    import re

    indent, position, found = lines[start][0], start, {}
    while position < len(lines) and lines[position][0] == indent and not lines[position][1].startswith("- "):
        match = re.match(_KEY, lines[position][1])
        if match is None:
            if position == start and len(lines) == 1:
                return _scalar(lines[start][1]), start + 1
            raise ValueError(f"not plain YAML: {lines[position][1]!r}")
        position += 1
        if match["rest"]:
            found[match["key"].strip()] = _scalar(match["rest"])
        elif position < len(lines) and _is_below(lines[position], indent):
            found[match["key"].strip()], position = _block(lines, position)
        else:
            found[match["key"].strip()] = None
    return found, position


def _is_below(line: Line, indent: int) -> bool:
    # A list may stand as far to the left as the key that it belongs to.
    return line[0] > indent or (line[0] == indent and line[1].startswith("- "))


def _sequence(lines: list[Line], start: int) -> tuple[Any, int]:
    indent, position, found = lines[start][0], start, []
    while position < len(lines) and lines[position][0] == indent and lines[position][1].startswith("-"):
        inner = lines[position][1][1:].lstrip(" ")
        width = len(lines[position][1]) - len(inner)
        if _opens_block(inner):
            lines[position] = (indent + width, inner)
            value, position = _block(lines, position)
        else:
            value, position = _scalar(inner), position + 1
        found.append(value)
    return tuple(found), position


def _opens_block(text: str) -> bool:
    import re

    return text.startswith("- ") or re.match(_KEY, text) is not None


def _scalar(text: str) -> Any:
    if not text:
        return None
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    if text[0] == "[" and text[-1] == "]":
        return tuple(_scalar(part.strip()) for part in text[1:-1].split(",") if part.strip())
    if text[0] in "&*!|>{[%@`\"'":
        raise ValueError(f"not plain YAML: {text!r}")
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    return int(text) if text.lstrip("-").isdigit() else text
