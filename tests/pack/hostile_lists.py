"""Entry lists as an attacker would write them: the values of JSON, before they become bytes."""

from __future__ import annotations

import hashlib
from random import Random
from typing import Any

from envpack.pack.layer.entries import EXECUTABLE, FILE, FOLDER, LINK

_NAMES = ("a", "b", "bin", "lib", "x.py", "Ä", "c d", "m.so.1", "deep", "e")
_PLACEHOLDER = "/builds/placehold_placehold"
_MODES = (FILE, EXECUTABLE, FOLDER, LINK)
_ODD_MODES = (0, 0o644, 0o104755, 0o102755, 0o101644, 0o020644, 0o060644, 0o010644, 0o140755, 0o100777, 0o100000, -1)
ODD_SIZES = (-1, 0, 1, 511, 512, 513, 1 << 20, (1 << 20) + 1, 8**11, 1 << 33, 1 << 50, (1 << 50) + 1, 1 << 64, 10**30)
_NESTED: list[Any] = []
for _ in range(900):
    _NESTED = [_NESTED]
_ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1.0, 1e300, float("inf"), float("nan"), "", "a", "\0", "\ud800", [], {}, [[]], ["a"],
    {"a": 1}, _NESTED, 1 << 70, [None] * 5, "é", "e\u0301", "\x1b[31m", "a\nb",
)  # fmt: skip
ODD_NAMES = ("", "..", "../" * 6 + "x", "/", "3.11/../../../../x", "\0", "\x1b[2J", "a/b", ".", "x" * 5000, "\ud800")


def odd_value(chance: Random, *more: Any) -> Any:
    """Return a value that stands where it does not belong, or one of some more; never one that another tree holds."""
    value = chance.choice((*_ODD_VALUES, *more))
    return value.copy() if isinstance(value, (list, dict)) else value


class Tree:
    """The value of an entry list, and the content of its files."""

    def __init__(self, entries: list[list[Any]], contents: dict[str, bytes]) -> None:
        self.value: Any = {"entries": entries, "schema": 1}
        self.contents = contents

    @property
    def entries(self) -> list[Any]:
        """The rows that can still be changed as rows are."""
        found = self.value.get("entries") if isinstance(self.value, dict) else None
        return found if isinstance(found, list) else []

    def add(self, *row: Any) -> None:
        self.entries.append(list(row))


def make_tree(chance: Random) -> Tree:
    """Return a tree that is right in all, or nearly so."""
    contents: dict[str, bytes] = {}
    rows: dict[str, list[Any]] = {}
    for _ in range(chance.choice((0, 1, 2, 3, 3, 5, 9))):
        path = "/".join(chance.choice(_NAMES) for _ in range(chance.choice((1, 1, 2, 3))))
        # Most of them are to be possible beside each other.
        if any(path == other or path.startswith(other + "/") or other.startswith(path + "/") for other in rows):
            continue
        mode = chance.choice(_MODES)
        size = chance.choice((0, 1, 40, 511, 512, 513, 3000)) if mode in (FILE, EXECUTABLE) else 0
        contents[path] = chance.randbytes(size)
        digest = hashlib.sha256(contents[path]).hexdigest() if mode in (FILE, EXECUTABLE) else ""
        rows[path] = [path, mode, size, digest, "target" if mode == LINK else ""]
    return Tree([rows[path] for path in sorted(rows)], contents)


# Changes of the entry list: its value, before it becomes bytes.


def _paths(chance: Random, outside: str) -> str:
    name = chance.choice(_NAMES)
    return chance.choice((
        outside + "/evil", "/tmp/evil", "/", "..", "../evil", "../../evil", "a/../../evil", f"{name}/..", "./a", "a/.",
        "a//b", "a/", "", "a\\b", "a\0b", "\0", "...", "a" * 255, "a" * 256, "ä" * 128, "a/" * 1023 + "a",
        "a/" * 600 + "a", "a/" * 99 + "a", "a/" * 100 + "a", "/".join(["b" * 200] * 10), "/".join(["b" * 200] * 11),
        ".envpack", ".envpack/layers/x", ".ENVPACK/x", "A", "B", "LIB/x", "ä", "A\u0308", "e\u0301", "é", "\ud800",
        "\x7f", "a:b", "C:\\evil", "//evil", "~", "\u2025", "\uff0e\uff0e/x", "pyvenv.cfg", "lib64", "bin/python",
        "bin/python3.11", "bin/envpack-relocate", "CON", "a ", " a", "\n", name + "/evil",
        "lib/python3.11/site-packages/evil.pth",
    ))  # fmt: skip


def add_file(tree: Tree, path: str, mode: int, content: bytes) -> None:
    tree.contents[path] = content
    tree.add(path, mode, len(content), hashlib.sha256(content).hexdigest(), "")


def _row(chance: Random, tree: Tree) -> list[Any]:
    rows = [row for row in tree.entries if isinstance(row, list) and len(row) == 5]
    if not rows:
        add_file(tree, "only", FILE, b"content")
        rows = tree.entries[-1:]
    return chance.choice(rows) if rows else [None] * 5


def _change_path(chance: Random, tree: Tree, outside: str) -> None:
    row = _row(chance, tree)
    known = tree.contents.get(row[0], b"") if isinstance(row[0], str) else b""
    row[0] = _paths(chance, outside)
    tree.contents[row[0]] = known


def _change_mode(chance: Random, tree: Tree, outside: str) -> None:
    _row(chance, tree)[1] = chance.choice((*_ODD_MODES, *_MODES, chance.getrandbits(16)))


def _change_size(chance: Random, tree: Tree, outside: str) -> None:
    row = _row(chance, tree)
    row[2] = chance.choice(ODD_SIZES)
    if 0 <= row[2] <= 1 << 14 and isinstance(row[0], str):
        tree.contents[row[0]] = bytes(row[2])
        row[3] = hashlib.sha256(bytes(row[2])).hexdigest()


def _change_digest(chance: Random, tree: Tree, outside: str) -> None:
    row = _row(chance, tree)
    row[3] = chance.choice(("", "0" * 64, str(row[3]).upper(), str(row[3]) + "\n", "g" * 64, "../" * 21 + "x"))


def _change_target(chance: Random, tree: Tree, outside: str) -> None:
    row = _row(chance, tree)
    leads = (outside, "/", "..", "../..", "a", "../a", "a/../..", ".", "", ".envpack/x", "b" * 3000, "a/" * 600 + "a")
    row[1:] = [LINK, 0, "", chance.choice((*leads, row[0], _paths(chance, outside)))]


def _change_any(chance: Random, tree: Tree, outside: str) -> None:
    row = _row(chance, tree)
    row[chance.randrange(5)] = odd_value(chance)


def _change_shape(chance: Random, tree: Tree, outside: str) -> None:
    rows = tree.entries
    if rows and (where := chance.randrange(len(rows))) >= 0:
        match chance.randrange(5):
            case 0:
                del rows[where]
            case 1:
                rows.append(list(rows[where]) if isinstance(rows[where], list) else rows[where])
            case 2:
                rows[where] = rows[where][: chance.randrange(5)] if isinstance(rows[where], list) else 0
            case 3:
                rows[where] = odd_value(chance)
            case _:
                chance.shuffle(rows)


def _change_whole(chance: Random, tree: Tree, outside: str) -> None:
    if not isinstance(tree.value, dict):
        return
    match chance.randrange(5):
        case 0:
            tree.value = odd_value(chance)
        case 1:
            tree.value["schema"] = odd_value(chance, 2, 3, 1 << 40)
        case 2:
            tree.value["entries"] = odd_value(chance)
        case 3:
            tree.value[chance.choice(("more", "placeholders", "case_matters"))] = odd_value(chance)
        case _ if tree.value:
            del tree.value[chance.choice(sorted(tree.value))]


def _add_below(chance: Random, tree: Tree, outside: str) -> None:
    """Use a file or link as a folder, the link leading outside or to a folder beside it."""
    row = _row(chance, tree)
    if isinstance(row[0], str):
        if chance.random() < 0.6:
            row[1:] = [LINK, 0, "", chance.choice((outside, "..", ".", "deep", "../" * row[0].count("/") + "deep"))]
        add_file(tree, f"{row[0]}/evil", FILE, b"evil")


def _add_links(chance: Random, tree: Tree, outside: str) -> None:
    """Let links lead through each other, or in a circle."""
    first, second = chance.choice((("a", "b"), ("deep/a", "deep/b"), ("a", "deep/b")))
    tree.add(first, LINK, 0, "", chance.choice((second, second + "/x", "b/../..", first, "../deep")))
    tree.add(second, LINK, 0, "", chance.choice((first, first + "/x", "..", outside, "../" * 3)))


def _add_clash(chance: Random, tree: Tree, outside: str) -> None:
    row = _row(chance, tree)
    if isinstance(row[0], str):
        name = chance.choice((row[0].upper(), row[0].casefold(), row[0] + "/" + row[0], row[0]))
        add_file(tree, name, FILE, b"2")
    if isinstance(tree.value, dict) and chance.random() < 0.5:
        tree.value |= {"schema": 2, "case_matters": chance.choice((True, True, False, 1)), "placeholders": []}


def add_placeholder(chance: Random, tree: Tree, outside: str) -> None:
    if not isinstance(tree.value, dict):
        return
    content = b"\0" * 9 + _PLACEHOLDER.encode() + b"/lib\0\0x"
    add_file(tree, "m.so", FILE, content)
    sort_rows(chance, tree, 1.0)
    tree.value |= {"schema": 2, "case_matters": False, "placeholders": [["m.so", "binary", _PLACEHOLDER]]}


def _change_placeholder(chance: Random, tree: Tree, outside: str) -> None:
    add_placeholder(chance, tree, outside)
    if not isinstance(tree.value, dict):
        return
    row = tree.value["placeholders"][0]
    text = chance.choice(("/", "", "x" * 20, "/" + "\0" * 20, "/" * 16, outside, "/\\" * 20, "/" + "x" * 3000))
    match chance.randrange(6):
        case 0:
            row[0] = odd_value(chance, _paths(chance, outside))
        case 1:
            row[1] = odd_value(chance, "text", "BINARY")
        case 2:
            row[2] = odd_value(chance, text)
        case 3:
            tree.value["placeholders"].append(odd_value(chance, list(row)))
        case 4:
            del row[chance.randrange(3) :]
        case _:
            tree.value["case_matters"] = odd_value(chance)


LIST_CHANGES = (
    _change_path, _change_path, _change_path, _change_mode, _change_size, _change_digest, _change_target,
    _change_target, _change_any, _change_any, _change_shape, _change_whole, _add_below, _add_below, _add_links,
    _add_clash, add_placeholder, _change_placeholder, _change_placeholder,
)  # fmt: skip


def sort_rows(chance: Random, tree: Tree, often: float = 0.8) -> None:
    """Bring the rows into the order that they must have, so that what else is wrong is looked at."""
    can_be = all(isinstance(row, list) and row and isinstance(row[0], str) for row in tree.entries)
    if can_be and chance.random() < often:
        tree.entries.sort(key=lambda row: row[0])
