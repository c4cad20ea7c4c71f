"""Headers: what an independent reader of tar finds in them."""

import io
import tarfile

import pytest

from envpack.pack.layer.entries import EXECUTABLE, FILE, FOLDER, LINK, Entry
from envpack.pack.layer.tarformat import END_OF_ARCHIVE, member_header, padding

NAMES = [
    "a",
    "a/" * 40 + "b",
    "n" * 100,
    "n" * 101,
    "d/" + "n" * 100,
    "d/" + "n" * 101,
    "d" * 155 + "/" + "n" * 100,
    "d" * 156 + "/" + "n" * 100,
    "d" * 155 + "/" + "n" * 101,
    "/".join("x" * 60 for _ in range(20)),
    "ü" * 60,
    "ü/" * 120 + "é",
]


def members(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getmembers()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", [FILE, EXECUTABLE, FOLDER, LINK])
def test_header_says_the_same_to_an_independent_reader(name: str, mode: int) -> None:
    size = 5 if mode in (FILE, EXECUTABLE) else 0
    target = NAMES[-1] if mode == LINK else ""
    header = member_header(Entry(name, mode, size, "", target))
    (member,) = members(header + b"x" * size + padding(size) + END_OF_ARCHIVE)
    assert (member.name, member.size, member.linkname) == (name, size, target)
    assert (member.isfile(), member.isdir(), member.issym()) == (size > 0, mode == FOLDER, mode == LINK)
    assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
    assert member.mode == {FILE: 0o644, EXECUTABLE: 0o755, FOLDER: 0o755, LINK: 0o777}[mode]
    assert len(header) % 512 == 0


def test_sizes_beyond_eight_gigabytes_are_said() -> None:
    header = member_header(Entry("big", FILE, 1 << 40, "", ""))
    with tarfile.open(fileobj=io.BytesIO(header + END_OF_ARCHIVE)) as archive:
        first = archive.next()
    assert first is not None
    assert first.size == 1 << 40
