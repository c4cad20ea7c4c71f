"""Environments from archives by conda-pack and venv-pack: the layers that they would have given where they were."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from envpack.commands.main import main
from envpack.errors import DistributionFilesError, IncompatiblePackError, PackFormatError, UsageError
from envpack.pack import LayerEvent, Manifest, Store, import_environment, pack, unpack
from tests.conda import SITE, Channel, has_compiler, metadata, python_package, where_packages
from tests.pack.conftest import Prefix

pytestmark = pytest.mark.timeout(300)


def made_by(tool: str, *words: str | Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", tool, *map(str, words)]
    subprocess.run(command, check=True, timeout=100, capture_output=True)


def run(*command: str | Path) -> str:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def layers(manifest: Manifest) -> dict[str, str]:
    return {ref.name: ref.digest for ref in manifest.layers}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(tmp_path_factory.mktemp("store"))
    yield store
    assert not list((store.folder / "tmp").glob("*"))


# Archives by venv-pack


@pytest.fixture
def venv(tmp_path: Path) -> tuple[Prefix, Path]:
    """An environment and the archive of it."""
    prefix = Prefix(tmp_path / "venv")
    script = f"#!{prefix.python}\nimport one, sys\nprint(one.value, sys.prefix)\n"
    prefix.install("one", "1.0", {"one/__init__.py": "value = 1\n", "../../../bin/one": script}, compiled=True)
    prefix.install("two", "1.0", {"two.py": "value = 2\n"})
    (prefix.site / "unlisted.py").write_text("value = 3\n")
    (prefix.folder / "share").mkdir()
    (prefix.folder / "share" / "data.txt").write_text("data\n")
    (prefix.folder / "share" / "link.txt").symlink_to("data.txt")
    archive = tmp_path / "venv.tar.gz"
    made_by("venv_pack", "-q", "-p", prefix.folder, "-o", archive)
    return prefix, archive


def test_archive_by_venv_pack_gives_the_layers_of_its_environment(venv, store: Store, needs, tmp_path: Path) -> None:
    prefix, archive = venv
    answer = needs(("one", "1.0"), ("two", "1.0"))
    where_it_was = layers(pack(answer, python=prefix.python, store=store))
    shutil.rmtree(prefix.folder)
    manifest = pack(archive, store=store, output=tmp_path / "x.tar.zst")
    assert {name: digest for name, digest in layers(manifest).items() if name in where_it_was} == where_it_was
    assert set(layers(manifest)) == {"one", "two", "others"}
    assert not manifest.has_interpreter
    unpack(tmp_path / "x.tar.zst", tmp_path / "dir")
    assert run(tmp_path / "dir" / "bin" / "one") == f"1 {tmp_path}/dir"
    assert (
        run(tmp_path / "dir" / "bin" / "python", "-c", "import two, unlisted; print(two.value, unlisted.value)")
        == "2 3"
    )
    assert (tmp_path / "dir" / "share" / "link.txt").read_text() == "data\n"
    programs = {path.name for path in (tmp_path / "dir" / "bin").iterdir()}
    assert programs == {"one", "python", "python3", f"python{sys.version_info[0]}.{sys.version_info[1]}"}


def test_archive_by_venv_pack_is_unpacked_run_and_exported_by_the_commands(
    venv, tmp_path: Path, capsys, monkeypatch
) -> None:
    shutil.rmtree(venv[0].folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENVPACK_STORE", str(tmp_path / "store0"))
    monkeypatch.setenv("ENVPACK_HISTORY", str(tmp_path / "history"))
    assert main(["unpack", "venv.tar.gz", "dir"]) == 0
    assert run(tmp_path / "dir" / "bin" / "one") == f"1 {tmp_path}/dir"
    assert not (tmp_path / "store0").exists(), "what is unpacked into a folder needs no store"
    assert main(["pack", "venv.tar.gz", "-o", "y.tar.gz"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert "3 built, 0 reused" in told.out
    assert main(["run", "venv.tar.gz", "--", "one"]) == 0
    (tmp_path / "d").mkdir()
    run("tar", "xzf", tmp_path / "y.tar.gz", "-C", tmp_path / "d")
    path = f"{os.path.dirname(sys._base_executable)}:/usr/bin:/bin"
    assert run("env", f"PATH={path}", tmp_path / "d" / "bin" / "one") == f"1 {tmp_path}/d"
    assert main(["pack", "y.tar.gz", "-o", "z.tar.zst"]) == 0
    assert "0 built, 3 reused" in capsys.readouterr().out
    assert main(["inspect", "venv.tar.gz"]) == 1
    assert "'venv.tar.gz' is an archive of another tool (pack it" in capsys.readouterr().err
    assert main(["pack", "venv.tar.gz", "--include", "one"]) == 2
    assert "given ready, together with options of the analysis" in capsys.readouterr().err


def test_an_archive_is_cut_once_as_long_as_it_is_the_same(venv, store: Store) -> None:
    def built(archive: Path) -> list[bool]:
        events: list[LayerEvent] = []
        import_environment(archive, store, progress=events.append)
        return [event.built for event in events]

    prefix, archive = venv
    assert built(archive) == [True, True, True]
    shutil.rmtree(prefix.folder / "share")
    index = {path: path.read_bytes() for path in (store.folder / "index").rglob("*.json")}
    assert len(index) == 1, "what was thrown away is not remembered by file"
    assert built(archive) == [False, False, False]
    archive.unlink()
    made_by("venv_pack", "-q", "-p", prefix.folder, "-o", archive)
    assert built(archive) == [True, True, True], "another archive"


def test_what_an_archive_of_another_version_needs_is_said(venv, store: Store, tmp_path: Path) -> None:
    prefix, _ = venv
    (prefix.folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}").rename(
        prefix.folder / "lib" / "python3.2"
    )
    made_by("venv_pack", "-q", "-p", prefix.folder, "-o", tmp_path / "old.tar.gz")
    with pytest.raises(IncompatiblePackError, match=r"pack needs cpython 3.2, this is"):
        import_environment(tmp_path / "old.tar.gz", store)
    with pytest.raises(IncompatiblePackError, match=r"archive was made with Python 3.2, .* is 3"):
        import_environment(tmp_path / "old.tar.gz", store, python=sys.executable)


def test_development_install_in_an_archive_is_refused(venv, store: Store, tmp_path: Path) -> None:
    prefix, _ = venv
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "mine.py").write_text("password = 1\n")
    info = "mine-1.0.dist-info"
    url = '{"url": "file:///somewhere", "dir_info": {"editable": true}}'
    prefix.install("mine", "1.0", {"mine.pth": f"{tmp_path}/secret\n", f"{info}/direct_url.json": url})
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        for name in ("lib", "pyvenv.cfg", "bin/activate"):
            archive.add(prefix.folder / name, name)
    with pytest.raises(DistributionFilesError, match="'mine' is a development install"):
        import_environment(tmp_path / "x.tar.gz", store)


def test_an_archive_of_something_else_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("a")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "data", "data")
    with pytest.raises(PackFormatError, match="no environment in archive"):
        import_environment(tmp_path / "x.tar.gz", store)
    with pytest.raises(PackFormatError, match="no environment in archive"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "dir")
    (tmp_path / "x.txt").write_text("text")
    with pytest.raises(PackFormatError, match="not a pack"):
        import_environment(tmp_path / "x.txt", store)
    with pytest.raises(UsageError, match="No such file"):
        import_environment(tmp_path / "absent", store)
    assert not (tmp_path / "dir").exists()


def test_interpreter_is_not_named_for_what_is_built(venv, store: Store, tmp_path: Path) -> None:
    pack(venv[1], store=store, output=tmp_path / "x.tar.zst")
    with pytest.raises(UsageError, match="pack holds layers that are built"):
        import_environment(tmp_path / "x.tar.zst", store, python=sys.executable)


# Archives by conda-pack


def with_links(prefix: Path, *, cached: bool) -> Path:
    """Let the records say where packages were linked from, as conda does and py-rattler does not."""
    for record in (prefix / "conda-meta").glob("*.json"):
        content = json.loads(record.read_text())
        source = content["extracted_package_dir"] if cached else "/no/longer/there"
        record.write_text(json.dumps({**content, "link": {"source": source, "type": 1}}))
    return prefix


SCRIPT = "import tool\n\ntool.main()\n"


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Channel:
    folder = tmp_path_factory.mktemp("conda")
    return Channel(folder / "channel").add([python_package(small=True), *where_packages(folder)])


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="no C compiler to make a library with")
@pytest.mark.parametrize(("form", "cached"), [("tar.gz", True), ("zip", False)])
def test_archive_by_conda_pack_gives_the_layers_of_its_environment(
    form: str, cached: bool, channel: Channel, shared: Store, tmp_path: Path
) -> None:
    prefix = with_links(channel.install(tmp_path / "prefix of some length"), cached=cached)
    for path, text in {f"{SITE}/mixed/__init__.py": "", **metadata("mixed", "1.0", installer="pip")}.items():
        (prefix / path).parent.mkdir(exist_ok=True)
        (prefix / path).write_text(str(text))
    (prefix / "etc" / "mine.conf").write_text(f"place={prefix}/share\n")
    (tmp_path / "script.py").write_text(f"import mixed\n{SCRIPT}")
    where_it_was = pack(tmp_path / "script.py", python=str(prefix / "bin" / "python"), store=shared)
    archive = tmp_path / f"x.{form}"
    links = ["--zip-symlinks"] if form == "zip" else []
    made_by("conda_pack.cli", "-q", "-p", prefix, "-o", archive, *links)
    shutil.rmtree(prefix)
    events: list[LayerEvent] = []
    manifest = pack(archive, store=shared, output=tmp_path / "x.tar.zst", progress=events.append)
    known = layers(where_it_was)
    assert {name: digest for name, digest in layers(manifest).items() if name in known} == known
    assert set(layers(manifest)) == {*known, "unrelated", "others"}
    assert manifest.has_interpreter
    assert not any(event.edited or event.missing for event in events)
    unpack(tmp_path / "x.tar.zst", tmp_path / "one")
    assert run(tmp_path / "one" / "bin" / "python", tmp_path / "script.py") == f"tool at {tmp_path}/one/share/where"
    assert run(tmp_path / "one" / "bin" / "where-config") == f"{tmp_path}/one"
    assert (tmp_path / "one" / "etc" / "mine.conf").read_text() == f"place={tmp_path}/one/share\n"
    assert not list((tmp_path / "one" / "bin").glob("conda*"))


@pytest.mark.slow
def test_archive_by_conda_pack_for_one_place_is_refused(channel: Channel, shared: Store, tmp_path: Path) -> None:
    prefix = with_links(channel.install(tmp_path / "prefix"), cached=True)
    made_by("conda_pack.cli", "-q", "-p", prefix, "-o", tmp_path / "x.tar.gz", "--dest-prefix", "/opt/there")
    with pytest.raises(PackFormatError, match=r"packed for one place by --dest-prefix"):
        import_environment(tmp_path / "x.tar.gz", shared)
    assert (prefix / SITE).is_dir()
