"""Archives of other tools: unpacked whole by rules of our own, whatever they hold."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from envpack.errors import PackFormatError, UsageError
from envpack.pack.formats.foreign import extract
from envpack.pack.formats.magic import is_archive


def member(path: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.linkname, info.mode = kind, target, mode
    return info


def tar_bytes(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def good() -> bytes:
    return tar_bytes(
        (member("./", tarfile.DIRTYPE, mode=0o700), b""),
        (member("./bin/run", mode=0o700), b"#!/bin/sh\n"),
        (member("lib/", tarfile.DIRTYPE), b""),
        (member("lib/a", mode=0o600), b"x" * 3_000_000),
        (member("lib/same", tarfile.LNKTYPE, "./lib/a"), b""),
        (member("lib/link", tarfile.SYMTYPE, "./a"), b""),
        (member("bin/up", tarfile.SYMTYPE, "../lib/a"), b""),
        (member("bin/python3.11", tarfile.SYMTYPE, "/usr/bin/python3.11"), b""),
        (member("long/" + "n" * 120 + "/" + "m" * 120, mode=0o444), b"long"),
    )


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, mode, content in (
            ("bin/run", 0o100755, b"#!/bin/sh\n"),
            ("lib/a", 0o100644, b"x" * 3_000_000),
            ("lib/same", 0o100644, b"x" * 3_000_000),
            ("lib/link", 0o120777, b"a"),
            ("bin/up", 0o120777, b"../lib/a"),
            ("bin/python3", 0o120777, b"/usr/bin/python3"),
            ("long/" + "n" * 120 + "/" + "m" * 120, 0o100444, b"long"),
        ):
            info = zipfile.ZipInfo(path)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return out.getvalue()


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "zst": lambda data: zstandard.ZstdCompressor(level=1).compress(data),
    "zip": lambda data: zipped(),
}


def unpacked(data: bytes, tmp_path: Path) -> Path:
    (tmp_path / "x").write_bytes(data)
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    extract(tmp_path / "x", folder)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_files(form: str, tmp_path: Path) -> None:
    data = FORMS[form](good())
    assert is_archive(data[:4096])
    folder = unpacked(data, tmp_path)
    assert (folder / "lib" / "a").read_bytes() == (folder / "lib" / "same").read_bytes() == b"x" * 3_000_000
    assert (folder / "lib" / "link").readlink() == Path("a")
    assert (folder / "bin" / "up").read_bytes() == b"x" * 3_000_000
    assert (folder / "bin" / "run").stat().st_mode & 0o777 == 0o755
    assert (folder / "lib" / "a").stat().st_mode & 0o777 == 0o644
    assert (folder / "long" / ("n" * 120) / ("m" * 120)).read_bytes() == b"long"
    assert sorted(path.name for path in (folder / "bin").iterdir()) == ["run", "up"], "no link to an interpreter"


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_that_is_cut_or_damaged_is_refused(form: str, tmp_path: Path) -> None:
    data = FORMS[form](good())
    for number, length in enumerate((len(data) // 3, len(data) * 2 // 3, 600)):
        if length < len(data):
            (tmp_path / str(number)).mkdir()
            with pytest.raises(PackFormatError, match=r"is damaged|cannot be read|is truncated"):
                unpacked(data[:length], tmp_path / str(number))


def refused(said: str, tmp_path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(PackFormatError, match=said):
        unpacked(tar_bytes(*members), tmp_path)
    assert list(outside.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "outside", "x"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/etc/x", "absolute"),
        ("../x", "leaves its folder"),
        ("a/../../x", "leaves its folder"),
        ("a\\b", "backslash"),
        ("a\udcffb", "not valid Unicode"),
        ("n" * 256, "longer than"),
        (".envpack/x", "reserved"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(path: str, said: str, tmp_path: Path) -> None:
    refused(said, tmp_path, (member(path), b"x"))


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "a/../../outside", "../../x"])
def test_links_that_lead_out_are_refused(target: str, tmp_path: Path) -> None:
    refused("link leaves its folder", tmp_path, (member("a", tarfile.SYMTYPE, target), b""))


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    refused(
        "used as a folder",
        tmp_path,
        (member("lib/", tarfile.DIRTYPE), b""),
        (member("a", tarfile.SYMTYPE, "lib"), b""),
        (member("a/x"), b"x"),
    )


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.REGTYPE])
def test_a_folder_does_not_become_something_else(kind: bytes, tmp_path: Path) -> None:
    refused("used as a folder", tmp_path, (member("lib/x"), b""), (member("lib", kind, "bin"), b""))


def test_a_link_through_a_link_is_refused(tmp_path: Path) -> None:
    refused(
        "passes through another link",
        tmp_path,
        (member("a", tarfile.SYMTYPE, "b"), b""),
        (member("c", tarfile.SYMTYPE, "a/x"), b""),
    )


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_the_same_name_twice_is_refused(kind: bytes, tmp_path: Path) -> None:
    refused("holds 'a' twice", tmp_path, (member("a"), b"1"), (member("a", kind, "b"), b""))


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, b"9"])
def test_what_is_no_file_is_refused(kind: bytes, tmp_path: Path) -> None:
    refused("neither file, folder nor link", tmp_path, (member("a", kind), b""))


@pytest.mark.parametrize("mode", [0o4755, 0o2755])
def test_setuid_bits_are_refused(mode: int, tmp_path: Path) -> None:
    refused("setuid", tmp_path, (member("a", mode=mode), b"x"))


@pytest.mark.parametrize("target", ["absent", "../outside/x", "/etc/passwd", "link", "lib", "a"])
def test_another_name_of_what_is_no_file_of_the_archive_is_refused(target: str, tmp_path: Path) -> None:
    refused(
        "link to what is no file",
        tmp_path,
        (member("lib/", tarfile.DIRTYPE), b""),
        (member("link", tarfile.SYMTYPE, "lib"), b""),
        (member("a", tarfile.LNKTYPE, target), b""),
    )


def test_an_archive_that_unpacks_to_far_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envpack.pack.formats.foreign._ALWAYS_ALLOWED_BYTES", 100_000)
    data = tar_bytes((member("zeros"), bytes(8_000_000)))
    for compress in (gzip.compress, lambda data: zipped_zeros()):
        with pytest.raises(PackFormatError, match="more than 200 times its size"):
            unpacked(compress(data), tmp_path)


def zipped_zeros() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(8_000_000))
    return out.getvalue()


def test_attributes_of_absurd_size_are_refused(tmp_path: Path) -> None:
    info = member("a" * 2_000_000)
    with pytest.raises(PackFormatError, match="bytes of attributes"):
        unpacked(info.tobuf(tarfile.PAX_FORMAT), tmp_path)


def test_a_zip_archive_obeys_the_same_rules(tmp_path: Path) -> None:
    for number, (path, mode, said) in enumerate(
        [
            ("../x", 0o100644, "leaves its folder"),
            ("/x", 0o100644, "absolute"),
            ("x", 0o104755, "setuid"),
            ("x", 0o010644, "neither file"),
            ("x", 0o120777, "link leaves its folder"),
        ]
    ):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            info = zipfile.ZipInfo(path)
            info.external_attr = mode << 16
            archive.writestr(info, "/etc/passwd")
        (tmp_path / str(number)).mkdir()
        with pytest.raises(PackFormatError, match=said):
            unpacked(out.getvalue(), tmp_path / str(number))


def test_an_archive_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        extract(tmp_path / "absent", tmp_path)
