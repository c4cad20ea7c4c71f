"""Claim: packing and unpacking a gigabyte takes less than 200 MB of memory.

One distribution of a gigabyte in files from 1 kB to 256 MB, half of it text and half noise, is packed into a store and
a file, unpacked from the file, and taken in by a second store. Each is a process of its own; its largest resident set
is what the kernel kept.

    python benchmarks/packing/memory.py [--quick] [--json]
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from rounds import make_environment, options, site_packages
from rounds import work as work_folder

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
        (work / "script.py").write_text("import large\n")
        pack, target = str(work / "script.tar.zst"), str(work / "target")
        envpack = [sys.executable, "-m", "envpack"]
        words = [*envpack, "pack", str(work / "script.py"), "--python", python, "-o", pack]
        run = [*envpack, "run", pack, "--", "python", "-c", "import large"]
        figures = {
            "pack": peak(words, work / "store"),
            "unpack": peak([*envpack, "unpack", pack, target], work / "store"),
            "run from a fresh store": peak(run, work / "other"),
        }
    if chosen.json:
        print(json.dumps({"bytes": total, "peak_bytes": figures}))
        return
    print(f"a distribution of {total / 1e6:,.0f} MB; bar {BAR_BYTES / 1e6:.0f} MB")
    for name, value in figures.items():
        print(f"  {name:<24} {value / 1e6:>6.0f} MB")


if __name__ == "__main__":
    main()
