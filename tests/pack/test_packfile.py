"""One file that holds an environment: copied, opened by others, refused when it is not whole."""

import hashlib
import json
import os
import random
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from envpack.errors import IncompatiblePackError, LayerConflictError, PackFormatError, UsageError
from envpack.pack import LayerRef, Manifest, Store, pack, unpack
from envpack.pack.formats.packfile import PackIndex
from envpack.pack.layer.writer import Source


@pytest.fixture
def packed(prefix, store, needs, tmp_path: Path) -> tuple[Path, Manifest]:
    script = f"#!{prefix.python}\nimport one\nprint(one.value)\n"
    prefix.install("one", "1.0", {"one/__init__.py": "value = 1\n", "../../../bin/one": script, "ns/a.py": ""})
    prefix.install("two", "1.0", {"two.py": "value = 2\n", "ns/b.py": ""})
    file = tmp_path / "test.tar.zst"
    return file, pack(needs(("one", "1.0"), ("two", "1.0")), python=prefix.python, store=store, output=file)


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_export_and_import_keep_every_byte(packed, store: Store, stores, tmp_path: Path) -> None:
    file, manifest = packed
    other = stores()
    assert other.import_pack(file) == manifest
    assert other.manifest(manifest.id) == manifest
    other.export(manifest, tmp_path / "again.tar.zst")
    assert (tmp_path / "again.tar.zst").read_bytes() == file.read_bytes()
    assert other.import_pack(file) == manifest
    assert (other.materialise(manifest) / "bin" / "python").exists()


@pytest.mark.skipif(not (shutil.which("tar") and shutil.which("zstd")), reason="needs tar and zstd")
def test_plain_tar_unpacks_a_pack(packed, store: Store, tmp_path: Path) -> None:
    file, manifest = packed
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        ["tar", "--zstd", "-xf", file, "-C", tmp_path / "out"], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    shutil.rmtree(tmp_path / "out" / ".envpack")
    expected = content(store.materialise(manifest))
    expected.pop("pyvenv.cfg")
    assert content(tmp_path / "out") == expected


def test_unpacked_folder_works_after_it_is_moved(packed, tmp_path: Path, store: Store) -> None:
    file, _ = packed
    unpack(file, tmp_path / "dir")
    shutil.rmtree(store.folder)
    moved = tmp_path / "another place" / "dir"
    moved.parent.mkdir()
    os.rename(tmp_path / "dir", moved)
    done = subprocess.run([moved / "bin" / "one"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "1\n"
    code = "import one, two, ns.a, ns.b, sys; print(sys.prefix)"
    done = subprocess.run(
        [moved / "bin" / "python", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == str(moved)
    store.folder.mkdir()


def test_unpacked_folder_can_be_changed_and_deleted_by_its_owner(packed, tmp_path: Path) -> None:
    file, _ = packed
    unpack(file, tmp_path / "dir")
    (path,) = (tmp_path / "dir").rglob("two.py")
    assert path.stat().st_mode & 0o200
    assert path.stat().st_nlink == 1


def test_a_folder_with_something_in_it_is_left_alone(packed, tmp_path: Path) -> None:
    file, _ = packed
    target = tmp_path / "dir"
    target.mkdir()
    (target / "mine").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        unpack(file, target)
    with pytest.raises(UsageError, match="not a folder"):
        unpack(file, target / "mine")
    with pytest.raises(UsageError, match="no such folder"):
        unpack(file, tmp_path / "absent" / "dir")
    assert content(target) == {"mine": b"x"}


def test_a_pack_cut_anywhere_is_refused_and_leaves_nothing(packed, stores, tmp_path: Path) -> None:
    file, _ = packed
    data = file.read_bytes()
    before = set(os.listdir(tmp_path))
    cut = tmp_path / "cut"
    for length in [0, 3, 7, 8, 100, *range(500, len(data), len(data) // 12), len(data) - 1]:
        cut.write_bytes(data[:length])
        with pytest.raises(PackFormatError):
            unpack(cut, tmp_path / "dir")
    assert set(os.listdir(tmp_path)) == before | {"cut"}


def test_a_pack_with_a_changed_byte_is_refused_or_gives_the_same(packed, tmp_path: Path, stores) -> None:
    file, manifest = packed
    data = file.read_bytes()
    unpack(file, tmp_path / "good")
    good = content(tmp_path / "good")
    around = set(os.listdir(tmp_path)) | {"bad"}
    source = random.Random(4)
    refused = 0
    # Every byte of the beginning, where the index is, and many of the rest.
    for place in [*range(64), *(source.randrange(len(data)) for _ in range(150))]:
        damaged = bytearray(data)
        damaged[place] ^= source.randrange(1, 256)
        (tmp_path / "bad").write_bytes(damaged)
        try:
            assert unpack(tmp_path / "bad", tmp_path / "dir") == manifest
        except PackFormatError:
            refused += 1
        else:
            assert content(tmp_path / "dir") == good
            shutil.rmtree(tmp_path / "dir")
        assert set(os.listdir(tmp_path)) == around
    assert refused > 150


def test_a_changed_pack_never_enters_a_store(packed, stores) -> None:
    file, manifest = packed
    data = bytearray(file.read_bytes())
    data[-200] ^= 0xFF
    file.write_bytes(data)
    other = stores()
    with pytest.raises(PackFormatError):
        other.import_pack(file)
    assert other.manifest_ids() == []
    assert len(other.missing(manifest)) == 1


@pytest.mark.parametrize("data", [b"", b"text", bytes(1000), b"\x50\x2a\x4d\x18" + bytes(100)])
def test_what_is_no_pack_is_said_to_be_none(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(PackFormatError, match="not a pack"):
        unpack(tmp_path / "x", tmp_path / "dir")


def test_a_pack_that_is_not_there_is_wrong_usage(tmp_path: Path, store: Store) -> None:
    with pytest.raises(UsageError, match="No such file"):
        unpack(tmp_path / "absent", tmp_path / "dir")
    with pytest.raises(UsageError, match="Is a directory"):
        store.import_pack(tmp_path)


def test_an_index_of_a_later_format_is_refused(packed, tmp_path: Path) -> None:
    file, manifest = packed
    data = file.read_bytes()
    head = PackIndex(
        manifest, tuple(int(size) for size in json.loads(data[8 : 8 + struct.unpack("<I", data[4:8])[0]])["sizes"])
    )
    assert data.startswith(head.to_bytes())
    value = json.loads(head.to_bytes()[8:])
    value["schema"] = 2
    text = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    file.write_bytes(data[:4] + struct.pack("<I", len(text)) + text + data[len(head.to_bytes()) :])
    with pytest.raises(PackFormatError, match="another version than schema 1"):
        unpack(file, tmp_path / "dir")


def test_a_pack_for_another_machine_is_refused_before_anything_is_written(packed, tmp_path: Path) -> None:
    file, manifest = packed
    data = file.read_bytes()
    (size,) = struct.unpack("<I", data[4:8])
    sizes = json.loads(data[8 : 8 + size])["sizes"]
    other = Manifest.from_dict({**manifest.to_dict(), "platform": "linux-s390x"})
    file.write_bytes(PackIndex(other, tuple(sizes)).to_bytes() + data[8 + size :])
    with pytest.raises(IncompatiblePackError, match="linux-s390x"):
        unpack(file, tmp_path / "dir")
    assert not (tmp_path / "dir").exists()


def forged(file: Path, manifest: Manifest, **changes: object) -> None:
    """Say something else in the manifest of a pack, and let its id be that of what it says."""
    data = file.read_bytes()
    (size,) = struct.unpack("<I", data[4:8])
    value = json.loads(data[8 : 8 + size])
    value["manifest"] = {**manifest.to_dict(), **changes}
    text = json.dumps(value["manifest"], sort_keys=True, separators=(",", ":")).encode()
    value["id"] = hashlib.sha256(text).hexdigest()
    index = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    file.write_bytes(data[:4] + struct.pack("<I", len(index)) + index + data[8 + size :])


def test_sizes_of_layers_beyond_any_file_are_refused(packed, tmp_path: Path, stores) -> None:
    file, manifest = packed
    data = file.read_bytes()
    (size,) = struct.unpack("<I", data[4:8])
    for sizes in ((1 << 62, 1 << 62), (10**30, 1)):
        file.write_bytes(PackIndex(manifest, sizes).to_bytes() + data[8 + size :])
        for read in (lambda: unpack(file, tmp_path / "dir"), lambda: stores().import_pack(file)):
            with pytest.raises(PackFormatError, match="is damaged or of another version"):
                read()


@pytest.mark.parametrize("python", ["/../../../../evil", "3.11/../../../../../evil", "3.11\0", ""])
def test_a_version_of_python_that_leads_elsewhere_is_refused(packed, python: str, tmp_path: Path, stores) -> None:
    file, manifest = packed
    forged(file, manifest, python=python, schema=2, has_interpreter=True)
    before = set(os.listdir(tmp_path))
    for read in (lambda: unpack(file, tmp_path / "dir"), lambda: stores().import_pack(file)):
        with pytest.raises(PackFormatError, match=r"manifest.python: .* met, a version such as"):
            read()
    assert set(os.listdir(tmp_path)) == before


def test_an_interpreter_that_no_layer_brings_is_missed_once_and_not_for_ever(packed, tmp_path: Path, stores) -> None:
    file, manifest = packed
    forged(file, manifest, schema=2, has_interpreter=True)
    other = stores()
    with pytest.raises(PackFormatError, match="is to bring its interpreter, no layer holds 'bin/python'"):
        other.materialise(other.import_pack(file))
    with pytest.raises(PackFormatError, match="no layer holds 'bin/python'"):
        unpack(file, tmp_path / "dir")
    assert not (tmp_path / "dir").exists()


def test_a_layer_with_a_file_where_environments_have_folders_is_a_conflict(
    prefix, store, needs, tmp_path: Path
) -> None:
    prefix.install("one", "1.0", {"one.py": ""})
    (tmp_path / "project").mkdir()
    digest = store.pack_layer([Source("lib", make=lambda: b"")]).digest
    good = pack(needs(("one", "1.0")), python=prefix.python, store=store)
    manifest = replace(good, layers=(*good.layers, LayerRef(digest, "wheel", "odd", "1", 0, 1)))
    store.export(manifest, tmp_path / "x.tar.zst")
    said = r"odd 1 holds 'lib' as a file, the environment has it as a folder"
    with pytest.raises(LayerConflictError, match=said):
        unpack(tmp_path / "x.tar.zst", tmp_path / "dir")
    with pytest.raises(LayerConflictError, match=said):
        store.materialise(manifest)


def test_a_folder_that_every_environment_has_may_be_in_a_layer(prefix, store, needs, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    good = pack(needs(), python=prefix.python, store=store)
    digest = store.pack_layer([Source("bin", str(tmp_path / "bin"))]).digest
    manifest = replace(good, layers=(LayerRef(digest, "wheel", "odd", "1", 0, 1),))
    store.export(manifest, tmp_path / "x.tar.zst")
    unpack(tmp_path / "x.tar.zst", tmp_path / "dir")
    assert (store.materialise(manifest) / "bin").is_dir()


def test_a_conflict_leaves_no_folder(prefix, store, needs, tmp_path: Path) -> None:
    prefix.install("one", "1.0", {"one.py": "value = 1\n"})
    (tmp_path / "project").mkdir()
    mine = tmp_path / "project" / "one.py"
    mine.write_text("value = 2\n")
    answer = needs(("one", "1.0"), files=[mine], root=mine.parent)
    pack(answer, python=prefix.python, store=store, output=tmp_path / "x.tar.zst")
    before = set(os.listdir(tmp_path))
    with pytest.raises(LayerConflictError):
        unpack(tmp_path / "x.tar.zst", tmp_path / "dir")
    assert set(os.listdir(tmp_path)) == before
