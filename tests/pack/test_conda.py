"""Environments that conda made: packed, removed, materialised elsewhere, moved again, run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from envpack.commands.main import main
from envpack.discover import analyze
from envpack.errors import CondaRecordError, IncompatiblePackError, PrefixTooLongError, UsageError
from envpack.pack import LayerEvent, Manifest, Store, pack, unpack
from tests.conda import (
    PLACEHOLDER,
    SITE,
    Channel,
    built_interpreter,
    has_compiler,
    numpy_package,
    pip,
    python_package,
    where_packages,
    write_wheel,
)

# The first pack compiles the standard library; all tests share what was built.
pytestmark = pytest.mark.timeout(300)

BUILT = built_interpreter(Path(sys.base_prefix))
# The file of pkg-config, the configuration of Python, a script, a library, one with a run path, and the interpreter.
REWRITTEN = 4 + has_compiler() + bool(BUILT)
DEEP = "import ctypes, sys; print(ctypes.CDLL(sys.prefix + '/lib/libnear.so').near_and_deep())"

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C compiler to make a library with")


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Channel:
    folder = tmp_path_factory.mktemp("conda")
    return Channel(folder / "channel").add([python_package(small=True), *where_packages(folder)])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(tmp_path_factory.mktemp("store"))
    yield store
    assert not list((store.folder / "tmp").glob("*"))
    assert not [item for item in store.verify() if item.problems]


@pytest.fixture(scope="module")
def common(channel: Channel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that tests only read."""
    return channel.install(tmp_path_factory.mktemp("common") / "prefix")


@dataclass
class Packed:
    """What was packed of an environment that is no more."""

    manifest: Manifest
    file: Path
    events: dict[str, LayerEvent]


@pytest.fixture(scope="module")
def done(channel: Channel, shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    folder = tmp_path_factory.mktemp("done")
    prefix = channel.install(folder / "prefix")
    (folder / "script.py").write_text(SCRIPT)
    manifest, events = packed(folder / "script.py", prefix, shared, folder / "x.tar.zst")
    shutil.rmtree(prefix)
    return Packed(manifest, folder / "x.tar.zst", events)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    return file


SCRIPT = "import tool\n\ntool.main()\n"


def run(*command: str | Path) -> str:
    # Nothing of the tests' own environment, and a home whose site-packages must not be seen.
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def python_of(prefix: Path) -> str:
    return str(prefix / "bin" / "python")


def packed(
    script: Path, prefix: Path, store: Store, output: Path | None = None, **options: object
) -> tuple[Manifest, dict[str, LayerEvent]]:
    events: list[LayerEvent] = []
    manifest = pack(script, python=python_of(prefix), store=store, output=output, progress=events.append, **options)
    return manifest, {event.ref.name: event for event in events}


@needs_compiler
def test_environment_runs_when_the_packed_one_is_gone(done: Packed, shared: Store, script: Path) -> None:
    assert set(done.events) == {"python", "libzlib-like", "libwhere", "where", "tool"}, "all that the tool depends on"
    assert {event.ref.kind for event in done.events.values()} == {"conda"}
    assert not any(event.edited or event.missing for event in done.events.values())
    assert done.manifest.has_interpreter
    made = shared.materialise(done.manifest)
    assert run(python_of(made), script) == f"tool at {made}/share/where"
    assert run(made / "bin" / "tool-run") == f"tool at {made}/share/where"
    assert run(made / "bin" / "where-config") == str(made)
    asked = "import where; print(where.ask('where_both'), where.ask('where_else'))"
    assert run(python_of(made), "-c", asked) == f"{made}/lib:{made}/lib64 /usr/bin/env"
    assert run(python_of(made), "-c", DEEP) == "42", "one library finds the other by its run path"
    assert run(python_of(made), "-c", "import sys; print(sys.prefix, sys.base_prefix)") == f"{made} {made}"
    assert run(python_of(made), "-c", "import sysconfig as s; print(s.get_config_var('prefix'))") == str(made)
    assert run(python_of(made), "-c", "import site; print(site.ENABLE_USER_SITE)") == "False"
    assert (made / "lib" / "libwhere.so").readlink() == Path("libwhere.so.1")
    assert {file.name for file in (made / "share" / "where").iterdir()} == {"Names.txt", "names.txt"}
    assert not (made / "share" / "unrelated.txt").exists()


@needs_compiler
@pytest.mark.slow
def test_unpacked_folder_runs_after_each_move(
    channel: Channel, shared: Store, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("ENVPACK_STORE", str(shared.folder))
    monkeypatch.chdir(tmp_path)
    prefix = channel.install(tmp_path / "prefix")
    assert main(["pack", "script.py", "--python", python_of(prefix), "-o", "x.tar.zst"]) == 0
    shutil.rmtree(prefix)
    assert main(["inspect", "x.tar.zst"]) == 0
    assert "brings its interpreter" in capsys.readouterr().out
    assert main(["unpack", "x.tar.zst", "one"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.endswith("\nafter a move run one/bin/envpack-relocate\n")
    place = tmp_path / "one"
    assert run(place / "bin" / "tool-run") == f"tool at {place}/share/where"
    for name in ("another and longer", "x" * 100, "s"):
        place = place.rename(tmp_path / name)
        assert run(python_of(place), script).startswith("tool at "), "it runs, and does not know yet where it is"
        assert run(place / "bin" / "envpack-relocate") == f"{place}: files changed: {REWRITTEN}"
        if BUILT:
            assert run(python_of(place), "-c", "import os; print(os.environ['BUILT_PREFIX'])") == str(place)
        assert run(python_of(place), "-c", DEEP) == "42"
        assert run(python_of(place), script) == f"tool at {place}/share/where"
        assert run(place / "bin" / "tool-run") == f"tool at {place}/share/where"
        assert (place / "lib" / "pkgconfig" / "where.pc").read_text() == f"prefix={place}\nlibs=-L{place}/lib\n"
    assert run(place / "bin" / "envpack-relocate") == f"{place}: files changed: 0"


@needs_compiler
@pytest.mark.slow
def test_plain_archive_needs_tar_and_a_shell_and_can_be_moved(
    done: Packed, shared: Store, script: Path, tmp_path: Path
) -> None:
    shared.export(done.manifest, tmp_path / "x.tar.gz")
    assert unpack(tmp_path / "x.tar.gz", tmp_path / "unpacked") == done.manifest
    assert run(tmp_path / "unpacked" / "bin" / "tool-run") == f"tool at {tmp_path}/unpacked/share/where"
    place = tmp_path / "one"
    place.mkdir()
    run("tar", "xzf", tmp_path / "x.tar.gz", "-C", place)
    line = (
        '. "$1/bin/activate" && python "$2" && tool-run && where-config && echo "$WHERE_IS" &&'
        ' deactivate && echo "${WHERE_IS-gone}"'
    )
    for name in ("another and longer", "x" * 100, "s"):
        assert run(python_of(place), "-c", "print(1)") == "1", "also before its path is written"
        expected = [f"tool at {place}/share/where"] * 2 + [str(place), f"{place}/share", "gone"]
        assert run("sh", "-c", line, "sh", place, script).splitlines() == expected
        assert run(place / "bin" / "envpack-relocate") == "", "it fits already"
        place = place.rename(tmp_path / name)
    assert run(place / "bin" / "envpack-relocate") == f"{place}: files changed: {REWRITTEN}"
    assert run(place / "bin" / "tool-run") == f"tool at {place}/share/where"


def test_plain_archive_that_stands_on_the_machine_has_its_path_written_too(
    common: Path, script: Path, shared: Store, tmp_path: Path
) -> None:
    manifest, _ = packed(script, common, shared, tmp_path / "x.tar.gz", exclude=["python"])
    (tmp_path / "d").mkdir()
    run("tar", "xzf", tmp_path / "x.tar.gz", "-C", tmp_path / "d")
    environment = {"PATH": f"{os.path.dirname(sys._base_executable)}:/usr/bin:/bin"}
    line = ". d/bin/activate && where-config && envpack-relocate"
    told = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (told.stdout, told.stderr) == (f"{tmp_path}/d\n", "")
    assert not manifest.has_interpreter


@pytest.mark.parametrize("name", ["a place of quite another length " * 4, "l" * 120])
@pytest.mark.slow
def test_layers_are_the_same_wherever_the_prefix_lies(
    name: str, channel: Channel, done: Packed, script: Path, shared: Store, tmp_path: Path
) -> None:
    manifest, events = packed(script, channel.install(tmp_path / name), shared)
    assert not any(event.edited or event.missing for event in events.values())
    assert manifest == done.manifest


@pytest.mark.slow
def test_what_was_made_from_a_pack_gives_the_same_pack(
    done: Packed, script: Path, shared: Store, tmp_path: Path
) -> None:
    unpack(done.file, tmp_path / "one")
    manifest, events = packed(script, tmp_path / "one", shared)
    assert not any(event.edited or event.missing for event in events.values())
    assert manifest == done.manifest


def test_nothing_of_the_machine_is_in_the_layers(done: Packed, shared: Store) -> None:
    shared.materialise(done.manifest)
    folders = [shared.folder / "layers" / ref.digest for ref in done.manifest.layers]
    contents = {file: file.read_bytes() for folder in folders for file in folder.rglob("*") if file.is_file()}
    assert sum(PLACEHOLDER.encode() in content for content in contents.values()) >= 4
    assert not [file for file, content in contents.items() if os.fsencode(done.file.parent) in content]
    assert not [file for file, content in contents.items() if file.suffix == ".pyc" and b"/builds/" in content]


def test_shared_files_are_linked_and_rewritten_ones_are_copies(done: Packed, shared: Store) -> None:
    made = shared.materialise(done.manifest)
    layers = {ref.name: shared.folder / "layers" / ref.digest for ref in done.manifest.layers}
    where = "lib/libwhere.so.1"
    assert (made / SITE / "where.py").samefile(layers["where"] / SITE / "where.py")
    assert not (made / where).samefile(layers["libwhere"] / where)
    assert (made / where).stat().st_mode & 0o777 == 0o555


def test_moved_store_makes_the_environment_anew(done: Packed, tmp_path: Path) -> None:
    first = Store(tmp_path / "first")
    made = first.materialise(first.import_pack(done.file))
    moved = Store(first.folder.rename(tmp_path / "second"))
    again = moved.materialise(done.manifest)
    assert again.parent == tmp_path / "second" / "environments"
    assert again.name != made.name
    assert run(again / "bin" / "where-config") == str(again)


def test_edited_and_missing_files_are_reported(channel: Channel, script: Path, shared: Store, tmp_path: Path) -> None:
    prefix = channel.install(tmp_path / "prefix")
    # Conda links files: to edit one in place would edit it in all environments.
    for path, text in {
        f"{SITE}/tool/__init__.py": "def main(): print('edited')\n",
        "lib/pkgconfig/where.pc": f"prefix={prefix}/mine\n",
    }.items():
        (prefix / path).unlink()
        (prefix / path).write_text(text)
    (prefix / "share/where/Names.txt").unlink()
    link = prefix / "lib" / "libwhere.so"
    link.unlink()
    link.symlink_to(prefix / "lib" / "libwhere.so.1")
    manifest, events = packed(script, prefix, shared, exclude=["python"])
    assert events["tool"].edited == (f"{SITE}/tool/__init__.py",)
    assert events["libwhere"].edited == ("lib/pkgconfig/where.pc",)
    assert events["libwhere"].missing == (str(prefix / "share/where/Names.txt"),)
    made = shared.materialise(manifest)
    assert run(python_of(made), script) == "edited"
    assert (made / "lib/pkgconfig/where.pc").read_text() == f"prefix={made}/mine\n"
    assert link.is_absolute()
    assert (made / "lib" / "libwhere.so").readlink() == Path("libwhere.so.1"), "no link leads out"


@pytest.mark.slow
def test_program_of_the_standard_library_alone_brings_the_interpreter(
    common: Path, script: Path, shared: Store
) -> None:
    script.write_text("import json\n\nprint(json.dumps([1]))\n")
    manifest, events = packed(script, common, shared)
    assert set(events) == {"python", "libzlib-like"}
    assert run(python_of(shared.materialise(manifest)), script) == "[1]"


@needs_compiler
@pytest.mark.slow
def test_what_a_run_does_not_open_is_left_out_of_packages_too(common: Path, script: Path, shared: Store) -> None:
    manifest, _ = packed(script, common, shared, run=(), trim="files")
    whole, _ = packed(script, common, shared)
    assert {ref.name for ref in manifest.layers if ref.left_out_bytes} >= {"python", "tool"}
    assert 0 < manifest.size_bytes < whole.size_bytes
    made = shared.materialise(manifest)
    assert run(python_of(made), script) == f"tool at {made}/share/where"
    assert (made / "lib" / "libwhere.so").readlink() == Path("libwhere.so.1")


def test_excluded_interpreter_is_lent_by_the_machine(common: Path, script: Path, shared: Store) -> None:
    manifest, events = packed(script, common, shared, exclude=["python", "libwhere"])
    assert set(events) == {"where", "tool"}
    assert not manifest.has_interpreter
    made = shared.materialise(manifest)
    assert (made / "bin" / "python").resolve() == Path(sys._base_executable).resolve()


def test_virtual_environment_on_conda_stands_on_the_machine(
    common: Path, script: Path, shared: Store, tmp_path: Path
) -> None:
    run(python_of(common), "-m", "venv", "--without-pip", tmp_path / "venv")
    script.write_text("print('alone')\n")
    manifest, events = packed(script, tmp_path / "venv", shared)
    assert (manifest.has_interpreter, events) == (False, {})


def test_interpreter_of_conda_is_brought_as_its_packages(
    common: Path, script: Path, shared: Store, tmp_path: Path
) -> None:
    script.write_text("import json\n\nprint(json.dumps([1]))\n")
    run(python_of(common), "-m", "venv", "--without-pip", tmp_path / "venv")
    expected, _ = packed(script, common, shared)
    assert packed(script, common, shared, interpreter=True)[0] == expected
    manifest, events = packed(script, tmp_path / "venv", shared, interpreter=True)
    assert set(events) == {"python", "libzlib-like"}
    assert manifest == expected


def test_base_interpreter_cannot_be_named_for_a_pack_with_its_own(done: Packed, shared: Store) -> None:
    with pytest.raises(UsageError, match="brings its own interpreter"):
        shared.materialise(done.manifest, python=sys.executable)


def test_pack_of_another_platform_is_refused(done: Packed, shared: Store) -> None:
    with pytest.raises(IncompatiblePackError, match=r"pack needs linux-riscv, this machine is linux-"):
        shared.materialise(replace(done.manifest, platform="linux-riscv"))


def test_folder_whose_path_is_too_long_is_refused_and_leaves_nothing(done: Packed, tmp_path: Path) -> None:
    parent = tmp_path / ("x" * (200 - len(str(tmp_path)) - 1))
    parent.mkdir()
    with pytest.raises(PrefixTooLongError, match=r"path of 256 bytes, 'lib/lib[a-z]*.so[.1]*' of libwhere 1.0"):
        unpack(done.file, parent / ("z" * 55))
    assert list(parent.iterdir()) == []
    unpack(done.file, parent / ("z" * 54))


def test_package_without_a_record_is_named_with_who_needs_it(
    common: Path, script: Path, shared: Store, tmp_path: Path
) -> None:
    prefix = shutil.copytree(common, tmp_path / "prefix", symlinks=True)
    record = prefix / "conda-meta" / "libwhere-1.0-0.json"
    text = record.read_text()
    record.unlink()
    with pytest.raises(CondaRecordError, match=r"conda package 'libwhere' expected, needed by where, no record of it"):
        packed(script, prefix, shared)
    record.write_text(text[:100])
    with pytest.raises(CondaRecordError, match=r"not readable there: 'libwhere-1.0-0.json'.*--exclude libwhere"):
        packed(script, prefix, shared)
    record.write_text(json.dumps({**json.loads(text), "paths_data": {"paths": [1]}}))
    with pytest.raises(CondaRecordError, match=r"record of conda package 'libwhere' cannot be read"):
        packed(script, prefix, shared)
    record.write_text(json.dumps({key: value for key, value in json.loads(text).items() if key != "paths_data"}))
    with pytest.raises(CondaRecordError, match=r"does not say into which files the path was written"):
        packed(script, prefix, shared)
    answer = analyze(script, python=python_of(prefix))
    (prefix / "conda-meta" / "tool-2.0-0.json").unlink()
    with pytest.raises(CondaRecordError, match=r"distribution 'tool' 2.0 was installed by conda, no record of it"):
        pack(answer, python=python_of(prefix), store=shared)


@pytest.mark.slow
def test_numpy_and_what_pip_put_over_conda_run_elsewhere(shared: Store, script: Path, tmp_path: Path) -> None:
    channel = Channel(tmp_path / "channel").add([python_package(), *where_packages(tmp_path), numpy_package()])
    prefix = channel.install(tmp_path / "prefix")
    wheels = [
        write_wheel(tmp_path, "mixed", "1.0", {"mixed.py": "import numpy\n\nvalue = numpy.arange(4).sum()\n"}),
        write_wheel(tmp_path, "where", "1.0", {"where.py": "def ask(name):\n    return 'of pip'\n"}),
    ]
    script.write_text("import mixed, numpy, tool\n\nprint(mixed.value, numpy.linalg.norm([3, 4]))\ntool.main()\n")
    pip(prefix, "install", "--no-index", "--no-deps", str(wheels[0]))
    _, events = packed(script, prefix, shared, tmp_path / "x.tar.zst")
    kinds = {name: event.ref.kind for name, event in events.items()}
    assert (kinds["mixed"], kinds["numpy"], kinds["where"]) == ("wheel", "conda", "conda")
    pip(prefix, "install", "--no-index", "--no-deps", "--force-reinstall", str(wheels[1]))
    _, events = packed(script, prefix, shared, tmp_path / "y.tar.zst")
    kinds = {name: event.ref.kind for name, event in events.items()}
    assert (kinds["mixed"], kinds["numpy"], kinds["where"]) == ("wheel", "conda", "wheel")
    assert "libwhere" not in kinds, "what conda had in this place needed it"
    shutil.rmtree(prefix)
    for file, told in (("x.tar.zst", "{}/share/where"), ("y.tar.zst", "of pip")):
        unpack(tmp_path / file, tmp_path / "one")
        moved = (tmp_path / "one").rename(tmp_path / file.partition(".")[0])
        run(moved / "bin" / "envpack-relocate")
        assert run(python_of(moved), script) == f"6 5.0\ntool at {told.format(moved)}"
        listed = "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))"
        assert run(python_of(moved), "-c", listed) == "mixed numpy tool where"
