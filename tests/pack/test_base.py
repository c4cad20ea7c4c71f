"""The interpreter of a machine as a layer: the environment then runs where there is no Python at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from envpack.commands.main import main
from envpack.discover.environment.interpreter import Interpreter, inspect_interpreter
from envpack.errors import InterpreterNotMovableError, UsageError
from envpack.pack import LayerEvent, Manifest, MissingLibrary, Store, pack, unpack
from envpack.pack.sources.base import _Base, base_layer
from envpack.pack.sources.elf import read_dynamic
from tests.conda import has_compiler

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
SYSTEM = "/usr/bin/python3"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The standard library is compiled once."""
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "script.py"
    file.write_text("import json, ctypes, subprocess, sys\n\nprint(json.dumps([sys.prefix, sys.base_prefix]))\n")
    return file


def packed(script: Path, python: str, store: Store, **options: object) -> tuple[Manifest, dict[str, LayerEvent]]:
    events: list[LayerEvent] = []
    missing: list[MissingLibrary] = []
    manifest = pack(
        script,
        python=python,
        interpreter=True,
        store=store,
        progress=events.append,
        warn=missing.append,
        **options,  # type: ignore[arg-type]
    )
    assert {one.layer.split()[0] for one in missing} <= {"python"}, "what the system has is told"
    return manifest, {event.ref.name: event for event in events}


def unshared() -> list[str]:
    """Return the command that gives a program mounts of its own, or skip where the kernel does not allow it."""
    for options in (["--mount"], ["--map-root-user", "--mount"]):
        command = ["unshare", *options, "--propagation", "private"]
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    pytest.skip("needs a mount namespace: unshare is missing or not allowed")


def hidden(interpreter: Interpreter) -> str:
    """Return the shell commands after which the interpreter is not there any more."""
    if interpreter.base_prefix != "/usr":
        return f"mount -t tmpfs tmpfs '{os.path.realpath(interpreter.base_prefix)}'"
    program = os.path.realpath(interpreter.base_executable)
    return f"mount -t tmpfs tmpfs '{interpreter.stdlib}' && mount --bind /dev/null '{program}'"


def run(*command: str | Path, prefix: list[str] | None = None) -> str:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    done = subprocess.run([*(prefix or []), *command], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_environment_runs_where_there_is_no_python(prefix, shared: Store, needs, tmp_path: Path) -> None:
    console = f"#!{prefix.python}\nimport one, sys\nprint(one.value, sys.prefix)\n"
    prefix.install("one", "1.0", {"one.py": "value = 1\n", "../../../bin/one": console})
    file, plain = tmp_path / "x.tar.zst", tmp_path / "x.tar.gz"
    manifest, _ = packed(needs(("one", "1.0")), prefix.python, shared, output=file)
    shared.export(manifest, plain)
    hide = f"{hidden(inspect_interpreter(prefix.python))} && mount -t tmpfs tmpfs '{prefix.folder}'"
    unpack(file, tmp_path / "unpacked")
    (tmp_path / "extracted").mkdir()
    run("tar", "xzf", plain, "-C", tmp_path / "extracted")
    alone = [*unshared(), "sh", "-c", f'{hide} && exec "$@"', "sh"]
    code = (
        "import ctypes, encodings.idna, hashlib, json, multiprocessing, one, os, socket, subprocess, sys, uuid\n"
        "assert subprocess.check_output([sys.executable, '-c', 'print(1)']) == b'1\\n'\n"
        "files = {line.split(maxsplit=5)[-1].strip() for line in open('/proc/self/maps') if '/' in line}\n"
        "print(sys.prefix, sys.base_prefix, os.__file__, *sorted(file for file in files if 'python' in file.lower()))\n"
    )
    for name in ("unpacked", "extracted"):
        place = (tmp_path / name).rename(tmp_path / f"{name} and moved")
        first, second, module, *mapped = (
            run(place / "bin" / "python", "-c", code, prefix=alone).replace(str(place), "PLACE").split()
        )
        assert (first, second, module) == ("PLACE", "PLACE", f"PLACE/lib/python{VERSION}/os.py")
        assert all(path.startswith("PLACE/") for path in mapped), mapped
        assert run(place / "bin" / "one", prefix=alone) == f"1 {place}"
    line = '. "$1/bin/activate" && python -c "import sys; print(sys.prefix)"'
    assert run("sh", "-c", line, "sh", place, prefix=alone) == str(place)
    with_store = shared.materialise(manifest)
    assert run(with_store / "bin" / "python", "-c", "import one; print(one.value)", prefix=alone) == "1"


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists(SYSTEM), reason="no Python of the system")
def test_python_of_the_system_can_be_packed(shared: Store, script: Path, tmp_path: Path) -> None:
    interpreter = inspect_interpreter(SYSTEM)
    (tmp_path / "helper.py").write_text("value = 5\n")
    script.write_text("import helper, sys\n\nprint(helper.value, sys.prefix)\n")
    manifest, events = packed(script, SYSTEM, shared, output=tmp_path / "x.tar.zst")
    assert set(events) == {"python", "local"}
    unpack(tmp_path / "x.tar.zst", tmp_path / "dir")
    alone = [*unshared(), "sh", "-c", f'{hidden(interpreter)} && exec "$@"', "sh"]
    code = "import helper, sys, ssl, sqlite3; print(helper.value, sys.prefix)"
    assert run(tmp_path / "dir" / "bin" / "python", "-c", code, prefix=alone) == f"5 {tmp_path}/dir"
    assert manifest.has_interpreter


def test_interpreter_is_one_layer_that_is_built_once_and_shared(shared: Store, script: Path, tmp_path: Path) -> None:
    manifest, events = packed(script, sys.executable, shared)
    assert [(event.ref.kind, event.ref.version) for event in events.values()] == [
        ("interpreter", ".".join(map(str, sys.version_info[:3])))
    ]
    again, events = packed(script, sys.executable, shared)
    assert again == manifest
    assert not any(event.built for event in events.values())
    (tmp_path / "helper.py").write_text("value = 5\n")
    script.write_text("import helper\n")
    more, events = packed(script, sys.executable, shared)
    assert {name: event.built for name, event in events.items()} == {"python": False, "local": True}
    assert set(manifest.layers) < set(more.layers)
    without = pack(script, python=sys.executable, store=shared)
    assert (without.has_interpreter, manifest.has_interpreter) == (False, True)
    assert shared.materialise(manifest, python=None).is_dir()
    with pytest.raises(UsageError, match="brings its own interpreter"):
        shared.materialise(manifest, python=sys.executable)


def test_tests_caches_and_what_is_of_the_machine_stay_behind() -> None:
    interpreter = inspect_interpreter()
    layer = base_layer(interpreter)
    paths = [path for path, _ in layer.files]
    for part in ("/test/", "/tests/", "/site-packages/", "/dist-packages/", "/__pycache__/", "EXTERNALLY-MANAGED"):
        assert not [path for path in paths if part in path], part
    assert f"lib/python{VERSION}/os.py" in paths
    assert f"bin/python{VERSION}" in paths
    library = f"{interpreter.base_prefix}/lib"
    needed = read_dynamic(os.path.realpath(interpreter.base_executable))
    assert needed is not None
    own = {f"lib/{name}" for name in needed.needed if os.path.exists(f"{library}/{name}")}
    assert interpreter.base_prefix == "/usr" or own <= set(paths)


def refusal(interpreter: Interpreter) -> str:
    with pytest.raises(InterpreterNotMovableError) as caught:
        base_layer(interpreter)
    assert caught.value.hint == "leave the interpreter out, or take a Python of conda or pyenv"
    return caught.value.message


def test_interpreter_that_cannot_be_moved_is_refused_with_the_reason(tmp_path: Path) -> None:
    good = inspect_interpreter()
    assert "it is pypy, not cpython" in refusal(replace(good, implementation="pypy"))
    assert "its standard library lies in '/usr/lib64/python'" in refusal(replace(good, stdlib="/usr/lib64/python"))
    (tmp_path / "python").write_text("#!/bin/sh\n")
    assert "its program is no ELF file" in refusal(replace(good, base_executable=str(tmp_path / "python")))
    true, false = shutil.which("true"), shutil.which("false")
    assert "it takes its standard library from ''" in refusal(replace(good, base_executable=str(true)))
    assert "it does not run from another folder: exit status 1" in refusal(replace(good, base_executable=str(false)))


def test_interpreter_of_this_machine_is_of_no_use_to_another(shared: Store, script: Path) -> None:
    with pytest.raises(UsageError, match="interpreter of this machine asked for, in a pack for another one"):
        pack(script, platform="manylinux_2_28_aarch64", interpreter=True, store=shared)


@pytest.mark.skipif(not has_compiler(), reason="no C compiler to make a library with")
def test_search_path_of_a_library_leads_to_where_it_lies_itself(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int a(void) { return 1; }\n")
    (tmp_path / "b.c").write_text("int a(void);\nint b(void) { return a() + 1; }\n")
    prefix = tmp_path / "some" / "prefix"
    (prefix / "lib").mkdir(parents=True)

    def made(name: str, *words: str) -> str:
        file = str(tmp_path / f"lib{name}.so")
        compiler = shutil.which("cc") or shutil.which("gcc") or ""
        command = [compiler, "-shared", "-fPIC", "-o", file, str(tmp_path / f"{name}.c"), *words]
        subprocess.run(command, check=True, timeout=60)
        return file

    library = made("a")
    long = made("b", f"-L{tmp_path}", "-la", f"-Wl,-rpath,/opt/first:{prefix}/lib")
    base = _Base(inspect_interpreter())
    base.prefix = str(prefix)
    assert base.edits("lib/liba.so", library) == [], "it asks for nothing"
    content = base.moved(f"lib/python{VERSION}/lib-dynload/b.so", long)
    place = tmp_path / "elsewhere"
    moved = place / f"lib/python{VERSION}/lib-dynload/b.so"
    moved.parent.mkdir(parents=True)
    moved.write_bytes(content)
    dynamic = read_dynamic(str(moved))
    assert dynamic is not None
    assert [text for _, text in dynamic.search] == ["/opt/first:$ORIGIN/../.."]
    shutil.move(library, place / "lib" / "liba.so")
    load = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).b())"
    assert run(sys.executable, "-c", load, moved) == "2"
    base.prefix = "/x"
    short = made("a", "-Wl,-rpath,/x/lib")
    with pytest.raises(InterpreterNotMovableError, match=r"'/x/lib', which leaves no room for '\$ORIGIN/..'"):
        base.edits("lib/deep/liba.so", short)


@pytest.mark.slow
def test_command_brings_the_interpreter(shared: Store, script: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENVPACK_STORE", str(shared.folder))
    assert main(["pack", "script.py", "--python", sys.executable, "--with-interpreter", "-o", "x.tar.zst"]) == 0
    assert "interpreter" in capsys.readouterr().out
    assert main(["inspect", "x.tar.zst"]) == 0
    assert "brings its interpreter" in capsys.readouterr().out
    assert main(["unpack", "x.tar.zst", "dir"]) == 0
    assert run(tmp_path / "dir" / "bin" / "python", script) == f'["{tmp_path}/dir", "{tmp_path}/dir"]'
    assert main(["pack", "x.tar.zst", "--with-interpreter"]) == 2
    assert "given ready" in capsys.readouterr().err
