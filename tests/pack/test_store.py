"""The store: what is asked for is there, once, and unharmed."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from envpack.errors import (
    DigestMismatchError,
    IncompatiblePackError,
    LayerMissingError,
    ManifestNotFoundError,
    PackFormatError,
)
from envpack.pack import LayerRef, Manifest, Store, pack

FILE_EVENTS = {"open", "os.listdir", "os.scandir", "os.mkdir", "os.link", "os.utime"}


@pytest.fixture
def manifest(prefix, store, needs) -> Manifest:
    prefix.install("one", "1.0", {"one/__init__.py": "value = 1\n", "one/data.bin": os.urandom(5000)})
    prefix.install("two", "1.0", {"two.py": "value = 2\n"})
    return pack(needs(("one", "1.0"), ("two", "1.0")), python=prefix.python, store=store)


def test_asking_again_gives_the_same_folder_without_making_it(manifest: Manifest, store: Store) -> None:
    first = store.materialise(manifest)
    inode = first.stat().st_ino
    assert store.materialise(manifest) == Store(store.folder).materialise(manifest) == first
    assert first.stat().st_ino == inode


def test_asking_for_what_is_there_opens_next_to_nothing(manifest: Manifest, store: Store) -> None:
    store.materialise(manifest)
    met: list[str] = []
    hear = [True]
    sys.addaudithook(lambda event, values: met.append(event) if hear and event in FILE_EVENTS else None)
    try:
        Store(store.folder).materialise(manifest)
    finally:
        hear.clear()
    assert len(met) <= 4, met


def test_files_of_an_environment_are_read_only_and_cost_no_space(manifest: Manifest, store: Store) -> None:
    environment = store.materialise(manifest)
    (data,) = environment.glob("lib/python*/site-packages/one/data.bin")
    assert stat.S_IMODE(data.stat().st_mode) & 0o222 == 0
    assert data.stat().st_nlink == 2


def test_an_environment_whose_interpreter_is_gone_is_made_again(manifest: Manifest, store: Store) -> None:
    environment = store.materialise(manifest)
    (environment / "bin" / "python").unlink()
    again = store.materialise(manifest)
    assert subprocess.run([again / "bin" / "python", "-c", "import one"], timeout=60).returncode == 0


def test_a_layer_that_is_nowhere_is_named(store: Store, manifest: Manifest) -> None:
    absent = LayerRef("f" * 64, "wheel", "absent", "1.0", 1, 1)
    more = Manifest(
        manifest.python, manifest.implementation, manifest.abi, manifest.platform, (*manifest.layers, absent)
    )
    assert store.missing(more) == (absent,)
    with pytest.raises(LayerMissingError, match=r"absent 1\.0 \(ffffffffffff\)"):
        store.materialise(more)
    with pytest.raises(LayerMissingError, match=r"absent 1\.0"):
        store.export(more, store.folder / "x.tar.zst")


def test_a_damaged_layer_file_is_refused_and_fetched_again(manifest: Manifest, store: Store, stores) -> None:
    ref = manifest.layers[0]
    good = store.blob(ref.digest).read_bytes()
    store.blob(ref.digest).chmod(0o644)
    store.blob(ref.digest).write_bytes(good[:-40] + bytes(20) + good[-20:])
    with pytest.raises(PackFormatError, match=r"one 1\.0"):
        store.materialise(manifest)
    assert store.missing(manifest) == (ref,)
    store.add_blob(ref.digest, [good], ref=ref)
    assert (store.materialise(manifest) / "bin" / "python").exists()


def test_a_layer_from_a_peer_is_verified_and_unpacked_on_arrival(manifest: Manifest, store: Store, stores) -> None:
    other = stores()
    ref = manifest.layers[0]
    data = store.blob(ref.digest).read_bytes()
    with pytest.raises(PackFormatError):
        other.add_blob(ref.digest, [data[:-30]], source="10.0.0.1")
    with pytest.raises(PackFormatError):
        other.add_blob("0" * 64, [data], source="10.0.0.1")
    assert not other.has(ref.digest)
    other.add_blob(ref.digest, (data[start : start + 100] for start in range(0, len(data), 100)), source="10.0.0.1")
    assert other.blob(ref.digest).read_bytes() == data
    assert (other.folder / "layers" / ref.digest).is_dir()


def test_content_that_is_not_what_its_list_says_names_layer_and_source(
    manifest: Manifest, store: Store, stores
) -> None:
    import zstandard

    ref = next(ref for ref in manifest.layers if ref.name == "two")
    stream = zstandard.ZstdDecompressor().stream_reader(store.blob(ref.digest).read_bytes(), read_across_frames=True)
    changed = stream.read().replace(b"value = 2\n", b"value = 3\n")
    with pytest.raises(DigestMismatchError, match=r"two 1\.0 .* from peer 7 .*two\.py' differs"):
        stores().add_blob(ref.digest, [zstandard.compress(changed)], source="peer 7", ref=ref)


def test_manifest_is_found_by_the_first_digits_of_its_id(manifest: Manifest, store: Store) -> None:
    assert store.manifest(manifest.id) == store.manifest(manifest.id[:8]) == manifest
    for wrong in ("", "zz", manifest.id + "0", "../x"):
        with pytest.raises(ManifestNotFoundError):
            store.manifest(wrong)


def test_a_damaged_manifest_is_refused(manifest: Manifest, store: Store) -> None:
    file = store.folder / "manifests" / f"{manifest.id}.json"
    file.write_bytes(file.read_bytes().replace(b'"python":"3', b'"python":"4'))
    with pytest.raises(PackFormatError, match="damaged"):
        store.manifest(manifest.id)


@pytest.mark.parametrize(
    ("field", "value"),
    [("python", "3.99"), ("implementation", "pypy"), ("abi", "cp311d"), ("platform", "linux-s390x")],
)
def test_an_environment_for_another_machine_is_refused(
    manifest: Manifest, store: Store, field: str, value: str
) -> None:
    data = {**manifest.to_dict(), field: value}
    with pytest.raises(IncompatiblePackError, match="pack needs"):
        store.materialise(Manifest.from_dict(data))
    with pytest.raises(IncompatiblePackError, match=value):
        store.materialise(Manifest.from_dict(data), python=sys.executable)


def test_the_store_tells_what_it_holds(manifest: Manifest, store: Store, stores) -> None:
    assert stores().ls().layers == ()
    environment = store.materialise(manifest)
    content = store.ls()
    assert {layer.ref for layer in content.layers} == set(manifest.layers)
    assert all(layer.unpacked and layer.blob_bytes and layer.environments == (manifest.id,) for layer in content.layers)
    assert content.manifests == (manifest,)
    assert content.ready == (environment,)


HARMS = {
    "edit": "'lib/*/two.py' has other content",
    "cut": "'lib/*/two.py' has 9 bytes, 10 expected",
    "remove": "'lib/*/two.py' is missing",
    "add": "'lib/*/three.py' does not belong there",
    "mode": "'lib/*/two.py' has other permissions",
    "folder": "'lib/*/two.py' is no file",
    "list": "its entry list has another digest",
}


@pytest.mark.parametrize("harm", HARMS)
def test_verification_finds_what_was_changed_in_an_unpacked_layer(manifest: Manifest, store: Store, harm: str) -> None:
    ready = store.materialise(manifest)
    digest = next(ref.digest for ref in manifest.layers if ref.name == "two")
    assert [item for item in store.verify() if item.problems] == []
    assert {item.kind for item in store.verify()} == {"file", "layer", "environment"}
    (file,) = (store.folder / "layers" / digest).rglob("two.py")
    file.chmod(0o644)
    match harm:
        case "edit":
            file.write_text("value = 9\n")
        case "cut":
            file.write_text("value = 2")
        case "remove":
            file.unlink()
        case "add":
            file.with_name("three.py").write_text("")
        case "mode":
            file.chmod(0o555)
        case "folder":
            file.unlink()
            file.mkdir()
        case "list":
            (store.folder / "layers" / f"{digest}.json").chmod(0o644)
            (store.folder / "layers" / f"{digest}.json").write_text("{}")
    found = {item.kind: item for item in store.verify(threads=1) if item.problems}
    assert (found["layer"].name, found["layer"].label) == (digest, "two 1.0")
    site = f"lib/python{manifest.python}/site-packages"
    assert found["layer"].problems == (HARMS[harm].replace("lib/*", site),)
    # What is wrong with the file itself is wrong in the environment, too, which links to it.
    if harm in ("edit", "cut", "mode"):
        assert found["environment"].problems == (f"two 1.0: {HARMS[harm]}".replace("lib/*", site),)
        assert found["environment"].name == ready.name
    # What is damaged goes, unless somebody uses it, and the next use makes it again.
    assert not any(store.repair(item) for item in found.values())
    store.release()
    assert all(store.repair(item) for item in reversed(found.values()))
    assert store.materialise(manifest) == ready
    assert [item for item in store.verify() if item.problems] == []


def test_verification_finds_what_was_changed_in_an_environment(manifest: Manifest, store: Store, run_python) -> None:
    ready = store.materialise(manifest)
    (file,) = ready.rglob("two.py")
    file.unlink()
    file.write_text("value = 9\n")
    file.with_name("extra.py").write_text("")
    (file.parent / "__pycache__" / "extra.cpython-311.pyc").write_bytes(b"")
    (item,) = [item for item in store.verify() if item.problems]
    path = f"lib/python{manifest.python}/site-packages"
    assert item.kind == "environment"
    assert item.problems == (
        f"two 1.0: '{path}/two.py' has other content",
        f"'{path}/extra.py' does not belong there",
    )
    store.release()
    assert store.repair(item)
    assert run_python(store.materialise(manifest) / "bin" / "python", "import two; print(two.value)") == "2"


def test_environments_of_two_interpreters_live_side_by_side(manifest: Manifest, store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "python-copy"
    subprocess.run([sys.executable, "-m", "venv", "--copies", "--without-pip", copy], check=True)
    first = store.materialise(manifest)
    second = store.materialise(manifest, python=str(copy / "bin" / "python"))
    assert first != second
    assert {first, second} == set(store.ls().ready)


def test_interpreter_that_cannot_run_is_not_what_the_pack_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the stand-ins of version managers, which exist for versions that are not installed."""
    stand_in = tmp_path / "python3.99"
    stand_in.write_text("#!/bin/sh\necho not installed >&2\nexit 127\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    manifest = Manifest(python="3.99", implementation="cpython", abi="cp399", platform="linux-x86_64", layers=())
    with pytest.raises(IncompatiblePackError, match=r"pack needs cpython 3\.99: .*127"):
        Store(tmp_path / "store").materialise(manifest)


OUTLIVING = """
import os, sys
from envpack.pack import Store
store = Store(sys.argv[1])
manifest = store.manifest(sys.argv[2])
os.rename(sys.prefix, f"{sys.prefix}.gone")
print(store.materialise(manifest))
"""


def test_a_process_that_outlives_its_virtual_environment_still_makes_environments(
    manifest: Manifest, store: Store, tmp_path: Path, run_python
) -> None:
    client = tmp_path / "client"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", client], check=True)
    command = [client / "bin" / "python", "-c", OUTLIVING, store.folder, manifest.id]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert run_python(f"{done.stdout.strip()}/bin/python", "import one; print(one.value)") == "1"
