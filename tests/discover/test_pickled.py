"""Files of pickled objects: the modules that they name, read without loading anything."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import sys
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import yaml

from envpack import analyze
from envpack.discover.loads.picklefile import MAX_BYTES, pickled_modules
from tests.discover.conftest import Project, roles

NODE = yaml.ScalarNode("tag", "value")
OBJECTS = {"numbers": np.arange(3.0), "node": NODE, "date": datetime(2020, 1, 1), "all": {1, (2, "x")}}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_modules_of_every_protocol_are_found(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(OBJECTS, protocol))
    found = pickled_modules(str(path))
    assert found.problem == ""
    assert {"yaml.nodes", "datetime"} <= set(found.modules)
    assert any(module.startswith("numpy") for module in found.modules)


def _zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", b"\0" * 100)
    return buffer.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
    "zlib": zlib.compress,
    "zip": _zipped,
    "two pickles": lambda content: pickle.dumps(1) + content,
}


@pytest.mark.parametrize("packing", PACKED)
def test_compressed_files_and_archives_are_opened(tmp_path: Path, packing: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(PACKED[packing](pickle.dumps(NODE)))
    found = pickled_modules(str(path))
    assert found.problem == ""
    assert "yaml.nodes" in found.modules


class _Wrapper:
    """Stands for the object that joblib writes before the content of an array."""


_Wrapper.__module__, _Wrapper.__qualname__ = "joblib.numpy_pickle", "NumpyArrayWrapper"


class _JoblibPickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes arrays as joblib does: a description, padding, and the raw content behind it."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, protocol=4)
        self._raw = file

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if type(obj) is not np.ndarray:
            super().save(obj, save_persistent_id)
            return
        self.write(pickle.GLOBAL + b"joblib.numpy_pickle\nNumpyArrayWrapper\n" + pickle.EMPTY_TUPLE + pickle.NEWOBJ)
        super().save({"shape": obj.shape, "dtype": obj.dtype, "allow_mmap": True, "numpy_array_alignment_bytes": 16})
        self.write(pickle.BUILD)
        self.framer.commit_frame(force=True)
        if obj.dtype.hasobject:
            pickle.dump(obj, self._raw)
        else:
            self._raw.write(b"\x05" + b"\xff" * 5 + obj.tobytes())


ARRAYS = {
    "numbers": np.arange(1000.0),
    "text": np.array(["ab", "c"]),
    "record": np.zeros(3, dtype=[("a", "f4"), ("b", "i8")]),
    "times": np.array(["2020-01-01"], dtype="M8[s]"),
    "truths": np.array([True, False]),
    "empty": np.zeros((0, 3)),
    "scalar": np.array(1.0),
    "objects": np.array([NODE, 1], dtype=object),
    "record of objects": np.zeros(1, dtype=[("a", "O")]),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_raw_arrays_between_the_opcodes_are_skipped(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.joblib"
    with open(path, "wb") as file:
        _JoblibPickler(file).dump([ARRAYS[kind], OrderedDict(), ARRAYS["numbers"], NODE])
    found = pickled_modules(str(path))
    assert found.problem == ""
    assert {"joblib.numpy_pickle", "collections", "yaml.nodes"} <= set(found.modules)


def test_object_arrays_of_numpy_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([NODE], dtype=object))
    np.savez(tmp_path / "a.npz", a=np.array([NODE], dtype=object), b=np.zeros(3))
    np.save(tmp_path / "b.npy", np.zeros(3))
    assert "yaml.nodes" in pickled_modules(str(tmp_path / "a.npy")).modules
    assert "yaml.nodes" in pickled_modules(str(tmp_path / "a.npz")).modules
    assert pickled_modules(str(tmp_path / "b.npy")).modules == ()


def test_modules_that_a_function_by_value_holds_are_found(tmp_path: Path) -> None:
    path = tmp_path / "f.pkl"
    module = yaml

    def function() -> Any:
        return module

    path.write_bytes(cloudpickle.dumps(function))
    assert "yaml" in pickled_modules(str(path)).modules


class _Trap:
    def __reduce__(self) -> Any:
        return print, ("executed",)


def test_nothing_in_a_file_is_called_or_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(_Trap()) + b"cthis\nname\n(tR.")
    assert pickled_modules(str(path)).problem == ""
    assert "this" not in sys.modules
    assert capsys.readouterr().out == ""


BROKEN = {
    "truncated": pickle.dumps(OBJECTS)[:-40],
    "text": b"hello, world\n",
    "lz4": b"\x04\x22\x4d\x18rest",
    "broken gzip": gzip.compress(pickle.dumps(OBJECTS))[:-20],
    "too many opcodes": pickle.dumps(list(range(600_000))),
    "unknown opcode": b"\x80\x04\xff",
    "deep": b"(" * 200 + b"." + b"]" * 10,
    "zip of nothing": b"PK\x03\x04",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_followed_says_why(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(BROKEN[kind])
    assert pickled_modules(str(path)).problem


def test_modules_before_a_break_still_count(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps([NODE, "x" * 100])[:-50])
    found = pickled_modules(str(path))
    assert found.problem
    assert "yaml.nodes" in found.modules


def test_size_is_bounded_however_well_it_compresses(tmp_path: Path) -> None:
    for name, packed in (("a.gz", gzip.compress), ("a.zlib", zlib.compress)):
        (tmp_path / name).write_bytes(packed(b"\0" * (MAX_BYTES + 2)))
        assert "larger than" in pickled_modules(str(tmp_path / name)).problem


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\nm = pickle.load(open('m.pkl', 'rb'))",
        "import pickle\ndef f():\n    with open('m.pkl', 'rb') as file:\n        return pickle.load(file)\nf()",
        "import pickle\nfrom pathlib import Path\nm = pickle.loads(Path(__file__).with_name('m.pkl').read_bytes())",
        "import pickle\nfrom pathlib import Path\nm = pickle.load((Path(__file__).parent / 'm.pkl').open('rb'))",
        "import pickle, os\nHERE = os.path.dirname(__file__)\nf = open(f'{HERE}/m.pkl', 'rb')\nm = pickle.load(f)",
        "import pickle\ndef load(path): return pickle.load(open(path, 'rb'))\nload('m.pkl')",
        "import pickle\nm = pickle.Unpickler(open('m.pkl', 'rb')).load()",
        "import joblib\nm = joblib.load('m.pkl')",
        "import pandas as pd\nm = pd.read_pickle('m.pkl')",
        "import torch\nm = torch.load('m.pkl')",
        "import numpy as np\nm = np.load('m.pkl', allow_pickle=True)",
    ],
)
def test_modules_of_a_loaded_file_are_needed_where_it_is_loaded(project: Project, source: str) -> None:
    script = project({"main.py": source})
    (script.parent / "m.pkl").write_bytes(pickle.dumps(NODE))
    found = analyze(script, exclude=["joblib", "pandas", "torch"])
    (item,) = [one for one in found.distributions if one.name == "pyyaml"]
    assert item.role == "direct"
    assert item.evidence[0].module == "yaml.nodes"
    assert item.evidence[0].kind == "dynamic"
    assert found.unresolved == ()


def test_file_that_cannot_be_read_is_said(project: Project) -> None:
    script = project({"main.py": "import pickle, sys\n\npickle.load(open('m.pkl'))\npickle.load(open(sys.argv[1]))"})
    found = analyze(script).unresolved
    assert [(item.line, item.kind) for item in found] == [(3, "dynamic"), (4, "dynamic")]
    (script.parent / "m.pkl").write_bytes(b"broken")
    found = analyze(script).unresolved
    assert [(item.line, item.kind) for item in found] == [(3, "source"), (4, "dynamic")]
    assert all("--include" in item.hint for item in found)


def test_module_of_an_object_that_is_not_installed_is_missing(project: Project) -> None:
    script = project({"main.py": "import pickle\npickle.load(open('m.pkl', 'rb'))"})
    (script.parent / "m.pkl").write_bytes(b"cnowhere.model\nModel\n(tR.")
    found = analyze(script)
    assert [(item.module, item.line, item.kind) for item in found.unresolved] == [("nowhere.model", 2, "missing")]


def test_file_that_may_be_absent_makes_its_modules_optional(project: Project) -> None:
    source = "import pickle\ntry: m = pickle.load(open('m.pkl', 'rb'))\nexcept OSError: m = None"
    script = project({"main.py": source})
    assert analyze(script).unresolved == ()
    (script.parent / "m.pkl").write_bytes(pickle.dumps(NODE))
    assert roles(analyze(script)) == {"pyyaml": "optional"}
