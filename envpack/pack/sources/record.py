"""RECORD, the list of its files that an installed distribution carries (PEP 376, PEP 427): read, and made portable.

An installer adds to a wheel what belongs to the machine: console scripts whose first line names an interpreter, rows
for bytecode, its own name, where on this machine it found the wheel, and whether the user had asked for it. The packed
form leaves these out, so that two environments that installed the same wheel give the same layer, byte by byte.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping

# Notes of the installer about the installation, not about the distribution.
INSTALLER_NOTES = frozenset({"INSTALLER", "REQUESTED", "uv_cache.json"})
ORIGIN = "direct_url.json"


def rows(record: bytes) -> Iterator[tuple[str, str]]:
    """Yield path and hexadecimal sha256 of each row of a RECORD: empty if there is none, as written if it is none."""
    for row in _parsed(record):
        algorithm, _, digest = (row[1] if len(row) > 1 else "").partition("=")
        yield row[0], _hexadecimal(digest) if algorithm == "sha256" else ""


def is_installed_note(path: str) -> bool:
    """Tell whether a path of a RECORD is something that the installer, not the wheel, has put there."""
    folder, _, name = path.rpartition("/")
    return path.endswith((".pyc", ".pyo")) or (folder.endswith(".dist-info") and name in INSTALLER_NOTES)


def is_local_origin(path: str, content: Callable[[], bytes]) -> bool:
    """Tell whether a path of a RECORD is the note that a distribution came from a folder or file of this machine.

    Args:
        path: as RECORD has it.
        content: gives the content of the file; asked for only where it matters.
    """
    if not path.endswith(f".dist-info/{ORIGIN}"):
        return False
    try:
        return str(json.loads(content())["url"]).startswith("file:")
    except (ValueError, TypeError, KeyError):
        return False


def portable_record(
    record: bytes,
    changed: Mapping[str, bytes],
    packed: Collection[str] | None = None,
    left_out: Collection[str] = (),
) -> bytes:
    """Return a RECORD that says what is packed.

    Args:
        record: as the installer left it.
        changed: content of the files that are packed otherwise than they lie on disk, by their path in the RECORD.
        packed: all files that are packed, by their path in the RECORD, where these are others than it lists: those of
            a development install, which lists what points at its code.
        left_out: files that it lists and that are not packed.
    """
    kept = [row for row in _parsed(record) if not is_installed_note(row[0]) and row[0] not in left_out]
    if packed is not None:
        listed = {row[0] for row in kept}
        kept = [row for row in kept if row[0] in packed] + [[path, "", ""] for path in packed if path not in listed]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in sorted(kept):
        content = changed.get(row[0])
        writer.writerow(row if content is None else (row[0], f"sha256={_digest(content)}", len(content)))
    return text.getvalue().encode("utf-8", "surrogateescape")


def _parsed(record: bytes) -> Iterator[list[str]]:
    return (row for row in csv.reader(record.decode("utf-8", "surrogateescape").splitlines()) if row)


def _hexadecimal(digest: str) -> str:
    try:
        return base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)).hex()
    except ValueError:
        return digest  # no file has this one: it is reported as not as in RECORD


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def content_of(file: str) -> bytes:
    """Return what a file holds; nothing where it is not there or cannot be read."""
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except OSError:
        return b""
