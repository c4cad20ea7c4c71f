"""Bytecode of the modules that are used: what importing some modules imports, and the layers that carry it."""

import json
import os
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from envpack.discover.environment.interpreter import inspect_interpreter
from envpack.pack import LayerEvent, Manifest, Store, pack
from envpack.pack.layer.entries import parse_listing
from envpack.pack.sources.bytecode import BytecodeCompiler
from envpack.pack.sources.imports import named_in
from envpack.pack.sources.used import UsedModules, attributes, modules_of
from tests.pack.conftest import Prefix, other_pythons

SITE = "lib/python3/site-packages"
Follow = Callable[..., set[str]]


@pytest.fixture
def follow(tmp_path: Path) -> Follow:
    """Give what is imported when some modules of these files are."""

    def following(
        files: dict[str, str], *roots: str, names: tuple[str, ...] = (), python: str | None = None
    ) -> set[str]:
        for path, text in files.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        interpreter = inspect_interpreter(python)
        with BytecodeCompiler(interpreter) as compiler:
            modules = modules_of([(f"{SITE}/{path}", str(tmp_path / path)) for path in files], SITE)
            return UsedModules(modules, compiler, interpreter).follow(roots, set(names))

    return following


PACKAGE = {
    "p/__init__.py": "from . import a\nfrom .b import thing\n",
    "p/a.py": "import p.c, os\nfrom typing import TYPE_CHECKING\n"
    "if TYPE_CHECKING:\n    import p.hints\nimport p.after\n",
    "p/b.py": "thing = 1\ndef later():\n    import p.late\nclass C:\n    import p.inclass\n",
    "p/c.py": "try:\n    import p.tried\nexcept ImportError:\n    from .. import nowhere\n",
    **{f"p/{name}.py": "" for name in ("after", "hints", "late", "inclass", "tried", "other")},
}
USED = {"p", "p.a", "p.b", "p.c", "p.after", "p.inclass", "p.tried"}


def test_what_runs_at_import_is_followed_and_nothing_else(follow: Follow) -> None:
    assert follow(PACKAGE, "p.a") == USED


def test_parents_of_a_module_are_used(follow: Follow) -> None:
    files = {"x/__init__.py": "", "x/y/__init__.py": "import z", "x/y/w.py": "", "z.py": "", "other.py": ""}
    assert follow(files, "x.y.w") == {"x", "x.y", "x.y.w", "z"}


def test_relative_imports_climb_as_far_as_they_say(follow: Follow) -> None:
    files = {
        "x/__init__.py": "",
        "x/m.py": "",
        "x/y/__init__.py": "",
        "x/y/m.py": "",
        "x/y/z.py": "from .. import m\nfrom .m import q",
    }
    assert follow(files, "x.y.z") == {"x", "x.m", "x.y", "x.y.m", "x.y.z"}


LAZY = {
    "lazy/__init__.py": "def __getattr__(name):\n    if name == 'one':\n        import lazy.one as found\n"
    "    elif name == 'two':\n        from . import two as found\n    return found\n",
    "lazy/one.py": "",
    "lazy/two.py": "",
    "user.py": "import lazy\ndef f(): return lazy.one.value\n",
    "stranger.py": "value = __name__.one\n",
    "whole.py": "from lazy import *\n",
    "copy.py": "import lazy\nfrom elsewhere import clone\nclone('lazy', globals())\n",
}


def test_a_submodule_made_when_asked_for_is_used_by_who_names_it(follow: Follow) -> None:
    assert follow(LAZY, "user", "stranger") == {"user", "stranger", "lazy", "lazy.one"}
    assert follow(LAZY, "lazy", "stranger") == {"lazy", "stranger"}
    assert follow(LAZY, "lazy", names=("two", "words")) == {"lazy", "lazy.two"}


@pytest.mark.parametrize("user", ["whole", "copy"])
def test_who_takes_a_package_whole_uses_all_that_it_makes_when_asked(follow: Follow, user: str) -> None:
    assert follow(LAZY, user) == {user, "lazy", "lazy.one", "lazy.two"}


def test_packages_of_lazy_loader_are_asked_by_name(follow: Follow) -> None:
    files = {
        "q/__init__.py": "import lazy_loader as l\n__getattr__, _, __all__ = l.attach(__name__, ['io', 'draw'])\n",
        "q/io.py": "",
        "q/draw.py": "",
        "user.py": "import q\nq.io\n",
    }
    assert follow(files, "user") == {"q", "q.io", "user"}


def test_constants_that_are_imported_by_a_call_are_followed(follow: Follow) -> None:
    files = {
        "d/__init__.py": "import importlib\nimportlib.import_module('d.one')\n__import__(__package__ + '.two')\n",
        "d/one.py": "",
        "d/two.py": "",
        "d/three.py": "",
    }
    assert follow(files, "d") == {"d", "d.one", "d.two"}


def test_a_module_that_no_python_compiles_imports_nothing(follow: Follow) -> None:
    assert follow({"bad.py": "print 'two'\nimport other\n", "other.py": ""}, "bad") == {"bad"}


@pytest.mark.slow
def test_another_python_reads_its_own_bytecode_to_the_same_end(follow: Follow) -> None:
    for python in other_pythons():
        assert follow(PACKAGE, "p.a", python=python) == USED, python
        assert follow(LAZY, "user", python=python) == {"user", "lazy", "lazy.one"}, python


def test_machine_code_names_modules_as_texts_of_their_own_or_among_compressed_ones() -> None:
    known = {"top.one", "top.two", "top.two.deep", "top.prose"}
    words = ("nupdateoneorderouter" * 5 + "top.twotop.two.deep__set_name__shape").encode()
    constants = b"\1\0top.one\0see top.prose for more\0x\xda" + zlib.compress(b"(doc) top.prose. " + words, 9)
    assert named_in(constants + b"\0", ["top"], known) == {"top.one", "top.two", "top.two.deep"}
    assert named_in(b"", ["top"], known) == set()


def test_attributes_are_the_names_behind_dots(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_text("import numpy as np\nx = np.fft.rfft(1.5) . real\n")
    assert attributes([str(file), str(tmp_path / "none.py")]) == {"fft", "rfft", "real"}


@pytest.fixture
def large(prefix: Prefix) -> Prefix:
    """An environment with a distribution of many modules, of which each imports the next one of its ten."""
    files = {"large/__init__.py": ""}
    for number in range(100):
        ahead = f"import large.m{number + 1}\n" if number % 10 < 9 else ""
        files[f"large/m{number}.py"] = f"{ahead}value = {number}\n"
    prefix.install("large", "1.0", files)
    prefix.install("small", "1.0", {"small.py": "import large.m95\n", "small_other.py": ""})
    return prefix


def carried(store: Store, manifest: Manifest, kind: str) -> set[str]:
    """Return the modules whose bytecode the layers of a kind hold."""
    found = set()
    for ref in manifest.layers:
        if ref.kind == kind:
            store.materialise(manifest)
            entries = parse_listing((store.folder / "layers" / f"{ref.digest}.json").read_bytes()).entries
            compiled = (entry.path.rpartition("/")[2] for entry in entries if entry.path.endswith(".pyc"))
            found |= {name.partition(".")[0] for name in compiled}
    return found


def test_bytecode_of_a_large_distribution_is_a_layer_of_what_is_used(
    large: Prefix, store: Store, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text("import large.m7, small\n")
    manifest = pack(script, python=large.python, store=store)
    assert [(ref.name, ref.kind) for ref in manifest.layers if ref.name == "large"].count(("large", "bytecode")) == 1
    assert carried(store, manifest, "bytecode") == {"__init__", "m7", "m8", "m9", *(f"m{n}" for n in range(95, 100))}
    assert carried(store, manifest, "wheel") == {"small", "small_other"}


def test_two_programs_share_the_sources_and_each_has_its_bytecode(large: Prefix, store: Store, tmp_path: Path) -> None:
    layers = []
    for module in ("m5", "m25"):
        (tmp_path / f"{module}.py").write_text(f"import large.{module}\n")
        layers.append(
            {ref.kind: ref.digest for ref in pack(tmp_path / f"{module}.py", python=large.python, store=store).layers}
        )
    assert layers[0]["wheel"] == layers[1]["wheel"]
    assert layers[0]["bytecode"] != layers[1]["bytecode"]


def test_an_edit_that_imports_nothing_new_builds_the_local_layer_alone(
    large: Prefix, store: Store, tmp_path: Path
) -> None:
    script, helper = tmp_path / "script.py", tmp_path / "helper.py"
    script.write_text("import large.m5, helper\n")

    def built(text: str) -> list[str]:
        helper.write_text(text)
        events: list[LayerEvent] = []
        pack(script, python=large.python, store=store, progress=events.append)
        return sorted(f"{event.ref.name} {event.ref.kind}" for event in events if event.built)

    assert built("x = 1\n") == ["large bytecode", "large wheel", "local local"]
    assert built("y = 2\nprint(y.real)\n") == ["local local"]
    assert built("import large.m15\n") == ["large bytecode", "local local"]


def test_an_edited_module_is_followed_anew(large: Prefix, store: Store, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import large.m99\n")
    pack(script, python=large.python, store=store)
    (large.site / "large" / "m99.py").write_text("import large.m49\n")
    assert carried(store, pack(script, python=large.python, store=store), "bytecode") == {"__init__", "m99", "m49"}


WARM = """
import json, sys
cold = []
sys.addaudithook(lambda event, values: cold.append(str(values[1])) if event == "compile" else None)
import numpy, scipy.optimize, scipy.stats, numpy.random
at_import = [name for name in cold if "site-packages" in name]
numpy.random.default_rng(0).normal(size=3)
print(json.dumps(at_import))
"""


@pytest.mark.slow
def test_importing_real_packages_compiles_nothing(store: Store, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(WARM)
    manifest = pack(script, store=store)
    kinds = {(ref.name, ref.kind) for ref in manifest.layers}
    assert {("numpy", "bytecode"), ("scipy", "bytecode")} <= kinds
    sources = sum(ref.files for ref in manifest.layers if ref.kind == "wheel")
    assert sum(ref.files for ref in manifest.layers if ref.kind == "bytecode") < sources / 2
    python = store.materialise(manifest) / "bin" / "python"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    answer = subprocess.run([python, "-B", script], capture_output=True, text=True, check=True, env=environ, timeout=60)
    assert json.loads(answer.stdout) == []
