"""Folders in the files of packages: written, taken out again, and written anew after a move."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpack.errors import PackFormatError, PrefixTooLongError
from envpack.pack.layer.entries import EXECUTABLE, FILE, Entry, Listing, Placeholder, parse_listing
from envpack.pack.layer.placeholders import NOTE, PROGRAM, emptied, filled, relocate
from envpack.pack.manifest import LayerRef
from envpack.pack.store.environment import check_prefix

LONG = b"/builds/" + b"placehold_" * 12
SHA = "0" * 64


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_text_is_replaced_wherever_the_placeholder_stands() -> None:
    text = b"prefix=" + LONG + b"\nlibs=-L" + LONG + b"/lib\n"
    assert filled(text, "text", LONG, b"/opt/e") == b"prefix=/opt/e\nlibs=-L/opt/e/lib\n"
    longer = b"/a" * 500
    assert len(filled(text, "text", LONG, longer)) == len(text) + 2 * (len(longer) - len(LONG))


def test_strings_of_a_binary_file_keep_their_length_and_end() -> None:
    data = b"\1\0" + LONG + b"/lib:" + LONG + b"/bin\0next\0" + LONG + b"\0"
    made = filled(data, "binary", LONG, b"/opt/e")
    assert len(made) == len(data)
    assert made.startswith(b"\1\0/opt/e/lib:/opt/e/bin\0")
    assert made.index(b"next\0") == data.index(b"next\0")
    assert made.rstrip(b"\0").endswith(b"/opt/e")


def test_longer_folder_does_not_fit_into_a_binary_file() -> None:
    with pytest.raises(ValueError, match=f"{len(LONG) + 1} bytes met, room for {len(LONG)}"):
        filled(LONG, "binary", LONG, LONG + b"x")
    layer = LayerRef(SHA, "conda", "libwhere", "1.0", 0, 0)
    room = [Placeholder("lib/a.so", "binary", LONG.decode())]
    check_prefix(layer, room, "/" + "x" * (len(LONG) - 1))
    with pytest.raises(PrefixTooLongError, match=r"'lib/a.so' of libwhere 1.0 has room for 128"):
        check_prefix(layer, room, "/" + "x" * len(LONG))
    check_prefix(layer, [Placeholder("a.txt", "text", LONG.decode())], "/" + "x" * 500)


@pytest.mark.parametrize("prefix", [b"/opt/" + b"deep/" * 30, b"/with space"])
def test_program_of_a_script_is_found_by_env_where_its_path_is_no_shebang(prefix: bytes) -> None:
    script = b"#!" + LONG + b"/bin/perl -w\nprint '" + LONG + b"';\n"
    made = filled(script, "text", LONG, prefix)
    assert made == b"#!/usr/bin/env perl -w\nprint '" + prefix + b"';\n"
    assert emptied(made, "text", LONG, prefix, sha256(script)) == (script, True)
    assert filled(script, "text", LONG, b"/opt/e").startswith(b"#!/opt/e/bin/perl -w\n")


def test_short_folder_inside_of_other_paths_stays_as_it_is() -> None:
    text = b"#!/usr/bin/env sh\n" + LONG + b"/lib:/environment\n-I" + LONG + b"/include\n"
    made = filled(text, "text", LONG, b"/env")
    assert emptied(made, "text", LONG, b"/env", sha256(text)) == (text, True)
    # Also where nobody knows what it was.
    assert emptied(made, "text", LONG, b"/env") == (text, True)
    binary = b"/usr/bin/env\0\0\0" + LONG + b"/lib\0/environment\0\0\0\0"
    assert emptied(filled(binary, "binary", LONG, b"/env"), "binary", LONG, b"/env", sha256(binary)) == (binary, True)


def test_file_that_nothing_was_written_into_stays_as_it_is() -> None:
    text = b"prefix=" + LONG + b"\n"
    assert emptied(text, "text", LONG, b"", sha256(text)) == (text, True)
    assert emptied(text, "text", LONG, b"", sha256(b"")) == (text, False)
    assert emptied(text, "binary", LONG, b"") == (text, True)


def test_edited_file_is_told() -> None:
    text = b"prefix=" + LONG + b"\n"
    content, is_right = emptied(b"prefix=/opt/e\nmore\n", "text", LONG, b"/opt/e", sha256(text))
    assert (content, is_right) == (text + b"more\n", False)


_NAMES = st.text("abc.-_ ", min_size=1, max_size=12)


@given(
    parts=st.lists(st.one_of(st.just(LONG), st.binary(max_size=12), st.just(b"\0")), max_size=8),
    folder=st.lists(_NAMES, min_size=1, max_size=6).map(lambda names: "/srv/" + "/".join(names)),
)
def test_what_is_filled_can_be_emptied(parts: list[bytes], folder: str) -> None:
    prefix = folder.encode()
    data = b"".join(parts)
    for mode in ("text", "binary"):
        if mode == "binary" and (len(prefix) > len(LONG) or re.search(re.escape(LONG) + rb"[^\0]*\Z", data)):
            continue  # a string without an end is none
        made = filled(data, mode, LONG, prefix)
        original, is_right = emptied(made, mode, LONG, prefix, sha256(data))
        # A folder that a file had before, or a first line that went to `env`, may not be told apart; then it is said.
        assert original == data if is_right else prefix in data or b"#!" in data


def listing(**changes: object) -> Listing:
    entries = [Entry("a", FILE, 0, sha256(b""), ""), Entry("b", EXECUTABLE, 0, sha256(b""), "")]
    return Listing(entries, (Placeholder("b", "text", LONG.decode()),))._replace(**changes)


def test_entry_list_keeps_placeholders_and_stays_as_it_was_without() -> None:
    assert parse_listing(listing().canonical()) == listing()
    assert json.loads(listing().canonical())["schema"] == 2
    assert json.loads(listing(placeholders=()).canonical()).keys() == {"entries", "schema"}
    clash = listing(entries=[Entry("A", FILE, 0, sha256(b""), ""), Entry("a", FILE, 0, sha256(b""), "")])
    with pytest.raises(PackFormatError, match="differ in case only"):
        parse_listing(clash._replace(placeholders=()).canonical())
    assert parse_listing(clash._replace(placeholders=(), case_matters=True).canonical()).case_matters


@pytest.mark.parametrize(
    "placeholders",
    [
        (Placeholder("none", "text", LONG.decode()),),
        (Placeholder("b", "text", LONG.decode()), Placeholder("a", "text", LONG.decode())),
        (Placeholder("b", "text", LONG.decode()), Placeholder("b", "text", LONG.decode())),
        (Placeholder("b", "other", LONG.decode()),),
        (Placeholder("b", "text", "/"),),
        (Placeholder("b", "text", "relative/and/long/enough"),),
        (Placeholder("b", "text", "/nul\0/and/long/enough"),),
        (Placeholder("b", "text", 7),),
    ],
)
def test_placeholders_of_nothing_or_without_sense_are_refused(placeholders: tuple[Placeholder, ...]) -> None:
    with pytest.raises(PackFormatError):
        parse_listing(listing(placeholders=placeholders).canonical())


def unpacked(folder: Path, prefix: str, files: dict[str, tuple[str, bytes]]) -> Path:
    """Make what `unpack` leaves: files with a folder in them, and the note about them."""
    (folder / NOTE).parent.mkdir(parents=True)
    rows = []
    for path, (mode, original) in files.items():
        (folder / path).write_bytes(filled(original, mode, LONG, prefix.encode()))
        rows.append([path, mode, LONG.decode(), sha256(original)])
    (folder / NOTE).write_text(json.dumps({"schema": 1, "prefix": prefix, "files": rows}))
    return folder


FILES = {
    "a.pc": ("text", b"prefix=" + LONG + b"\n"),
    "b.so": ("binary", b"\1" + LONG + b"/lib\0\2"),
}


def test_moved_folder_is_written_anew_each_time(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "one", "/old/place", FILES)
    (folder / "b.so").chmod(0o755)
    other = os.stat(folder / "b.so").st_ino
    assert relocate(str(folder)) == 2
    assert (folder / "a.pc").read_text() == f"prefix={folder}\n"
    assert os.stat(folder / "b.so").st_ino != other, "a copy takes its place: somebody may have it open"
    assert stat.S_IMODE(os.stat(folder / "b.so").st_mode) == 0o755
    assert relocate(str(folder)) == 0
    moved = folder.rename(tmp_path / "another and longer")
    assert relocate(str(moved)) == 2
    assert (moved / "b.so").read_bytes() == filled(FILES["b.so"][1], "binary", LONG, str(moved).encode())


def test_interrupted_relocation_is_finished_by_the_next(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "one", "/old/place", FILES)
    (folder / "a.pc").write_text(f"prefix={folder}\n")  # done, and the note does not say so yet
    assert relocate(str(folder)) == 1
    assert json.loads((folder / NOTE).read_text())["prefix"] == str(folder)


def test_edited_file_stops_the_relocation_and_is_named(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "one", "/old/place", FILES)
    (folder / "a.pc").write_text("mine\n")
    program = Path(sys.modules[relocate.__module__].__file__ or "")
    (folder / PROGRAM).write_bytes(program.read_bytes())
    done = subprocess.run([sys.executable, folder / PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "envpack-relocate: error: a.pc: edited since it was unpacked; unpack again\n"
    assert (folder / "a.pc").read_text() == "mine\n"
