"""Trimmed packs: what nothing refers to, or opens, stays behind; the program still runs; what is gone is told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from envpack import Dependencies, Manifest, Store, pack
from envpack.commands.main import main
from envpack.discover.tracing.opened import OpenedFiles
from envpack.errors import TrimError, UsageError

SUITE = {"one/tests/__init__.py": "", "one/tests/test_one.py": "value = 1\n" * 100, "one/tests/data.bin": "x" * 5000}
ONE = {"one/__init__.py": "value = 1\n", "one/part.py": "", **SUITE}
Needs = Callable[..., Dependencies]


@pytest.fixture
def packed(prefix, store: Store, needs: Needs) -> Callable[..., Manifest]:
    """Pack `one` and others, trimmed or not."""

    def make(*names: str, trim: str | None = "tests", code: Path | None = None) -> Manifest:
        files = {"files": [code], "root": code.parent} if code else {}
        asked = needs(*((name, "1.0") for name in ("one", *names)), **files)
        return pack(asked, python=prefix.python, store=store, trim=trim)  # type: ignore[arg-type]

    return make


def site_files(environment: Path) -> set[str]:
    (site,) = environment.glob("lib/python3*/site-packages")
    return {str(file.relative_to(site)) for file in site.rglob("*") if file.is_file() and file.suffix != ".pyc"}


def test_a_test_suite_that_nothing_refers_to_is_left_out_and_its_bytes_are_told(
    prefix, store: Store, packed: Callable[..., Manifest]
) -> None:
    prefix.install("one", "1.0", ONE)
    whole, trimmed = packed(trim=None), packed()
    assert site_files(store.materialise(whole)) - site_files(store.materialise(trimmed)) == set(SUITE)
    (layer,) = trimmed.layers
    assert layer.left_out_bytes == trimmed.left_out_bytes == sum(map(len, SUITE.values()))
    assert str(layer) == "one 1.0 (trimmed)"
    assert layer.digest != whole.layers[0].digest


def test_a_trimmed_layer_and_the_whole_one_are_remembered_side_by_side(prefix, store: Store, needs: Needs) -> None:
    prefix.install("one", "1.0", ONE)
    built: list[bool] = []
    for trim in (None, "tests", None, "tests"):
        pack(
            needs(("one", "1.0")),
            python=prefix.python,
            store=store,
            trim=trim,  # type: ignore[arg-type]
            progress=lambda event: built.append(event.built),
        )
    assert built == [True, True, False, False]


def test_metadata_of_a_trimmed_distribution_lists_what_is_there(
    prefix, store: Store, packed: Callable[..., Manifest], run_python: Callable[..., str]
) -> None:
    prefix.install("one", "1.0", ONE)
    python = store.materialise(packed()) / "bin" / "python"
    code = "import importlib.metadata as m; print([(str(f), f.locate().exists()) for f in m.files('one')])"
    listed = dict(eval(run_python(python, code)))
    assert "one/part.py" in listed
    assert "one/tests/test_one.py" not in listed
    assert set(listed.values()) == {True}


REFERRING = {
    "an import of another distribution": "import one.tests.test_one\n",
    "an import inside a function": "def f():\n    from one.tests import test_one\n",
    "an import that goes on": "from one import (\n    value,\n    tests,\n)\n",
    "an import behind another statement": "try: from one import tests\nexcept ImportError: pass\n",
    "the name of a module as text": "import importlib\nimportlib.import_module('one.tests.test_one')\n",
}


@pytest.mark.parametrize("case", REFERRING)
def test_a_suite_that_another_distribution_refers_to_stays(
    prefix, store: Store, packed: Callable[..., Manifest], case: str
) -> None:
    prefix.install("one", "1.0", ONE)
    prefix.install("two", "1.0", {"two.py": REFERRING[case]})
    assert packed("two").left_out_bytes == 0


@pytest.mark.parametrize(
    "code", ["from . import tests\n", "from .tests.test_one import value\n", "import os\nos.path.join('tests', 'x')\n"]
)
def test_a_suite_that_its_own_package_refers_to_stays(
    prefix, store: Store, packed: Callable[..., Manifest], code: str
) -> None:
    prefix.install("one", "1.0", {**ONE, "one/part.py": code})
    assert packed().left_out_bytes == 0


def test_a_suite_that_the_user_s_own_code_imports_stays(
    prefix, packed: Callable[..., Manifest], tmp_path: Path
) -> None:
    prefix.install("one", "1.0", ONE)
    code = tmp_path / "code" / "mine.py"
    code.parent.mkdir()
    code.write_text("import one.tests.test_one\n")
    assert packed(code=code).left_out_bytes == 0


def test_a_suite_that_machine_code_names_stays(prefix, packed: Callable[..., Manifest]) -> None:
    prefix.install("one", "1.0", ONE)
    prefix.install("two", "1.0", {"two.so": b"\x7fELF\0" + b"\1" * 900 + b"\0one.tests.test_one\0"})
    assert packed("two").left_out_bytes == 0


def test_what_a_suite_that_stays_refers_to_stays_and_its_build_scripts_do_not_count(
    prefix, store: Store, packed: Callable[..., Manifest]
) -> None:
    prefix.install("one", "1.0", {**ONE, "one/tests/test_one.py": "import two.tests.helper\n"})
    prefix.install("two", "1.0", {"two/__init__.py": "", "two/tests/helper.py": "", "two/test/data": "y" * 10})
    prefix.install("user", "1.0", {"user.py": "import one.tests\n", "two/setup.py": "names = ['two.test']\n"})
    manifest = packed("two", "user")
    left = site_files(store.materialise(manifest))
    assert {"one/tests/test_one.py", "two/tests/helper.py"} <= left
    assert "two/test/data" not in left
    assert manifest.left_out_bytes == 10


def test_a_manifest_says_that_it_is_trimmed_in_a_form_of_its_own(prefix, packed: Callable[..., Manifest]) -> None:
    prefix.install("one", "1.0", ONE)
    whole, trimmed = packed(trim=None), packed()
    assert (whole.schema, trimmed.schema) == (1, 3)
    assert "left_out_bytes" not in json.dumps(whole.to_dict())
    for manifest in (trimmed, replace(trimmed, has_interpreter=True)):
        assert Manifest.from_dict(manifest.to_dict()) == manifest


PROGRAM = """
import sys, subprocess
from pathlib import Path
import one
if sys.argv[1:] == ["part"]:
    import one.part
def read(name="data.txt"):
    place = Path(one.__file__).with_name(name)
    return subprocess.run(["cat", place], check=True, capture_output=True, text=True).stdout
if __name__ == "__main__":
    print(read())
"""
FILES = {
    **ONE,
    "one/data.txt": "data",
    "one/other.txt": "other",
    "one/more/__init__.py": "",
    "one/part.py": "value = 2\n",
}


@pytest.fixture
def script(prefix, tmp_path: Path) -> Path:
    prefix.install("one", "1.0", FILES)
    file = tmp_path / "code" / "script.py"
    file.parent.mkdir()
    file.write_text(PROGRAM)
    return file


def test_only_what_a_run_opens_travels_also_what_other_programs_open(prefix, script: Path, store: Store) -> None:
    plain = pack(script, python=prefix.python, store=store, run=(), trim="files")
    part = pack(script, python=prefix.python, store=store, run=("part",), trim="files")
    kept = {"one/__init__.py", "one/data.txt"}
    metadata = {f"one-1.0.dist-info/{name}" for name in ("METADATA", "RECORD")}
    assert site_files(store.materialise(plain)) == kept | metadata
    assert site_files(store.materialise(part)) == kept | metadata | {"one/part.py"}
    assert plain.left_out_bytes > part.left_out_bytes > sum(map(len, SUITE.values()))


def test_only_what_a_sample_call_opens_travels(prefix, script: Path, store: Store) -> None:
    manifest = pack(f"{script}:read", python=prefix.python, store=store, sample="read('other.txt')", trim="files")
    left = site_files(store.materialise(manifest))
    assert "one/other.txt" in left
    assert "one/data.txt" not in left


def test_a_program_that_needs_another_file_the_second_time_is_not_trimmed(
    prefix, script: Path, store: Store, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    script.write_text(
        f"{PROGRAM}\ncount = Path({str(count)!r})\nruns = len(count.read_text()) if count.exists() else 0\n"
        "count.write_text('x' * (runs + 1))\nread(['data.txt', 'data.txt', 'data.txt', 'other.txt'][runs])\n"
    )
    with pytest.raises(TrimError, match=r"script\.py.*other\.txt.*nothing but the files"):
        pack(script, python=prefix.python, store=store, run=(), trim="files")
    assert count.read_text() == "xxxx"


def test_a_program_that_fails_says_nothing_about_its_files(prefix, script: Path, store: Store) -> None:
    script.write_text(f"{PROGRAM}\nraise SystemExit(3)\n")
    with pytest.raises(TrimError, match="exit code 3 in its whole pack"):
        pack(script, python=prefix.python, store=store, run=(), trim="files")


def test_files_are_not_trimmed_without_a_run_that_can_be_made_here(
    prefix, script: Path, store: Store, needs: Needs
) -> None:
    with pytest.raises(UsageError, match="--run or --call"):
        pack(script, python=prefix.python, store=store, trim="files")
    with pytest.raises(UsageError, match="not at hand"):
        pack(script, python=prefix.python, store=store, trim="files", run=(), platform="macosx_11_0_arm64")
    with pytest.raises(UsageError, match="name the target"):
        pack(needs(("one", "1.0")), python=prefix.python, store=store, trim="files", run=())


def test_trim_stands_alone_or_with_a_word_and_tells_what_was_left_out(
    prefix, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENVPACK_STORE", str(tmp_path / "store"))
    prefix.install("one", "1.0", {**FILES, "one/tests/large.bin": "x" * 50_000})
    assert main(["pack", "--python", prefix.python, "--trim", str(script)]) == 0
    assert "left out 56.0 kB: 56.0 kB of one\n" in capsys.readouterr().out
    command = ["pack", "--python", prefix.python, "--trim=files", "--run", str(script), "--json", "--", "part"]
    assert main(command) == 0
    (answer,) = json.loads(capsys.readouterr().out)["environments"]
    assert [layer["left_out_bytes"] > 56_000 for layer in answer["layers"] if layer["kind"] != "bytecode"] == [True]
    assert main(["pack", str(script), "--", "part"]) == 2
    assert main(["pack", str(script), str(script), "--run"]) == 2


def test_what_is_opened_below_a_folder_is_seen_whoever_opens_it(tmp_path: Path) -> None:
    inner = tmp_path / "one" / "two"
    inner.mkdir(parents=True)
    for name in ("read", "by another", "not read"):
        (inner / name).write_text("text")
    before = tmp_path / "before"
    before.write_text("text")
    before.read_text()
    with OpenedFiles(tmp_path) as opened:
        (inner / "read").read_text()
        subprocess.run(["cat", inner / "by another"], check=True, capture_output=True)
    (inner / "not read").read_text()
    assert opened.paths == {"one/two/read", "one/two/by another"}


SOLVING = """import numpy as np
from scipy import integrate, sparse, stats
from scipy.sparse.linalg import spsolve

second = sparse.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(50, 50), format="csc")
print(np.round(spsolve(second, np.ones(50))[:4], 8), round(float(stats.norm.cdf(1.96)), 8))
print(round(integrate.quad(lambda x: np.exp(-(x**2)), -np.inf, np.inf)[0], 8), np.linalg.eigvalsh(np.eye(3)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("trim", ["tests", "files"])
def test_numpy_and_scipy_run_from_a_trimmed_pack(store: Store, trim: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(SOLVING)
    here = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    manifest = pack(program, store=store, trim=trim, run=() if trim == "files" else None)  # type: ignore[arg-type]
    assert {ref.name for ref in manifest.layers if ref.left_out_bytes > 5_000_000} == {"numpy", "scipy"}
    environment = store.materialise(manifest)
    there = subprocess.run([environment / "bin" / "python", "-P", program], capture_output=True, text=True, timeout=60)
    assert there.stdout == here.stdout, there.stderr
    listed = "print(all(file.locate().exists() for name in ('numpy', 'scipy') for file in metadata.files(name)))"
    command = [environment / "bin" / "python", "-P", "-c", f"from importlib import metadata; {listed}"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == "True\n"
