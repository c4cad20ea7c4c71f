"""Claim: packing and unpacking a gigabyte takes less than 200 MB of memory.

One distribution of a gigabyte in files from 1 kB to 256 MB, half of it text and half noise, is packed into a store and
a file, unpacked from the file, and taken in by a second store. The same with a package of conda that is one file of a
gigabyte, into which the path of the environment is written in thousands of places, and again after a move. Each is
a process of its own; its largest resident set is what the kernel kept.

    python benchmarks/packing/memory.py [--quick] [--json]
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from rounds import make_environment, options, site_packages
from rounds import work as work_folder

from envpack.pack.layer.placeholders import filled

PLACEHOLDER = b"/builds/" + b"placehold_" * 24 + b"placeho"
SIZES = [(1_000, 2_000), (100_000, 500), (10_000_000, 20), (256_000_000, 3)]
BAR_BYTES = 200e6


def write_content(file: Path, size: int, chance: random.Random) -> int:
    """Write half noise, half text, a little at a time: a child begins with the resident set of its parent."""
    text = b"one line of a table, and another one\n" * 100
    written = 0
    with file.open("wb") as stream:
        while written < size:
            piece = chance.randbytes(min(len(text), size - written)) + text
            written += stream.write(piece[: size - written])
    return written


def make_distribution(site: Path, share: float) -> int:
    """Install a large distribution; return its bytes."""
    chance = random.Random(0)
    folder = site / "large"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    rows = ["large/__init__.py,,"]
    total = 0
    for size, count in SIZES:
        for number in range(max(1, int(count * share))):
            total += write_content(folder / f"{size}-{number}.bin", size, chance)
            rows.append(f"large/{size}-{number}.bin,,")
    metadata = site / "large-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: large\nVersion: 1.0\n")
    (metadata / "RECORD").write_text("\n".join([*rows, "large-1.0.dist-info/METADATA,,", ""]))
    return total


def make_conda_package(prefix: Path, site: Path, size: int) -> int:
    """Install a package of conda with one large file that holds the path of its environment; return its bytes."""
    chance = random.Random(1)
    file = prefix / "lib" / "placed.bin"
    digest = hashlib.sha256()
    written = 0
    with file.open("wb") as stream:
        while written < size:
            piece = (
                chance.randbytes(50_000)
                + b"\0"
                + PLACEHOLDER
                + b"/share:"
                + PLACEHOLDER
                + b"/lib\0after\0"
                + bytes(9_000)
            )
            digest.update(piece)
            written += stream.write(filled(piece, "binary", PLACEHOLDER, os.fsencode(prefix)))
    (site / "placed.py").write_text("")
    metadata = site / "placed-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: placed\nVersion: 1.0\n")
    (metadata / "INSTALLER").write_text("conda\n")
    below = str(site.relative_to(prefix))
    files = [f"{below}/placed.py", f"{below}/placed-1.0.dist-info/METADATA", f"{below}/placed-1.0.dist-info/INSTALLER"]
    known = {"path_type": "hardlink", "sha256": digest.hexdigest(), "file_mode": "binary"}
    paths = [{"_path": path, "path_type": "hardlink"} for path in files]
    paths.append({"_path": "lib/placed.bin", **known, "prefix_placeholder": PLACEHOLDER.decode()})
    record = {"name": "placed", "version": "1.0", "build": "0", "build_number": 0, "depends": []}
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta" / "placed-1.0-0.json").write_text(
        json.dumps({**record, "files": [*files, "lib/placed.bin"], "paths_data": {"paths": paths}})
    )
    return written


def measured(work: Path, python: str, module: str) -> dict[str, int]:
    """Pack what a module needs, unpack it, and run it; return the peak of each."""
    script, pack, target, store = work / f"with_{module}.py", work / "x.tar.zst", work / "target", work / "store"
    script.write_text(f"import {module}\n")
    envpack = [sys.executable, "-m", "envpack"]
    figures = {
        "pack": peak([*envpack, "pack", str(script), "--python", python, "-o", str(pack)], store),
        "unpack": peak([*envpack, "unpack", str(pack), str(target)], store),
        "run from a fresh store": peak(
            [*envpack, "run", str(pack), "--", "python", "-c", f"import {module}"], work / "other"
        ),
    }
    if (target / "bin" / "envpack-relocate").exists():
        target = target.rename(work / "moved")
        figures["envpack-relocate"] = peak([str(target / "bin" / "envpack-relocate")], store)
    subprocess.run(["chmod", "-R", "u+w", store, work / "other", target], check=True)
    for folder in (store, work / "other", target):
        shutil.rmtree(folder)
    return figures


def peak(command: list[str], store: Path) -> int:
    """Run a command and return the largest resident set of it, in bytes."""
    child = subprocess.Popen(command, env={**os.environ, "ENVPACK_STORE": str(store)}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"exit code {child.returncode}: {command}")
    return usage.ru_maxrss * 1024


def main() -> None:
    chosen = options(__doc__ or "", 1)
    with work_folder() as work:
        python = make_environment(work / "environment", ["wheel"])
        total = make_distribution(site_packages(python), 0.1 if chosen.quick else 1.0)
        figures = measured(work, python, "large")
        placed = make_conda_package(work / "environment", site_packages(python), 100_000_000 if chosen.quick else 10**9)
        conda = measured(work, python, "placed")
    if chosen.json:
        print(json.dumps({"bytes": [total, placed], "peak_bytes": figures, "conda_peak_bytes": conda}))
        return
    print(f"bar {BAR_BYTES / 1e6:.0f} MB")
    for title, peaks in (
        (f"a distribution of {total / 1e6:,.0f} MB", figures),
        (f"a package of conda with one file of {placed / 1e6:,.0f} MB", conda),
    ):
        print(title)
        for name, value in peaks.items():
            print(f"  {name:<24} {value / 1e6:>6.0f} MB")


if __name__ == "__main__":
    main()
