"""The same inputs give the same bytes: layers, manifest and the file of a pack, whatever is different around them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pack.conftest import Prefix

# What a machine may do differently inside of the packing process: the number of its processors, and the order in which
# its file system lists a folder.
PROGRAM = """
import os, sys

threads, order, *words = sys.argv[1:]
os.cpu_count = lambda: int(threads)
listdir, scandir = os.listdir, os.scandir


class Reversed:
    def __init__(self, items):
        self._items = iter(sorted(items, key=lambda item: item.name, reverse=True))
    def __iter__(self):
        return self._items
    def __next__(self):
        return next(self._items)
    def __enter__(self):
        return self
    def __exit__(self, *exc):
        pass
    close = __exit__


if order == "reversed":
    os.listdir = lambda *where: sorted(listdir(*where), reverse=True)
    os.scandir = lambda *where: Reversed(scandir(*where))
from envpack.commands.main import main
sys.exit(main(words))
"""

MODULES = {
    "__init__": "from alpha import one, sets\n",
    "one": "import os\n\n\ndef value():\n    return os.sep, {1, 2}\n",
    "sets": "KNOWN = 3 in {1, 2, 3}, 'b' in {'a', 'b', 'c'}, '{', '*'\n",
}


def environment(folder: Path, when_s: int, *, compiled: bool) -> Path:
    """Install in a folder what distributions consist of, and write a project that needs all of it."""
    folder.mkdir()
    prefix = Prefix(folder / "venv")
    # What installers write where the path has a space in it, and where not.
    by_shell = f"#!/bin/sh\n'''exec' \"{prefix.python}\" \"$0\" \"$@\"\n' '''\n"
    start = by_shell if " " in prefix.python else f"#!{prefix.python}\n"
    tool = f"{start}import alpha\n\nprint(alpha.one.value())\n"
    alpha: dict[str, str | bytes] = {f"alpha/{name}.py": text for name, text in MODULES.items()}
    alpha |= {
        "alpha/data/ä.txt": "data",
        "alpha.libs/liba-1234.so": bytes(range(256)) * 40,
        "../../../share/alpha/table.csv": "1,2\n",
        "../../../bin/alpha": tool,
        "alpha-1.0.dist-info/REQUESTED": "",
        "alpha-1.0.dist-info/direct_url.json": json.dumps({"url": f"file://{folder}/alpha.whl", "archive_info": {}}),
        "alpha-1.0.dist-info/uv_cache.json": json.dumps({"timestamp": when_s}),
    }
    # The same files, written in another order.
    prefix.install("alpha", "1.0", dict(sorted(alpha.items(), reverse=compiled)), compiled=compiled)
    source = folder / "source" / "src" / "mine"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text("import alpha\n")
    (source / "table.json").write_text("{}")
    url = json.dumps({"url": f"file://{folder}/source", "dir_info": {"editable": True}})
    prefix.install("mine", "2.0", {"_mine.pth": f"{source.parent}\n", "mine-2.0.dist-info/direct_url.json": url})
    project = folder / "project"
    (project / "helpers").mkdir(parents=True)
    (project / "helpers" / "__init__.py").write_text("from helpers import more\n")
    (project / "helpers" / "more.py").write_text("import mine\n")
    (project / "script.py").write_text("import alpha, helpers\n")
    for place, _, names in os.walk(folder):
        for name in names:
            os.utime(os.path.join(place, name), (when_s, when_s), follow_symlinks=False)
    return folder


def packed(folder: Path, work: Path, *, threads: int = 1, order: str = "", umask: int = 0o22, **environ: str) -> bytes:
    """Pack in a process of its own and return the file, after a look at what else was made."""
    work.mkdir()
    words = ["pack", folder / "project" / "script.py", "--python", folder / "venv/bin/python", "-o", work / "x.tar.zst"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(threads), order, *words],
        capture_output=True,
        text=True,
        timeout=100,
        umask=umask,
        env={**os.environ, "ENVPACK_STORE": str(work / "store"), "ENVPACK_INDEX_CACHE": str(work / "index"), **environ},
    )
    assert done.returncode == 0, done.stderr
    data = (work / "x.tar.zst").read_bytes()
    blobs = {file.name: file.read_bytes() for file in (work / "store" / "blobs").iterdir()}
    assert len(blobs) == 3, "alpha, mine and the local files"
    assert all(blob in data for blob in blobs.values())
    (manifest,) = (work / "store" / "manifests").iterdir()
    assert manifest.read_bytes() in data
    return data


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("first") / "here", 1_600_000_000, compiled=False)


@pytest.fixture(scope="module")
def expected(first: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return packed(first, tmp_path_factory.mktemp("expected") / "work", PYTHONHASHSEED="1", TZ="UTC")


@pytest.mark.parametrize(
    "otherwise",
    [
        lambda folder, work: packed(folder, work, threads=4, PYTHONHASHSEED="4711"),
        lambda folder, work: packed(folder, work, umask=0o77, TZ="Asia/Kathmandu", LC_ALL="C"),
        lambda folder, work: packed(folder, work, order="reversed"),
    ],
    ids=["four threads and another hash seed", "umask, time zone and locale", "order of folders"],
)
def test_a_pack_is_the_same_whatever_the_process_is_like(
    otherwise: Callable[[Path, Path], bytes], first: Path, expected: bytes, tmp_path: Path
) -> None:
    assert otherwise(first, tmp_path / "work") == expected


def test_a_pack_is_the_same_from_another_folder_at_another_time(expected: bytes, tmp_path: Path) -> None:
    second = environment(tmp_path / ("another place " * 5).strip(), 1_700_000_000, compiled=True)
    assert packed(second, tmp_path / "once", threads=4, order="reversed", PYTHONHASHSEED="2", umask=0o2) == expected
    for file in second.rglob("*.py"):
        os.utime(file, (1_500_000_000, 1_500_000_000))
    assert packed(second, tmp_path / "twice") == expected, "bytecode that does not count any more is made anew"


def test_nothing_of_the_machine_is_in_a_pack(first: Path, expected: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tar.zst").write_bytes(expected)
    done = subprocess.run(
        [sys.executable, "-m", "envpack", "unpack", tmp_path / "x.tar.zst", tmp_path / "made"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    files = [file for file in (tmp_path / "made").rglob("*") if file.is_file() and not file.is_symlink()]
    assert any(file.name == "liba-1234.so" for file in files)
    assert any(file.name == "ä.txt" for file in files)
    assert any(file.name == "table.csv" for file in files)
    assert not [file for file in files if os.fsencode(first) in file.read_bytes()]
    assert not [file for file in files if file.name in ("direct_url.json", "uv_cache.json", "REQUESTED", "INSTALLER")]
