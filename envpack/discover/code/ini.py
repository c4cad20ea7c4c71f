"""What a `configparser` holds that a program fills with a text, a table or a file of its own."""

from __future__ import annotations

from collections.abc import Iterator

from envpack.discover.code import syntax as ast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envpack.discover.code.codefile import CodeFile

_PARSERS = ("configparser.ConfigParser", "configparser.RawConfigParser", "configparser.SafeConfigParser")


def configured_values(file: CodeFile, name: str, value: ast.expr, names: str | None) -> Iterator[dict[str, Any]]:
    """Give the sections that the parser of a name holds.

    Args:
        file: the file in which the parser is made.
        name: its name.
        value: the expression that makes it.
        names: the dotted name of what is called there.
    """
    if not isinstance(value, ast.Call) or names not in _PARSERS:
        return
    for method in ("read_string", "read_dict", "read", "read_file"):
        for call, scope in file.scopes.calls.get(method, ()):
            owner = call.func.value if isinstance(call.func, ast.Attribute) else None
            if isinstance(owner, ast.Name) and owner.id == name and call.args:
                folder = file.folder(scope)
                given = folder.fold(call.args[0]) if method in ("read_string", "read_dict") else []
                texts = given or file.contents(call.args[0], scope)
                yield from (found for text in texts if (found := _sections(text)))


def _sections(given: Any) -> dict[str, Any]:
    import configparser

    if not isinstance(given, str):
        return given if isinstance(given, dict) else {}
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(given)
    except configparser.Error:
        return {}  # the program will say so, too
    return {name: dict(parser[name]) for name in parser.sections()}
