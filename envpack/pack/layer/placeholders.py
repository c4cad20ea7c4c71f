"""Folders that were written into files: taken out when a package is packed, put in where it comes to lie.

Packages of conda are built with a long placeholder in place of the folder that they will be installed into, and the
installer writes that folder into their files. `emptied` undoes this, `filled` does it again for another folder, and
each gives back exactly what the other was given. A text gets longer or shorter; in a binary file each string keeps its
length, filled up with NULs, so the folder may not be longer than the placeholder. A file of any size is rewritten in
pieces of a few megabytes, which end where no line of a text and no string of a binary file is cut.

Needs nothing but the standard library: an unpacked environment carries this file, for its program
`bin/envpack-relocate`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial

NOTE = ".envpack/placeholders.json"
PROGRAM = ".envpack/placeholders.py"
RELOCATE = "bin/envpack-relocate"

# What Linux takes as the first line of a script; newer kernels take twice as much.
_SHEBANG_BYTES = 127
_BY_ENV = b"#!/usr/bin/env "
# The same for Python alone: the shell starts it, and Python reads its own start as a text.
_BY_SHELL = rb"\#!/bin/sh\n\'\'\'exec\'\ \"?%s(/bin/[^\"\s]+)\"?\ \"\$0\"\ \"\$@\"(?:\ \#\'\'\'|\n\'\ \'\'\')\n"

# A short folder such as `/env` also stands inside of other paths (`/usr/bin/env`). Ever stricter on what is around it.
_AFTER = rb"(?![\w.-])"
_BEFORE = rb"(?:(?<![\w./-])|(?<=-[ILR]))"
_AROUND = ((b"", b""), (b"", _AFTER), (_BEFORE, _AFTER))


PIECE_BYTES = 1 << 22
# So many NULs behind a string are more than any needs to grow.
_ROOM_BYTES = 1 << 16


def filled(data: bytes, mode: str, placeholder: bytes, prefix: bytes) -> bytes:
    """Return the content of a file with a folder in place of the placeholder; see `fill`."""
    return b"".join(fill([data], mode, placeholder, prefix))


def fill(pieces: Iterable[bytes], mode: str, placeholder: bytes, prefix: bytes) -> Iterator[bytes]:
    """Yield the content of a file with a folder in place of the placeholder.

    Args:
        pieces: the content, as `file_pieces` gives it.
        mode: `text` or `binary`.
        placeholder: what to replace.
        prefix: the absolute path of the folder.

    Raises:
        ValueError: the folder is longer than the placeholder in a binary file.
    """
    if mode == "text":
        for number, piece in enumerate(pieces):
            text = piece if number else _short_shebang(piece, placeholder, prefix)
            yield text.replace(placeholder, prefix)
        return
    if len(prefix) > len(placeholder):
        raise ValueError(f"{len(prefix)} bytes met, room for {len(placeholder)}")
    strings = re.compile(re.escape(placeholder) + rb"[^\0]*")
    for piece in pieces:
        yield strings.sub(lambda match: match[0].replace(placeholder, prefix).ljust(len(match[0]), b"\0"), piece)


def emptied(data: bytes, mode: str, placeholder: bytes, prefix: bytes, sha256: str = "") -> tuple[bytes, bool]:
    """Return the content of a file with the placeholder in place of a folder; see `empty`."""
    again, is_right = empty(lambda: [data], mode, placeholder, prefix, sha256)
    return b"".join(again()), is_right


def empty(
    read: Callable[[], Iterable[bytes]], mode: str, placeholder: bytes, prefix: bytes, sha256: str = ""
) -> tuple[Callable[[], Iterator[bytes]], bool]:
    """Return what gives the content of a file with the placeholder in place of a folder.

    Args:
        read: gives the content in pieces, as `file_pieces` does; called several times.
        mode: `text` or `binary`.
        placeholder: what stood there.
        prefix: the absolute path of the folder that stands there now; empty where none was written.
        sha256: digest that the content had; where it is not known, any content is right.

    Returns:
        What gives the content, and whether it is what it was; if not, the file was edited.
    """
    if not prefix:
        return lambda: iter(read()), not sha256 or _digest(read()) == sha256
    for before, after in _AROUND:
        pattern = re.compile(before + re.escape(prefix) + after)
        for is_shortened in (False, True) if mode == "text" else (False,):
            again = partial(_emptied, read, mode, placeholder, prefix, pattern, is_shortened)
            if sha256 and _digest(again()) == sha256:
                return again, True
    # Nothing fits: the strictest, which touches the least, of the text as it is.
    return partial(_emptied, read, mode, placeholder, prefix, pattern, False), not sha256


def _emptied(
    read: Callable[[], Iterable[bytes]],
    mode: str,
    placeholder: bytes,
    prefix: bytes,
    pattern: re.Pattern[bytes],
    is_shortened: bool,
) -> Iterator[bytes]:
    for number, piece in enumerate(read()):
        if mode == "text":
            text = _before_shortening(piece, placeholder, prefix) if is_shortened and not number else piece
            yield pattern.sub(lambda _: placeholder, text)
        else:
            yield _grown(piece, pattern, placeholder)


def file_pieces(file: str, mode: str) -> Iterator[bytes]:
    """Yield a file in pieces that `fill` and `empty` may look at one by one.

    Args:
        file: the file.
        mode: `text` or `binary`.
    """
    held = bytearray()
    with open(file, "rb") as stream:
        while data := stream.read(PIECE_BYTES):
            held += data
            end = held.rfind(b"\n") + 1 if mode == "text" else _end_of_string(held)
            if end:
                yield bytes(held[:end])
                del held[:end]
    yield bytes(held)


def _end_of_string(held: bytearray) -> int:
    """Return where the NULs behind the last whole string end; 0 if there is none."""
    used = len(held.rstrip(b"\0"))
    return len(held) if len(held) - used >= _ROOM_BYTES else held.rfind(b"\0", 0, used) + 1


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _short_shebang(data: bytes, placeholder: bytes, prefix: bytes) -> bytes:
    """Let `env` find the program of a script whose first line would be too long, or have a space in the path."""
    line, newline, rest = data.partition(b"\n")
    program, _, words = line[2:].strip().partition(b" ")
    if not (line.startswith(b"#!") and program.startswith(placeholder)):
        return data
    if len(line.replace(placeholder, prefix)) <= _SHEBANG_BYTES and b" " not in prefix:
        return data
    return _BY_ENV + program.rpartition(b"/")[2] + (b" " + words if words else b"") + newline + rest


def _before_shortening(data: bytes, placeholder: bytes, prefix: bytes) -> bytes:
    """Return a text as it was if an installer has let `env` or the shell find its program; else as it is."""
    if data.startswith(_BY_ENV):
        return b"#!" + placeholder + b"/bin/" + data[len(_BY_ENV) :]
    started = re.match(_BY_SHELL % re.escape(prefix), data)
    return b"#!" + placeholder + started[1] + b"\n" + data[started.end() :] if started is not None else data


def _grown(data: bytes, pattern: re.Pattern[bytes], placeholder: bytes) -> bytes:
    """Replace in each string that is followed by as many NULs as the longer text needs."""

    def grow(match: re.Match[bytes]) -> bytes:
        whole = match[0]
        longer = pattern.sub(lambda _: placeholder, whole.rstrip(b"\0"))
        return longer.ljust(len(whole), b"\0") if len(longer) <= len(whole) else whole

    return re.sub(pattern.pattern + rb"[^\0]*\0*", grow, data)


def relocate(root: str) -> int:
    """Write the place of an unpacked environment into its files, where another one stands in them.

    May be interrupted and run again, as often as the folder is moved.

    Args:
        root: the environment.

    Returns:
        How many files were changed.

    Raises:
        ValueError: files were edited, or the path is too long for one; nothing but the others is changed.
        OSError: a file cannot be read or written.
    """
    with open(os.path.join(root, NOTE), encoding="utf-8") as stream:
        note = json.load(stream)
    changed, wrong = 0, []
    for path, mode, placeholder, sha256 in note["files"]:
        try:
            # One that an interrupted run has done has the new place in it.
            changed += _rewrite(os.path.join(root, path), mode, placeholder, sha256, (note["prefix"], root), root)
        except ValueError as error:
            wrong.append(f"{path}: {error}")
    if wrong:
        raise ValueError("; ".join(wrong))
    if note["prefix"] != root:
        _replace(os.path.join(root, NOTE), [json.dumps({**note, "prefix": root}).encode()])
    return changed


def placed_note(files: Iterable[tuple[str, str, str, str]], prefix: str = "") -> str:
    """Return what `relocate` has to know.

    Args:
        files: of each file its path, mode, placeholder, and the sha256 that it has with the placeholder in it.
        prefix: the folder that stands in the files; none where the placeholder still does.
    """
    return json.dumps({"schema": 1, "prefix": prefix, "files": [list(file) for file in files]})


def _rewrite(file: str, mode: str, placeholder: str, sha256: str, known: tuple[str, ...], prefix: str) -> bool:
    text = os.fsencode(placeholder)
    read = partial(file_pieces, file, mode)
    met = _digest(read())
    original = read if met == sha256 else _as_packed(read, mode, text, sha256, known)
    if _digest(fill(original(), mode, text, os.fsencode(prefix))) == met:
        return False
    _replace(file, fill(original(), mode, text, os.fsencode(prefix)))
    return True


def _as_packed(
    read: Callable[[], Iterator[bytes]], mode: str, text: bytes, sha256: str, known: tuple[str, ...]
) -> Callable[[], Iterator[bytes]]:
    for place in filter(None, known):
        original, is_right = empty(read, mode, text, os.fsencode(place), sha256)
        if is_right:
            return original
    raise ValueError("edited since it was unpacked; unpack again")


def _replace(file: str, content: Iterable[bytes]) -> None:
    beside = f"{file}.{os.getpid()}.tmp"
    with open(beside, "wb") as stream:
        stream.writelines(content)
    os.chmod(beside, os.stat(file).st_mode & 0o777)
    os.replace(beside, file)


def program_source() -> bytes:
    """Return this file, for an environment to carry."""
    with open(__file__, "rb") as stream:
        return stream.read()


def main() -> int:
    """Relocate the environment that this program lies in."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        count = relocate(root)
    except (OSError, ValueError) as error:
        print(f"envpack-relocate: error: {error}", file=sys.stderr)
        return 1
    print(f"{root}: files changed: {count}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
