"""Claim: unpacking costs little more than decoding, hashing and making the files, whatever language did that.

A pack of NumPy and SciPy is unpacked into an empty folder, in this process and with one thread. The raw loops do the
least that anybody could: zstd-decode all layers into memory and write each file with open, write and close, its path
known beforehand; the same with the sha256 of each file, without which nobody knows what was unpacked; and the writing
alone, of bytes that were decoded before. tar is the program, reading the same file, which checks nothing. At the end
the ratios that have bars: 1.35 for the CPU of decoding and writing, 1.2 for the wall time of writing.

    python benchmarks/packing/unpack.py [--python ENVIRONMENT/bin/python] [--rounds 9] [--quick] [--json]
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import zstandard
from rounds import SCRIPT, Subject, make_environment, options, process, show, take_turns
from rounds import work as work_folder

from envpack.pack import pack, unpack
from envpack.pack.formats.opening import open_environment
from envpack.pack.layer.entries import Entry
from envpack.pack.layer.reader import LayerReader
from envpack.pack.layer.tarformat import member_header, padding

Layer = tuple[bytes, list[tuple[Entry, int]]]


def read_layers(file: Path) -> list[Layer]:
    """Return each layer file with its entries and where their content begins in its decoded bytes."""
    found: list[Layer] = []
    with ExitStack() as stack:
        for ref, chunks in open_environment(stack, file).layer_files():
            data = b"".join(chunks)
            reader = LayerReader(io.BytesIO(data), ref.digest, str(file), ref)
            # Behind the list of entries, which is a member of its own.
            position = 512 + len(reader.listing) + len(padding(len(reader.listing)))
            places = []
            for entry in reader.entries:
                position += len(member_header(entry))
                places.append((entry, position))
                position += entry.size + len(padding(entry.size))
            found.append((data, places))
    return found


def decoded(layers: list[Layer]) -> Iterator[Layer]:
    for data, places in layers:
        decoder = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True)
        yield decoder.readall(), places


def raw(layers: Iterable[Layer], folder: Path, hashed: bool) -> None:
    """Write decoded bytes, and nothing else that could be left out."""
    made: set[str] = set()
    for data, places in layers:
        view = memoryview(data)
        for entry, position in places:
            path = f"{folder}/{entry.path}"
            parent = path.rpartition("/")[0]
            if parent not in made:
                os.makedirs(parent, exist_ok=True)
                made.add(parent)
            content = view[position : position + entry.size]
            if hashed and hashlib.sha256(content).hexdigest() != entry.sha256:
                raise RuntimeError(f"{entry.path}: not the content of the pack")
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(descriptor, content)
            os.close(descriptor)


class Clock:
    """Measures CPU seconds, and keeps the wall time of each run beside them."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self.wall_s: list[float] = []

    def __call__(self) -> float:
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        self._work()
        self.wall_s.append(time.perf_counter() - wall_s)
        return time.process_time() - cpu_s


def spread(ours: list[float], others: list[float]) -> str:
    ratios = [mine / theirs for mine, theirs in zip(ours, others, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    chosen = options(__doc__ or "", 9)
    with work_folder() as work:
        (work / "script.py").write_text(SCRIPT)
        file, target = work / "script.tar.zst", work / "target"
        python = chosen.python or make_environment(work / "environment")
        pack(work / "script.py", python=python, store=work / "store", output=file)
        layers = read_layers(file)

        def forget() -> None:
            shutil.rmtree(target, ignore_errors=True)

        def tar() -> float:
            target.mkdir()
            return process(["tar", "--zstd", "-C", target, "-xf", file])

        ready = list(decoded(layers))
        clocks = [
            Clock(lambda: unpack(file, target, python=python)),
            Clock(lambda: raw(decoded(layers), target, hashed=False)),
            Clock(lambda: raw(decoded(layers), target, hashed=True)),
            Clock(lambda: raw(ready, target, hashed=False)),
        ]
        names = ("envpack, unpack", "raw: decode, write", "raw: decode, hash, write", "raw: write")
        subjects = [Subject(name, clock, forget) for name, clock in zip(names, clocks, strict=True)]
        subjects.append(Subject("tar --zstd -x", tar, forget))
        files = sum(len(places) for _, places in layers)
        size = sum(entry.size for _, places in layers for entry, _ in places)
        take_turns(subjects, chosen.rounds)
        show(f"unpack {files:,} files, {size / 1e6:.0f} MB, one thread", subjects, chosen.json)
        if not chosen.json:
            print(f"\nCPU, to raw decode and write (bar 1.35): {spread(subjects[0].cpu_s, subjects[1].cpu_s)}")
            print(f"CPU, to raw decode, hash and write:      {spread(subjects[0].cpu_s, subjects[2].cpu_s)}")
            print(f"wall, to raw write (bar 1.2):            {spread(clocks[0].wall_s, clocks[3].wall_s)}")


if __name__ == "__main__":
    main()
