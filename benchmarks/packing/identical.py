"""Claim: the same inputs give the same bytes, from another folder, at another time, with any number of threads.

Two environments with NumPy, SciPy, an editable project and one that was built from its folder are installed by pip in
two folders. A script with a local package is packed from each: with 1 and with 4 threads, under another hash seed, time
zone, locale and umask, and once more when the bytecode of the environment is gone. Compared are the files byte by byte.

    python benchmarks/packing/identical.py [--quick] [--json]
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from rounds import PINNED, SCRIPT, make_environment, options
from rounds import work as work_folder

# Threads are as many as there are processors.
PROGRAM = """
import os, sys

os.cpu_count = lambda: int(sys.argv[1])
from envpack.commands.main import main
sys.exit(main(sys.argv[2:]))
"""

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "NAME"
version = "1.0"
scripts = { NAME-tool = "NAME:main" }

[tool.hatch.build.targets.wheel]
packages = ["NAME"]
shared-data = { "table.csv" = "share/NAME/table.csv" }
"""


def make_project(folder: Path, name: str) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT.replace("NAME", name))
    (folder / "table.csv").write_text("1,2\n")
    (folder / name / "__init__.py").write_text("def main():\n    print({1, 2, 3} & {3})\n")
    return folder


def make_all(folder: Path, quick: bool) -> tuple[str, Path]:
    """Install everything below a folder; return the interpreter and the script."""
    edited, built = make_project(folder / "edited", "edited"), make_project(folder / "built", "built")
    python = make_environment(folder / "environment", ["-e", str(edited), str(built), *(() if quick else PINNED)])
    (folder / "helpers").mkdir()
    (folder / "helpers" / "__init__.py").write_text("import built, edited\n")
    (folder / "script.py").write_text("import helpers\n" + ("" if quick else SCRIPT))
    return python, folder / "script.py"


def digest(python: str, script: Path, work: Path, threads: int, umask: int, **environ: str) -> str:
    """Pack in a process and with a store of its own, and return the sha256 of the file."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    pack = work / "x.tar.zst"
    words = ["pack", script, "--python", python, "-o", pack]
    own = {"ENVPACK_STORE": str(work / "store"), "ENVPACK_INDEX_CACHE": str(work / "index")}
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(threads), *words],
        check=True,
        stdout=subprocess.DEVNULL,
        umask=umask,
        env={**os.environ, **own, **environ},
    )
    return hashlib.sha256(pack.read_bytes()).hexdigest()


def forget_bytecode(environment: Path) -> None:
    for folder in list(environment.rglob("__pycache__")):
        shutil.rmtree(folder)


def main() -> None:
    chosen = options(__doc__ or "", 1)
    met: dict[str, str] = {}
    with work_folder() as work:
        here, there = work / "here", work / "another place"
        python, script = make_all(here, chosen.quick)
        met["1 thread"] = digest(python, script, work / "made", 1, 0o22)
        met["4 threads"] = digest(python, script, work / "made", 4, 0o22)
        elsewhere = {"PYTHONHASHSEED": "4711", "TZ": "Asia/Kathmandu", "LC_ALL": "C"}
        met["hash seed, time zone, locale, umask"] = digest(python, script, work / "made", 4, 0o77, **elsewhere)
        python, script = make_all(there, chosen.quick)
        met["another folder, 1 thread"] = digest(python, script, work / "made", 1, 0o22)
        met["another folder, 4 threads"] = digest(python, script, work / "made", 4, 0o22)
        forget_bytecode(there)
        met["another folder, no bytecode there"] = digest(python, script, work / "made", 4, 0o22)
    if chosen.json:
        print(json.dumps({"sha256": met, "identical": len(set(met.values())) == 1}))
    else:
        print("identical" if len(set(met.values())) == 1 else "not identical")
        for name, value in met.items():
            print(f"  {name:<40} {value[:16]}")
    if len(set(met.values())) != 1:
        sys.exit(1)


if __name__ == "__main__":
    main()
