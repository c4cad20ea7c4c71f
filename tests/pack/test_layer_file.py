"""One layer file: written, read, and refused when it is not what it was."""

import os
import random
import shutil
import stat
import subprocess
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from envpack.errors import DigestMismatchError, DistributionFilesError, PackFormatError
from envpack.pack.layer.entries import FILE, LINK, Entry, entries_bytes, entries_digest
from envpack.pack.layer.reader import ChunkStream, LayerReader
from envpack.pack.layer.tarformat import member_header, padding
from envpack.pack.layer.writer import Source, WrittenLayer, list_member, write_layer
from envpack.pack.manifest import LayerRef
from tests.fuzzing import times

PARTS = st.text(st.characters(codec="utf-8", exclude_characters="/\0\\"), min_size=1, max_size=12).filter(
    lambda part: part not in (".", "..") and len(part.encode()) < 256
)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


def write(sources: list[Source]) -> tuple[WrittenLayer, bytes]:
    with tempfile.TemporaryFile() as blob, tempfile.TemporaryFile() as scratch:
        written = write_layer(sources, blob, scratch)
        blob.seek(0)
        return written, blob.read()


def extract(data: bytes, digest: str, folder: Path, ref: LayerRef | None = None) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        LayerReader(BytesIO(data), digest, "test", ref).extract(descriptor, read_only=True)
    finally:
        os.close(descriptor)


def tree(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(place, name)
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = os.readlink(path)
            elif path.is_file():
                found[key] = (path.read_bytes(), bool(path.stat().st_mode & 0o100))
    return found


def make_sources(content: dict[str, bytes]) -> list[Source]:
    return [Source(path, make=lambda data=data: data) for path, data in content.items()]


def forge(entries: list[Entry], contents: list[bytes]) -> tuple[str, bytes]:
    """Write a layer file as an attacker would who can choose the digest too: without any check."""
    listing = entries_bytes(entries)
    digest = entries_digest(listing)
    data = member_header(list_member(digest, len(listing))) + listing + padding(len(listing))
    for entry, content in zip(entries, contents, strict=True):
        data += member_header(entry) + content + padding(len(content))
    return digest, zstandard.compress(data)


def is_tree(paths: list[str]) -> bool:
    """Whether the paths can exist side by side: none below another, none like another but for case."""
    names = {"/".join(path.split("/")[:end]) for path in paths for end in range(1, path.count("/") + 2)}
    inner = {"/".join(path.split("/")[:end]) for path in paths for end in range(1, path.count("/") + 1)}
    return len({name.casefold() for name in names}) == len(names) and not inner.intersection(paths)


@settings(deadline=None, max_examples=times(60))
@given(
    st.dictionaries(PATHS, st.tuples(st.binary(max_size=3000), st.booleans()), max_size=8).filter(
        lambda content: is_tree(list(content)) and not any(path.split("/")[0] == ".envpack" for path in content)
    )
)
def test_any_files_and_links_come_back_as_they_were(content: dict[str, tuple[bytes, bool]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        before, after = Path(name, "before"), Path(name, "after")
        before.mkdir()
        after.mkdir()
        for position, (path, (data, special)) in enumerate(content.items()):
            file = before / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if special and position % 2:
                os.symlink("../" * path.count("/") + f"nowhere{position}", file)
            else:
                file.write_bytes(data)
                file.chmod(0o755 if special else 0o644)
        written, data = write([Source(path, str(before / path)) for path in content])
        extract(data, written.digest, after)
        assert tree(after) == tree(before)


@settings(deadline=None, max_examples=times(60))
@given(st.integers(0), st.integers(1, 255), st.lists(st.binary(min_size=1, max_size=400), min_size=1, max_size=5))
def test_a_changed_byte_is_refused_or_changes_nothing(place: int, flip: int, contents: list[bytes]) -> None:
    content = {f"d{number}/f": data for number, data in enumerate(contents)}
    written, data = write(make_sources(content))
    damaged = bytearray(data)
    damaged[place % len(data)] ^= flip
    with tempfile.TemporaryDirectory() as name:
        try:
            extract(bytes(damaged), written.digest, Path(name))
        except PackFormatError:
            return
        assert {key: value[0] for key, value in tree(Path(name)).items()} == content  # type: ignore[index]


def test_a_layer_cut_anywhere_is_refused_or_complete(tmp_path: Path) -> None:
    written, data = write(make_sources({"a/b": b"x" * 3000, "a/c": os.urandom(3000)}))
    for length in range(0, len(data), 7):
        folder = tmp_path / str(length)
        folder.mkdir()
        with pytest.raises(PackFormatError):
            extract(data[:length], written.digest, folder)


def test_decompressed_content_of_another_layer_is_refused(tmp_path: Path) -> None:
    one, _ = write(make_sources({"a": b"1"}))
    _, other = write(make_sources({"a": b"2"}))
    with pytest.raises(PackFormatError, match="does not begin as layer"):
        extract(other, one.digest, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_another_digest_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    digest = "0" * 64
    listing = entries_bytes([Entry("a", FILE, 0, entries_digest(b""), "")])
    data = member_header(list_member(digest, len(listing))) + listing + padding(len(listing))
    with pytest.raises(DigestMismatchError, match="entry list has another digest"):
        extract(zstandard.compress(data), digest, tmp_path)
    assert list(tmp_path.iterdir()) == []


SHA = entries_digest(b"evil")


@pytest.mark.parametrize(
    "entries",
    [
        [Entry("../evil", FILE, 4, SHA, "")],
        [Entry("/tmp/evil", FILE, 4, SHA, "")],
        [Entry("ok", FILE, 4, SHA, ""), Entry("x/../../evil", FILE, 4, SHA, "")],
        [Entry("a", LINK, 0, "", "/tmp"), Entry("a/evil", FILE, 4, SHA, "")],
        [Entry("a", LINK, 0, "", ".."), Entry("a/evil", FILE, 4, SHA, "")],
        [Entry("evil", 0o104755, 4, SHA, "")],
        [Entry("evil", FILE, 4, SHA, ""), Entry("evil", FILE, 4, SHA, "")],
    ],
    ids=str,
)
def test_a_hostile_list_is_refused_before_anything_is_written(entries: list[Entry], tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    digest, data = forge(entries, [b"evil" if entry.size else b"" for entry in entries])
    with pytest.raises(PackFormatError):
        extract(data, digest, inside)
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b"]


def test_content_that_differs_from_its_digest_is_refused(tmp_path: Path) -> None:
    digest, data = forge([Entry("a", FILE, 4, entries_digest(b"good"), "")], [b"evil"])
    with pytest.raises(DigestMismatchError, match="content of 'a' differs") as caught:
        extract(data, digest, tmp_path)
    assert caught.value.source == "test"


def test_bytes_after_the_last_entry_are_refused(tmp_path: Path) -> None:
    written, data = write(make_sources({"a": b"1"}))
    with pytest.raises(PackFormatError, match="goes on after its last entry"):
        extract(data + zstandard.compress(b"more"), written.digest, tmp_path)


def test_a_layer_larger_than_its_manifest_says_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    written, data = write(make_sources({"a": b"1" * 1000}))
    ref = LayerRef(written.digest, "wheel", "a", "1", 999, 1)
    with pytest.raises(DigestMismatchError, match="1 of 999 bytes declared"):
        extract(data, written.digest, tmp_path, ref)
    assert list(tmp_path.iterdir()) == []


def test_a_declared_list_size_beyond_all_bounds_is_refused() -> None:
    digest = "0" * 64
    data = member_header(list_member(digest, 1 << 32))
    with pytest.raises(PackFormatError):
        LayerReader(BytesIO(zstandard.compress(data)), digest, "test")


def test_a_list_longer_than_the_declared_number_of_entries_needs_is_not_read() -> None:
    sources = make_sources({f"{number:04}" + "n" * 200: b"" for number in range(500)})
    written, data = write(sources)
    LayerReader(BytesIO(data), written.digest, "test", LayerRef(written.digest, "wheel", "a", "1", 0, 500))
    with pytest.raises(PackFormatError, match="does not begin as layer"):
        LayerReader(BytesIO(data), written.digest, "test", LayerRef(written.digest, "wheel", "a", "1", 0, 1))


def test_the_same_content_gives_the_same_bytes_in_any_order_and_place(tmp_path: Path) -> None:
    content = {f"p{number}/m{number}.py": random.Random(number).randbytes(number * 997) for number in range(40)}
    answers = set()
    for seed in range(3):
        folder = tmp_path / str(seed)
        for path, data in content.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
            os.utime(folder / path, (seed, seed))
            (folder / path).chmod(0o600 if seed else 0o664)
        sources = [Source(path, str(folder / path)) for path in content]
        random.Random(seed).shuffle(sources)
        written, data = write(sources)
        answers.add((written.digest, data))
    assert len(answers) == 1


def test_a_large_file_passes_in_pieces(tmp_path: Path) -> None:
    big = random.Random(1).randbytes(5_000_001)
    (tmp_path / "big").write_bytes(big)
    written, data = write([Source("x/big", str(tmp_path / "big")), *make_sources({"x/a": b"1", "x/z": b""})])
    (tmp_path / "out").mkdir()
    extract(data, written.digest, tmp_path / "out")
    assert (tmp_path / "out/x/big").read_bytes() == big


def test_chunks_of_any_size_make_the_same_layer() -> None:
    written, data = write(make_sources({"a": b"1" * 5000, "b": b""}))
    for size in (1, 7, 1000, len(data)):
        chunks = (data[start : start + size] for start in range(0, len(data), size))
        LayerReader(ChunkStream(chunks), written.digest, "test").check()


def test_unpacked_files_are_read_only_and_keep_only_the_executable_bit(tmp_path: Path) -> None:
    (tmp_path / "tool").write_bytes(b"x")
    (tmp_path / "tool").chmod(0o4777)
    written, data = write([Source("bin/tool", str(tmp_path / "tool")), *make_sources({"a": b"1"})])
    (tmp_path / "out").mkdir()
    extract(data, written.digest, tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out/bin/tool").stat().st_mode) & ~0o555 == 0
    assert stat.S_IMODE((tmp_path / "out/bin/tool").stat().st_mode) & 0o100
    assert stat.S_IMODE((tmp_path / "out/a").stat().st_mode) & 0o333 == 0


def test_python_tarfile_opens_a_layer() -> None:
    written, data = write(make_sources({"lib/a.py": b"1", "n" * 120 + "/ü.py": b"2"}))
    plain = zstandard.ZstdDecompressor().stream_reader(BytesIO(data), read_across_frames=True).read()
    with tarfile.open(fileobj=BytesIO(plain)) as archive:
        names = archive.getnames()
    assert names == [f".envpack/layers/{written.digest}.json", "lib/a.py", "n" * 120 + "/ü.py"]


@pytest.mark.skipif(not (shutil.which("tar") and shutil.which("zstd")), reason="needs tar and zstd")
def test_plain_tar_unpacks_a_layer(tmp_path: Path) -> None:
    _, data = write(make_sources({"lib/a.py": b"1", "n" * 120 + "/b.py": b"2"}))
    (tmp_path / "layer.tar.zst").write_bytes(data)
    done = subprocess.run(
        ["tar", "--zstd", "-xf", "layer.tar.zst"], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "lib/a.py").read_bytes() == b"1"
    assert (tmp_path / ("n" * 120) / "b.py").read_bytes() == b"2"


def test_what_is_neither_file_nor_link_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DistributionFilesError, match="neither file, folder nor link"):
        write([Source("pipe", str(tmp_path / "pipe"))])


def test_a_file_that_grows_while_it_is_packed_is_refused() -> None:
    # The kernel says 0 bytes for this file and gives more when it is read.
    with pytest.raises(DistributionFilesError, match="changed while it was packed"):
        write([Source("status", "/proc/self/status")])
