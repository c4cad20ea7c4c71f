"""Claim: an environment of conda costs about the CPU of conda-pack, with its bytecode and with every file verified.

The environment is made by py-rattler from packages that the tests build: Python itself, a C library with a placeholder,
NumPy, and a tool on top. Packed is all of it, by envpack from a script that imports the tool and NumPy, with a store
that knows nothing; by conda-pack as it does by default, and with zstd. Unpacked is what each made: by `envpack unpack`,
and by tar and `conda-unpack`, which both write the new path into the files. What envpack makes has the bytecode of all
modules, so twice as many files; what conda-pack makes has none where, as here, the packages bring none.

    python benchmarks/packing/conda_prefix.py [--rounds 5] [--quick] [--json]

Needs what the tests need (pytest, py-rattler), and a C compiler.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from rounds import PEERS, Subject, make_environment, options, process, show, take_turns
from rounds import work as work_folder

SCRIPT = "import numpy\nimport tool\n\nprint(numpy.arange(3).sum())\ntool.main()\n"


def make_prefix(work: Path) -> Path:
    """Make packages and an environment of them."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.conda import Channel, numpy_package, python_package, where_packages

    sources = work / "sources"
    sources.mkdir()
    channel = Channel(work / "channel").add([python_package(), *where_packages(sources), numpy_package()])
    prefix = channel.install(work / "prefix")
    # As packages of conda bring it, and those of the tests do not.
    subprocess.run([prefix / "bin" / "python", "-m", "compileall", "-q", prefix / "lib"], check=False)
    return prefix


def remove(*places: Path) -> None:
    for place in places:
        subprocess.run(["chmod", "-R", "u+w", place], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(place, ignore_errors=True)
        place.unlink(missing_ok=True)


def packers(work: Path, prefix: Path, tools: Path) -> list[Subject]:
    (work / "script.py").write_text(SCRIPT)
    files = [work / name for name in ("ours.tar.zst", "theirs.tar.gz", "theirs.tar.zst")]
    store = work / "store"
    own = {"ENVPACK_STORE": str(store), "ENVPACK_INDEX_CACHE": str(work / "index")}
    ours = [
        sys.executable,
        "-m",
        "envpack",
        "pack",
        work / "script.py",
        "--python",
        prefix / "bin/python",
        "-o",
        files[0],
    ]
    theirs = [[tools / "conda-pack", "-q", "-p", prefix, "-o", file] for file in files[1:]]
    return [
        Subject(
            "envpack pack",
            lambda: process(ours, **own),
            lambda: remove(files[0], store),
            lambda: files[0].stat().st_size,
        ),
        Subject(
            "conda-pack, .tar.gz",
            lambda: process(theirs[0]),
            lambda: remove(files[1]),
            lambda: files[1].stat().st_size,
        ),
        Subject(
            "conda-pack, .tar.zst",
            lambda: process(theirs[1]),
            lambda: remove(files[2]),
            lambda: files[2].stat().st_size,
        ),
    ]


def unpackers(work: Path) -> list[Subject]:
    target = work / "unpacked"
    ours = [sys.executable, "-m", "envpack", "unpack", work / "ours.tar.zst", target]
    by_tar = 'mkdir "$2" && tar -C "$2" -xf "$1" && "$2/bin/python" "$2/bin/conda-unpack"'

    def theirs(name: str) -> float:
        return process(["sh", "-c", by_tar, "sh", work / name, target])

    return [
        Subject("envpack unpack", lambda: process(ours), lambda: remove(target)),
        Subject("tar, conda-unpack, .tar.gz", lambda: theirs("theirs.tar.gz"), lambda: remove(target)),
        Subject("tar, conda-unpack, .tar.zst", lambda: theirs("theirs.tar.zst"), lambda: remove(target)),
    ]


def main() -> None:
    chosen = options(__doc__ or "", 5)
    with work_folder() as work:
        prefix = make_prefix(work)
        tools = Path(make_environment(work / "peers", ["-r", str(PEERS)])).parent
        pack = packers(work, prefix, tools)
        take_turns(pack, chosen.rounds)
        show("pack an environment of conda, cold", pack, chosen.json)
        unpack = unpackers(work)
        take_turns(unpack, chosen.rounds)
        show("\nunpack it, and write its path" if not chosen.json else "unpack", unpack, chosen.json)
        remove(work / "unpacked")


if __name__ == "__main__":
    main()
