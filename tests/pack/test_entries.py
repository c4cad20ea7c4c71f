"""The entry list: one form, and nothing in it that could lead outside."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpack.errors import PackFormatError
from envpack.pack.layer.entries import (
    EXECUTABLE,
    FILE,
    FOLDER,
    LINK,
    Entry,
    check_entries,
    entries_bytes,
    parse_entries,
)

SHA = "a" * 64


def file(path: str, mode: int = FILE, size: int = 1) -> Entry:
    return Entry(path, mode, size, SHA, "")


def link(path: str, target: str) -> Entry:
    return Entry(path, LINK, 0, "", target)


def test_entry_list_survives_its_own_bytes() -> None:
    entries = [
        Entry("bin", FOLDER, 0, "", ""),
        file("bin/tool", EXECUTABLE, 7),
        link("lib/c.so", "c.so.1"),
        file("lib/c.so.1"),
        link("lib/up", "../bin/tool"),
        file("lib/ä b.py", size=0),
    ]
    assert parse_entries(entries_bytes(entries)) == entries


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "..",
        "../x",
        "a/../b",
        "a/..",
        "./a",
        "a/.",
        "a//b",
        "a/",
        "a\\b",
        "a\0b",
        "a" * 256,
        "/".join(["abc"] * 1000),
        "/".join(["a"] * 102),
        ".envpack/layers/x.json",
        ".envpack",
        "a\ud800",
    ],
)
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(PackFormatError):
        check_entries([file(path)])


@pytest.mark.parametrize("path", ["...", "a..b", "..a", "a/..b/c", ".hidden", "a/.b", "-x", "a b", "é", "a:b"])
def test_a_path_that_only_looks_odd_is_accepted(path: str) -> None:
    check_entries([file(path)])


@pytest.mark.parametrize("mode", [0o104755, 0o102755, 0o100777, 0o020644, 0o060644, 0o010644, 0o140755, 0o644, 0])
def test_modes_beyond_plain_files_folders_and_links_are_refused(mode: int) -> None:
    with pytest.raises(PackFormatError, match=r"mode 0o\d+ refused"):
        check_entries([file("a", mode)])


@pytest.mark.parametrize(
    "entries",
    [
        [file("a"), file("a")],
        [file("b"), file("a")],
        [file("A"), file("a")],
        [file("A/x"), file("a/y")],
        [file("a"), file("a/b")],
        [link("a", "b"), file("a/c"), file("b/d")],
        [Entry("a", FOLDER, 1, "", "")],
        [Entry("a", FOLDER, 0, SHA, "")],
        [Entry("a", FILE, 1, "A" * 64, "")],
        [Entry("a", FILE, 1, "a" * 63, "")],
        [Entry("a", FILE, -1, SHA, "")],
        [Entry("a", FILE, True, SHA, "")],
        [Entry("a", FILE, 1 << 60, SHA, "")],
        [Entry("a", FILE, 1, SHA, "b")],
        [Entry("a", LINK, 0, "", "")],
    ],
    ids=str,
)
def test_entries_that_do_not_make_a_tree_are_refused(entries: list[Entry]) -> None:
    with pytest.raises(PackFormatError):
        check_entries(entries)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("a", "/etc/passwd"),
        ("a", ".."),
        ("a", "../b"),
        ("d/a", "../../b"),
        ("d/a", "x/../../../b"),
        ("d/a", "x/../b"),
        ("a", "./b"),
        ("a", "b//c"),
        ("a", "b\\c"),
        ("a", "b\0"),
        ("a", ".envpack/layers"),
        ("a", "b/" * 100 + "c"),
    ],
)
def test_a_link_that_may_leave_is_refused(path: str, target: str) -> None:
    with pytest.raises(PackFormatError, match="link"):
        check_entries([link(path, target)])


def test_folders_that_would_fill_the_memory_by_their_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envpack.pack.layer.entries.MAX_FOLDERS_BYTES", 10_000)
    deep = "/".join(["abcd"] * 40)
    check_entries([file(f"x/{deep}/y")])
    with pytest.raises(PackFormatError, match="names of folders are longer than 10000 bytes together"):
        check_entries([file(f"x{number}/{deep}/y") for number in range(4)])


def test_a_link_through_another_link_is_refused() -> None:
    with pytest.raises(PackFormatError, match="passes through another link"):
        check_entries([link("a", "b/c"), link("b", "d"), file("d/c")])


def test_a_chain_of_links_to_a_library_is_accepted() -> None:
    check_entries([link("lib/z.so", "z.so.1"), link("lib/z.so.1", "z.so.1.2"), file("lib/z.so.1.2")])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"entries":1,"schema":1}',
        b'{"entries":[],"schema":2}',
        b'{"entries":[[]],"schema":1}',
        b'{"entries": [],"schema":1}',
        b'{"entries":[],"schema":1}\n',
        b'{"entries":[["a",33188,0,"' + b"a" * 64 + b'","",1]],"schema":1}',
        b'{"entries":[[1,33188,0,"' + b"a" * 64 + b'",""]],"schema":1}',
        b'{"entries":[["a",33188.0,0,"' + b"a" * 64 + b'",""]],"schema":1}',
        b'{"entries":[],"schema":1,"schema":1}',
        b'{"case_matters":1,"entries":[],"placeholders":[],"schema":2}',
        b'{"case_matters":false,"entries":[],"placeholders":[[["a"],"text","/builds/placehold"]],"schema":2}',
        b'{"case_matters":false,"entries":[],"placeholders":[[{},"text","/builds/placehold"]],"schema":2}',
        b'{"entries":[[' + b"[" * 900 + b"]" * 900 + b',33188,0,"","",""]],"schema":1}',
        b"[" * 100_000,
    ],
)
def test_bytes_that_are_no_canonical_list_are_refused(data: bytes) -> None:
    with pytest.raises(PackFormatError):
        parse_entries(data)


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_is_a_list_or_a_format_error(value: object) -> None:
    with pytest.raises(PackFormatError):
        parse_entries(json.dumps(value).encode())
