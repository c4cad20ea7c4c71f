"""What machine code asks for is in the pack, in the interpreter or on every Linux; else packing says so."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpack.commands.main import main
from envpack.pack import LayerEvent, MissingLibrary, Store, pack
from envpack.pack.sources.elf import Dynamic, read_dynamic
from envpack.pack.sources.libraries import LayerLibraries, is_everywhere, layer_libraries, missing_libraries
from tests.fuzzing import times
from tests.pack.conftest import Prefix

CORE = next(Path(numpy.__file__).parent.glob("_core/_multiarray_umath*.so"))
COMPILER = shutil.which("cc") or shutil.which("gcc") or ""
needs_compiler = pytest.mark.skipif(not COMPILER, reason="no C compiler to make libraries with")


def build(file: Path, *flags: str) -> bytes:
    """Compile an empty shared library."""
    source = file.with_suffix(".c")
    source.write_text("int nothing(void) { return 0; }\n")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", file, source, "-Wl,--no-as-needed", *flags], check=True)
    return file.read_bytes()


@pytest.fixture
def libraries(tmp_path: Path) -> tuple[bytes, bytes]:
    """A library, and an extension module that is linked with it."""
    inner = build(tmp_path / "libinner-1a2b.so", "-Wl,-soname,libinner.so.7")
    outer = build(tmp_path / "outer.so", str(tmp_path / "libinner-1a2b.so"), "-lm")
    return inner, outer


def test_real_extension_module_names_its_libraries() -> None:
    dynamic = read_dynamic(str(CORE))
    assert dynamic is not None
    assert "libc.so.6" in dynamic.needed
    assert any("openblas" in name for name in dynamic.needed)


@needs_compiler
def test_name_of_a_library_is_the_one_it_gives_itself(tmp_path: Path, libraries: tuple[bytes, bytes]) -> None:
    assert read_dynamic(str(tmp_path / "libinner-1a2b.so")) == Dynamic(("libc.so.6",), "libinner.so.7")
    outer = read_dynamic(str(tmp_path / "outer.so"))
    assert outer is not None
    assert set(outer.needed) == {"libinner.so.7", "libm.so.6", "libc.so.6"}


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"\x7fELF\x09\x09", b"#!/bin/sh\n", b"\x7fELF\x02\x01" + b"\xff" * 200]
)
def test_what_is_no_machine_code_asks_for_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.so").write_bytes(content)
    assert read_dynamic(str(tmp_path / "x.so")) is None
    assert read_dynamic(str(tmp_path / "absent.so")) is None


@pytest.mark.slow
@settings(max_examples=times(300), deadline=None)
@given(st.integers(0, 4095), st.binary(min_size=1, max_size=64), st.integers(0, 1 << 16))
def test_damaged_machine_code_is_read_or_refused(place: int, noise: bytes, length: int) -> None:
    data = bytearray(CORE.read_bytes()[: 1 << 16])
    data[place : place + len(noise)] = noise
    with NamedTemporaryFile() as file:
        file.write(data[:length])
        file.flush()
        found = read_dynamic(file.name)
    assert found is None or isinstance(found, Dynamic)


@pytest.mark.parametrize("name", ["libc.so.6", "libstdc++.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"])
def test_what_wheels_may_rely_on_is_everywhere(name: str) -> None:
    assert is_everywhere(name)
    assert not is_everywhere("libgfortran.so.5")


def test_library_of_another_layer_or_beside_the_interpreter_is_there(tmp_path: Path) -> None:
    asks = LayerLibraries(
        wanted=(("libone.so.1", "lib/a.so"), ("libtwo.so.1", "lib/a.so"), ("libthree.so.1", "lib/b.so"))
    )
    (tmp_path / "libtwo.so.1").touch()
    missing = missing_libraries([("a 1", asks), ("b 1", LayerLibraries(offered=("libone.so.1",)))], [str(tmp_path)])
    assert missing == (MissingLibrary("libthree.so.1", "lib/b.so", "a 1"),)


def test_real_wheel_has_all_that_it_asks_for() -> None:
    site = Path(numpy.__file__).parents[1]
    folders = [site / "numpy", site / "numpy.libs"]
    files = [(str(path.relative_to(site)), str(path)) for one in folders for path in one.rglob("*.so*")]
    found = layer_libraries(files)
    assert found.wanted == ()
    assert any("openblas" in name for name in found.offered)


@needs_compiler
def test_pack_names_library_and_file_each_time(
    prefix: Prefix, store: Store, libraries: tuple[bytes, bytes], tmp_path: Path
) -> None:
    prefix.install("linked", "1.0", {"linked/__init__.py": "", "linked/outer.so": libraries[1]})
    script = tmp_path / "script.py"
    script.write_text("import linked\n")
    for turn in range(2):
        met: list[MissingLibrary] = []
        events: list[LayerEvent] = []
        pack(script, python=prefix.python, store=store, warn=met.append, progress=events.append)
        (one,) = met
        assert (one.library, one.layer, one.file.rpartition("/")[2]) == ("libinner.so.7", "linked 1.0", "outer.so")
        assert [event.built for event in events] == [turn == 0]


@needs_compiler
def test_library_that_travels_along_is_no_warning(
    prefix: Prefix, store: Store, libraries: tuple[bytes, bytes], tmp_path: Path
) -> None:
    inner, outer = libraries
    prefix.install(
        "linked", "1.0", {"linked/outer.so": outer, "linked.libs/libinner-1a2b.so": inner, "linked/__init__.py": ""}
    )
    script = tmp_path / "script.py"
    script.write_text("import linked\n")
    met: list[MissingLibrary] = []
    pack(script, python=prefix.python, store=store, warn=met.append)
    assert met == []


@needs_compiler
def test_command_warns_and_its_json_lists(
    prefix: Prefix,
    libraries: tuple[bytes, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ENVPACK_STORE", str(tmp_path / "store"))
    prefix.install("linked", "1.0", {"linked/__init__.py": "", "linked/outer.so": libraries[1]})
    (tmp_path / "script.py").write_text("import linked\n")
    assert main(["pack", str(tmp_path / "script.py"), "--python", prefix.python, "--json"]) == 0
    printed = capsys.readouterr()
    assert "libinner.so.7" in printed.err
    (environment,) = json.loads(printed.out)["environments"]
    assert [one["library"] for one in environment["missing_libraries"]] == ["libinner.so.7"]
