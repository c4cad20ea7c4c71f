"""Bytecode in layers: compiled afresh or taken over it is the same, and it is used without its source."""

import importlib.util
import json
import os
import random
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from envpack.discover.environment.interpreter import inspect_interpreter
from envpack.pack.sources.bytecode import BytecodeCompiler
from tests.pack.conftest import other_pythons

SOURCE = '''"""Doc."""
import os
def f(x, y=(1, 2.5, "s"), *, z=b"b"):
    class C:
        a = 1 << 70
    return [lambda: x in (1, 2), f"{y}", C]
'''


@pytest.fixture
def compiler():
    with BytecodeCompiler(inspect_interpreter()) as compiler:
        yield compiler


def compile_beside(source: Path) -> Path:
    subprocess.run([sys.executable, "-m", "py_compile", source], check=True)
    return Path(importlib.util.cache_from_source(str(source)))


takes_over = pytest.mark.skipif(sys.version_info >= (3, 13), reason="nothing is taken over from Python 3.13 on")


@takes_over
def test_existing_bytecode_and_fresh_compilation_give_the_same_bytes(compiler, tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(SOURCE)
    fresh = compiler.bytecode(str(source), "pkg/module.py")
    compile_beside(source)
    assert compiler._taken_over(str(source), "pkg/module.py") == fresh


@takes_over
def test_standard_library_bytecode_is_taken_over_as_it_would_be_compiled(compiler) -> None:
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    taken = 0
    for file in random.Random(0).sample(files, 60):
        existing = compiler._taken_over(str(file), file.name)
        if existing is not None:
            taken += 1
            assert existing == compiler._compiled(str(file), file.name), file
    if any(Path(importlib.util.cache_from_source(str(file))).exists() for file in files):
        assert taken > 0


def test_bytecode_has_no_trace_of_the_folder_that_it_was_compiled_in(compiler, tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(SOURCE)
    compile_beside(source)
    data = compiler.bytecode(str(source), "module.py")
    assert str(tmp_path).encode() not in data


def test_bytecode_older_than_its_source_is_compiled_again(compiler, tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("x = 1\n")
    compile_beside(source)
    source.write_text("x = 22\n")
    assert compiler._taken_over(str(source), "module.py") is None
    assert compiler.bytecode(str(source), "module.py") == compiler._compiled(str(source), "module.py")


@pytest.mark.parametrize("line", ["x in {'a', 'b'} or (lambda: x in {'a', 'c'})", "x + '{'"])
def test_bytecode_that_varies_between_processes_is_compiled_again(compiler, tmp_path: Path, line: str) -> None:
    source = tmp_path / "module.py"
    source.write_text(f"def f(x):\n    return {line}\n")
    # Two processes that differ in what they had seen before.
    code = f"import sys; sys.intern('{{'); import py_compile; py_compile.compile({str(source)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert compiler._taken_over(str(source), "module.py") is None


def test_a_file_that_this_python_cannot_compile_gets_no_bytecode(compiler, tmp_path: Path) -> None:
    for number, text in enumerate([b"print 'two'\n", b"x = '\xff'\n", b"\0"]):
        source = tmp_path / f"m{number}.py"
        source.write_bytes(text)
        assert compiler.bytecode(str(source), source.name) is None
    (tmp_path / "good.py").write_text("x = 1\n")
    assert compiler.bytecode(str(tmp_path / "good.py"), "good.py") is not None


def test_bytecode_is_used_without_looking_at_its_source(compiler, tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("def where():\n    raise ValueError\n")
    data = compiler.bytecode(str(source), "module.py")
    assert struct.unpack("<I", data[4:8]) == (1,)
    cache = Path(importlib.util.cache_from_source(str(source)))
    cache.parent.mkdir()
    cache.write_bytes(data)
    os.utime(source, (1, 1))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import module, traceback\n"
        "try: module.where()\nexcept ValueError as error: print(traceback.extract_tb(error.__traceback__)[-1].filename)"
    )
    done = subprocess.run(
        [sys.executable, "-v", "-c", code, tmp_path], capture_output=True, text=True, check=True, timeout=60
    )
    assert f"# {cache} matches {source}" in done.stderr
    assert f"# wrote {str(cache)!r}" not in done.stderr
    assert done.stdout.strip() == str(source)


@pytest.mark.parametrize("python", other_pythons())
def test_bytecode_of_another_python_is_that_which_it_would_write(python: str, tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(SOURCE)
    with BytecodeCompiler(inspect_interpreter(python)) as compiler:
        fresh = compiler.bytecode(str(source), "module.py")
        code = "import sys, py_compile, importlib.util, json; print(json.dumps(py_compile.compile(sys.argv[1])))"
        done = subprocess.run([python, "-c", code, source], capture_output=True, text=True, check=True, timeout=60)
        assert compiler.tag in json.loads(done.stdout)
        expected = None if compiler.tag == "cpython-313" else fresh
        assert compiler._taken_over(str(source), "module.py") == expected
    check = "import sys, importlib.util; assert open(sys.argv[1], 'rb').read(4) == importlib.util.MAGIC_NUMBER"
    (tmp_path / "pyc").write_bytes(fresh)
    subprocess.run([python, "-c", check, tmp_path / "pyc"], check=True, timeout=60)


def test_what_was_compiled_before_does_not_matter(tmp_path: Path) -> None:
    test = "('halflife', last, 'any_value', name) if name in {'first', 'last', 'any_value'} else last"
    sources = {
        "star.py": "from os.path import *\n",
        "text.py": "value = ('*', '?')\n",
        "sets.py": f"class C:\n    def f(self, name, last):\n        return {test}\n\n    def g(self, name, last):\n"
        f"        return {test}\n",
        "more.py": "first = 'first', 'last', 'any_value', 'halflife'\n",
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    answers = set()
    for names in (sorted(sources), sorted(sources, reverse=True), [*sources, *sources]):
        with BytecodeCompiler(inspect_interpreter()) as compiler:
            made = {name: compiler.bytecode(str(tmp_path / name), name) for name in names}
        answers.add(tuple(sorted(made.items())))
    assert len(answers) == 1
    assert all(made for _, made in answers.pop())
