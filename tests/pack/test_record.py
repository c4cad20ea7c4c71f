"""The packed RECORD says what is packed, and nothing of the machine that it was installed on."""

from __future__ import annotations

import base64
import hashlib

import pytest

from envpack.pack.sources.record import is_local_origin, portable_record, rows

RECORD = b"""\
../../../bin/tool,sha256=AAAA,57
pkg/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0
pkg/__pycache__/__init__.cpython-311.pyc,,
"pkg/a,b.py",sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0
pkg-1.0.dist-info/INSTALLER,sha256=BBBB,4
pkg-1.0.dist-info/REQUESTED,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0
pkg-1.0.dist-info/RECORD,,
"""


def test_rows_give_paths_and_hexadecimal_digests() -> None:
    found = dict(rows(RECORD))
    assert found["pkg/a,b.py"] == hashlib.sha256(b"").hexdigest()
    assert found["pkg-1.0.dist-info/RECORD"] == ""


def test_digest_that_is_none_is_that_of_no_file() -> None:
    assert list(rows(b"a.py,sha256=abcde,3\nb.py,sha256,3\nc.py,md5=abcd,3\n")) == [
        ("a.py", "abcde"),
        ("b.py", ""),
        ("c.py", ""),
    ]


def test_scripts_are_recorded_as_packed_and_notes_of_the_installer_are_not() -> None:
    script = b"#!/bin/sh\nmoved\n"
    packed = portable_record(RECORD, {"../../../bin/tool": script})
    digest = base64.urlsafe_b64encode(hashlib.sha256(script).digest()).rstrip(b"=")
    assert b"../../../bin/tool,sha256=" + digest + b",%d\n" % len(script) in packed
    assert b"INSTALLER" not in packed
    assert b"REQUESTED" not in packed
    assert b".pyc" not in packed
    assert b'"pkg/a,b.py"' in packed


@pytest.mark.parametrize(
    ("content", "is_local"),
    [
        (b'{"url": "file:///home/me/wheels/pkg-1.0-py3-none-any.whl", "archive_info": {}}', True),
        (b'{"url": "https://example.org/pkg-1.0-py3-none-any.whl", "archive_info": {}}', False),
        (b'{"url": "https://example.org/pkg.git", "vcs_info": {"vcs": "git", "commit_id": "1"}}', False),
        (b"{}", False),
        (b"[]", False),
        (b"\xff", False),
    ],
)
def test_an_origin_on_this_machine_is_a_note_of_the_installer(content: bytes, is_local: bool) -> None:
    assert is_local_origin("pkg-1.0.dist-info/direct_url.json", lambda: content) is is_local
    assert not is_local_origin("pkg/direct_url.json", lambda: content), "a file of the distribution itself"


def test_what_is_left_out_has_no_row() -> None:
    assert b"pkg/__init__.py" not in portable_record(RECORD, {}, left_out=("pkg/__init__.py",))


def test_the_order_of_rows_and_what_else_was_installed_make_no_difference() -> None:
    other = b"".join(reversed(RECORD.splitlines(keepends=True))).replace(b"AAAA,57", b"CCCC,61")
    changed = {"../../../bin/tool": b"same"}
    assert portable_record(RECORD, changed) == portable_record(other, changed)
