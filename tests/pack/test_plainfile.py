"""A plain archive: opened by tar and a shell alone, by envpack with every byte verified."""

import gzip
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from envpack.commands.main import main
from envpack.errors import LayerConflictError, PackFormatError, UsageError
from envpack.pack import Manifest, Store, pack, unpack
from envpack.pack.formats import gzipstream

SHELLS = [shell for shell in ("sh", "dash", "bash", "zsh", "busybox", "ksh", "mksh") if shutil.which(shell)]
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
BASE = os.path.dirname(getattr(sys, "_base_executable", sys.executable))


@pytest.fixture
def packed(prefix, store, needs, tmp_path: Path) -> tuple[Path, Manifest]:
    script = f"#!{prefix.python}\nimport one, sys\nprint(one.value, sys.argv[1:], sys.prefix)\n"
    prefix.install("one", "1.0", {"one/__init__.py": "value = 1\n", "../../../bin/one": script, "ns/a.py": ""})
    prefix.install("two", "1.0", {"two.py": "value = 2\n", "ns/b.py": "", "big.bin": bytes(range(256)) * 17_000})
    file = tmp_path / "test.tar.gz"
    manifest = pack(needs(("one", "1.0"), ("two", "1.0")), python=prefix.python, store=store, output=file)
    shutil.rmtree(prefix.folder)
    return file, manifest


def extracted(file: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    done = subprocess.run(["tar", "xzf", file, "-C", folder], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def shell(code: str, cwd: Path, *words: str, path: str = f"{BASE}:/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    """Run a line in a shell to which nothing of the tests' own environment is known."""
    words = words or ("sh",)
    environment = {"PATH": path, "HOME": "/nonexistent"}
    return subprocess.run([*words, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


def said(*arguments: object, **options: object) -> str:
    done = shell(*arguments, **options)  # type: ignore[arg-type]
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.strip()


def words_of(name: str) -> list[str]:
    return ["busybox", "ash"] if name == "busybox" else [name]


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_activation_works_in_every_shell_and_deactivation_takes_all_back(packed, tmp_path: Path) -> None:
    folder = extracted(packed[0], tmp_path / "some where" / "d")
    code = (
        "PYTHONHOME=/x; PS1='$ '; CONDA_PREFIX=/c; set >before; echo \"$PATH\" >path\n"
        ". 'some where/d/bin/activate' && one a 'b c' && python -c 'import one, two, ns.a, ns.b' &&\n"
        'echo "$VIRTUAL_ENV $PS1" && deactivate && set >after\n'
        'echo "$PATH" | cmp - path; echo "$PYTHONHOME$CONDA_PREFIX"'
    )
    for name in SHELLS:
        expected = f"1 ['a', 'b c'] {folder}\n{folder} (d) $ \n/x/c"
        assert (name, said(code, tmp_path, *words_of(name))) == (name, expected)
        # Nothing of ours stays; what the shell itself counts and remembers differs.
        before, after = (set((tmp_path / name).read_text().splitlines()) for name in ("before", "after"))
        assert not [line for line in after - before if "envpack" in line.lower() or "VIRTUAL" in line]


def test_activation_finds_its_place_from_a_relative_path_and_in_a_subshell(packed, tmp_path: Path) -> None:
    folder = extracted(packed[0], tmp_path / "d")
    for name in SHELLS:
        for cwd, path in ((tmp_path, "d/bin/activate"), (folder, "bin/activate"), (folder / "bin", "./activate")):
            met = said(f"(. {path} && command -v one)", cwd, *words_of(name))
            assert (name, met) == (name, f"{folder}/bin/one")


def test_programs_run_without_activation_also_when_the_folder_has_moved(packed, tmp_path: Path) -> None:
    folder = extracted(packed[0], tmp_path / "d")
    (tmp_path / "link").symlink_to(folder / "bin" / "one")
    assert said("./link", tmp_path) == f"1 [] {folder}"
    moved = folder.rename(tmp_path / "moved once")
    assert said("'moved once/bin/one' 'x y'", tmp_path) == f"1 ['x y'] {moved}"
    assert (moved / "bin" / "python").resolve() == Path(BASE, f"python{VERSION}").resolve()
    assert said(f"./python{VERSION} -c 'import sys; print(sys.prefix, sys.flags.no_user_site)'", moved / "bin") == (
        f"{moved} 0"
    )
    again = moved.rename(tmp_path / "again")
    assert said(". ./again/bin/activate && one", tmp_path) == f"1 [] {again}"


def test_interpreter_that_is_gone_is_looked_for_again(packed, tmp_path: Path) -> None:
    folder = extracted(packed[0], tmp_path / "d")
    assert said("d/bin/one", tmp_path) == f"1 [] {folder}"
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to("/no/such/python")
    assert said("d/bin/envpack-relocate && d/bin/one", tmp_path) == f"1 [] {folder}"


def test_machine_without_such_a_python_is_told_what_is_needed_and_met(packed, tmp_path: Path) -> None:
    folder = extracted(packed[0], tmp_path / "d")
    before = content(folder)
    other = tmp_path / "other" / "python3"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\nprintf 'cpython 3.4 cp34 linux-old\\n/usr/bin\\n/usr/bin/python3\\n3.4.0\\n'\n")
    other.chmod(0o755)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "dirname", "realpath", "sed", "cat", "ln", "mv", "readlink"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    for code in ("d/bin/python -c 0", "d/bin/one", ". d/bin/activate && echo wrong"):
        done = shell(code, tmp_path, "/bin/sh", path=f"{tools}:{other.parent}")
        assert done.returncode != 0
        assert done.stdout == ""
        assert done.stderr.startswith(f"envpack-relocate: error: no Python of this kind on PATH: cpython {VERSION} ")
        assert f"({other} is cpython 3.4 cp34 linux-old; install Python {VERSION}, or put it on PATH)" in done.stderr
    assert content(folder) == before


def test_environments_of_this_kind_on_path_do_not_ask_each_other(packed, tmp_path: Path) -> None:
    one = extracted(packed[0], tmp_path / "one")
    two = extracted(packed[0], tmp_path / "two")
    path = f"{one}/bin:{two}/bin:{BASE}:/usr/bin:/bin"
    assert said("python -c 'import sys; print(sys.prefix)'", tmp_path, path=path) == str(one)


def test_the_same_environment_gives_the_same_bytes_whatever_the_number_of_threads(
    packed, store: Store, stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, manifest = packed
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    store.export(manifest, "other name.tgz")
    assert (tmp_path / "other name.tgz").read_bytes() == file.read_bytes()
    other = stores()
    assert other.import_pack(file) == manifest
    other.export(manifest, "again.tar.gz")
    assert (tmp_path / "again.tar.gz").read_bytes() == file.read_bytes()


def test_nothing_of_the_machine_is_in_an_archive(packed) -> None:
    data = packed[0].read_bytes()
    assert data[:10].hex(" ") == "1f 8b 08 00 00 00 00 00 00 03", "no name, no time"
    with tarfile.open(packed[0]) as archive:
        members = archive.getmembers()
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (0, 0, 0, "", "")
    }
    assert all(member.isfile() or member.issym() or member.isdir() for member in members)
    assert len({member.name for member in members}) == len(members)
    assert members[0].name == ".envpack/manifest.json"


def test_import_takes_the_layers_into_a_store_and_unpacks_them(packed, store: Store, stores, tmp_path: Path) -> None:
    file, manifest = packed
    other = stores()
    assert other.import_pack(file) == manifest
    assert {path.name for path in (other.folder / "blobs").iterdir()} == {
        f"{ref.digest}.tar.zst" for ref in manifest.layers
    }
    assert content(other.materialise(manifest)) == content(store.materialise(manifest))
    assert unpack(file, tmp_path / "dir") == manifest
    assert content(tmp_path / "dir") == content(store.materialise(manifest))
    assert other.import_pack(file) == manifest, "all layers are there"


def test_commands_export_inspect_and_unpack(packed, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "test.tar.gz"]) == 0
    told = capsys.readouterr().out
    assert f"environment {packed[1].id}" in told
    assert [line.split()[0] for line in told.splitlines()[3:]] == ["one", "two", "total"]
    assert main(["unpack", "test.tar.gz", "dir"]) == 0
    assert said("dir/bin/one", tmp_path) == f"1 [] {tmp_path}/dir"
    (tmp_path / "script.py").write_text("import json\n")
    monkeypatch.setenv("ENVPACK_STORE", str(tmp_path / "store0"))
    assert main(["pack", "script.py", "-o", "script.tgz"]) == 0
    assert "script.tgz" in capsys.readouterr().out
    extracted(tmp_path / "script.tgz", tmp_path / "s")
    assert said("s/bin/python -c 'import sys; print(sys.prefix)'", tmp_path) == f"{tmp_path}/s"


@pytest.mark.parametrize("name", ["x.zip", "x", "x.tar", "x.tar.bz2", "tar.gz.x"])
def test_name_that_tells_no_format_is_refused_before_any_work(prefix, needs, stores, name: str, tmp_path: Path) -> None:
    store = stores()
    with pytest.raises(UsageError, match=r"tells no format: '.*' \(end it with .tar.zst"):
        pack(needs(), python=prefix.python, store=store, output=tmp_path / name)
    with pytest.raises(UsageError, match="no such folder"):
        pack(needs(), python=prefix.python, store=store, output=tmp_path / "absent" / "x.tar.gz")
    assert not store.folder.exists()
    assert not (tmp_path / name).exists()


def test_an_archive_cut_anywhere_is_refused_and_leaves_nothing(packed, tmp_path: Path) -> None:
    data = packed[0].read_bytes()
    before = set(os.listdir(tmp_path))
    cut = tmp_path / "cut"
    for length in [2, 3, 18, 100, *range(500, len(data), len(data) // 12), len(data) - 8, len(data) - 1]:
        cut.write_bytes(data[:length])
        with pytest.raises(PackFormatError):
            unpack(cut, tmp_path / "dir")
    cut.write_bytes(data + gzip.compress(b"more"))
    with pytest.raises(PackFormatError, match="goes on after its end"):
        unpack(cut, tmp_path / "dir")
    cut.write_bytes(data + b"more")
    with pytest.raises(PackFormatError, match="cannot be decoded"):
        unpack(cut, tmp_path / "dir")
    assert set(os.listdir(tmp_path)) == before | {"cut"}


def test_a_changed_byte_below_the_compression_is_refused(packed, stores, tmp_path: Path) -> None:
    file, _ = packed
    raw = gzip.decompress(file.read_bytes())
    source = random.Random(5)
    around = set(os.listdir(tmp_path)) | {"bad"}
    with tarfile.open(file) as archive:
        members = {member.name: member for member in archive.getmembers()}
    last = members["bin/activate"].offset_data
    for place in [*range(0, 300, 23), last, *(source.randrange(len(raw)) for _ in range(12))]:
        damaged = bytearray(raw)
        damaged[place] ^= source.randrange(1, 256)
        (tmp_path / "bad").write_bytes(gzip.compress(damaged, compresslevel=1))
        with pytest.raises(PackFormatError):
            unpack(tmp_path / "bad", tmp_path / "dir")
        assert set(os.listdir(tmp_path)) == around
    other = stores()
    with pytest.raises(PackFormatError):
        other.import_pack(tmp_path / "bad")
    assert other.manifest_ids() == []


def test_a_damaged_layer_is_not_exported(packed, store: Store, tmp_path: Path) -> None:
    _, manifest = packed
    blob = store.blob(manifest.layers[-1].digest)
    data = bytearray(blob.read_bytes())
    data[-20] ^= 0xFF
    blob.chmod(0o644)
    blob.write_bytes(data)
    before = set(os.listdir(tmp_path))
    with pytest.raises(PackFormatError):
        store.export(manifest, tmp_path / "again.tar.gz")
    assert set(os.listdir(tmp_path)) == before
    blob.unlink()


def test_layers_that_contradict_each_other_are_not_exported(prefix, stores, needs, tmp_path: Path) -> None:
    prefix.install("one", "1.0", {"one.py": "value = 1\n"})
    (tmp_path / "project").mkdir()
    mine = tmp_path / "project" / "one.py"
    mine.write_text("value = 2\n")
    answer = needs(("one", "1.0"), files=[mine], root=mine.parent)
    with pytest.raises(LayerConflictError, match=r"local and one 1.0 both hold"):
        pack(answer, python=prefix.python, store=stores(), output=tmp_path / "x.tar.gz")
    prefix.install("two", "1.0", {"../../../bin/activate": "mine\n"})
    with pytest.raises(LayerConflictError, match=r"envpack and two 1.0 both hold 'bin/activate'"):
        pack(needs(("two", "1.0")), python=prefix.python, store=stores(), output=tmp_path / "x.tar.gz")
    assert not list(tmp_path.glob("*x.tar.gz*"))


@pytest.mark.parametrize("size", [0, 1, gzipstream._BLOCK_BYTES, 2 * gzipstream._BLOCK_BYTES + 1])
def test_what_was_compressed_in_blocks_is_read_by_everybody(size: int, tmp_path: Path) -> None:
    data = random.Random(size).randbytes(size // 2) + bytes(size - size // 2)
    out = io.BytesIO()
    with gzipstream.GzipWriter(out) as writer:
        for start in range(0, size, 1_000_003):
            writer.write(data[start : start + 1_000_003])
    assert gzip.decompress(out.getvalue()) == data
    reader = gzipstream.GzipReader(io.BytesIO(out.getvalue()), "x")
    buffer = memoryview(bytearray(70_000))
    met = bytearray()
    while count := reader.readinto(buffer):
        met += buffer[:count]
    assert met == data
